package csvsource

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/csvtext"
	"github.com/leatgo/leat/internal/filesource/filetest"
	"github.com/leatgo/leat/internal/transcode"
	"github.com/leatgo/leat/source/drift"
)

// loose is a row of whatever columns a file has.
type loose struct {
	All map[string]string `leat:"all,extra"`
}

// A table of the files of csv-spectrum, and what each gives: in all of them, the rows that it says.
// (github.com/maxogden/csv-spectrum, commit b251546, BSD-2-Clause.)
func TestSpectrum(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("testdata/csv-spectrum/*.csv")
	require.NoError(t, err)
	require.Len(t, paths, 11)
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".csv")
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		js, err := os.ReadFile(strings.TrimSuffix(path, ".csv") + ".json")
		require.NoError(t, err)
		var want []map[string]string
		require.NoError(t, json.Unmarshal(js, &want))
		detected, err := Detect(bytes.NewReader(text))
		require.NoError(t, err)
		for how, c := range map[string]Config[loose]{"strict": {}, "lenient": {Lenient: true}, "detected": Config[loose]{}.With(detected)} {
			rows, rejects, _ := decodeText(t, c, string(text))
			require.Empty(t, rejects, name)
			var got []map[string]string
			for _, r := range rows {
				got = append(got, r.All)
			}
			require.Equal(t, want, got, "%s, %s", name, how)
			t.Logf("%-20s %-8s %d rows as csv-spectrum has them", name, how, len(rows))
		}
	}
}

// verdict reads a text as a file of the row type and says what comes of it: the rows, each
// bad record's line and rule, or why the file is refused.
func verdict[T any](t *testing.T, c Config[T], file string) string {
	t.Helper()
	f, err := newForm(&c)
	require.NoError(t, err)
	r, done, err := f.text("f.csv", strings.NewReader(file))
	require.NoError(t, err)
	defer done()
	cut := csvtext.NewCutter(f.dialect, c.chunkBytes())
	cut.Reset(r)
	_, h, err := f.header(cut)
	if err != nil {
		return "refused: " + err.Error()
	}
	var out, lines []string
	for {
		p, err := cut.Next()
		if err != nil {
			return strings.Join(append(out, lines...), " | ")
		}
		require.Less(t, p.End, f.extent("f.csv", int64(len(file))), "rule D6: the range of offsets is wide enough")
		ch := &chunk[T]{piece: p, header: h}
		batch := new(leat.Batch[T])
		ch.decode(batch, func(i int, err error) {
			var fe *leat.FieldError
			require.True(t, errors.As(err, &fe), err)
			lines = append(lines, fmt.Sprintf("line %d: %s", ch.Locate([]int{i})[0].Line, strings.TrimSpace(fe.Column+" "+fe.Rule)))
		})
		for _, row := range batch.Rows() {
			out = append(out, fmt.Sprintf("%+v", row))
		}
	}
}

type couple struct{ A, B string }

// Malformed files, and what a strict and a lenient source make of each.
func TestMalformedFiles(t *testing.T) {
	t.Parallel()
	wide := strings.Repeat("x,", 999_998)
	for _, tc := range []struct{ name, file, strict, lenient string }{
		{"0 bytes", "", "refused: the file has no header line: it is empty", ""},
		{"only a byte order mark", "\xef\xbb\xbf", "refused: the file has no header line: it is empty", ""},
		{"only line ends", "\n\r\n\n", "refused: the file has no header line: it is empty", ""},
		{"header only", "a,b", "", ""},
		{"header only, with line end", "a,b\r\n", "", ""},
		{"header twice: it is a row like others", "a,b\n1,2\na,b\n", "{A:1 B:2} | {A:a B:b}", ""},
		{"NUL in a field is text", "a,b\n1\x00,2\n", "{A:1\x00 B:2}", ""},
		{"NULs in place of text, as a crash leaves them", "a,b\n1,2\n\x00\x00\x00\x00", "{A:1 B:2} | line 3: fields", "{A:1 B:2} | {A:\x00\x00\x00\x00 B:}"},
		{"lone CR as line end: old Macintosh", "a,b\r1,2\r", `refused: the header is refused: it misses the columns "b" (its lines seem to end with CR alone, as on old Macintoshes: convert the file) (header line: "a,b\r1,2")`, ""},
		{"mixed line ends", "a,b\r\n1,2\n3,4\r\n5,6", "{A:1 B:2} | {A:3 B:4} | {A:5 B:6}", ""},
		{"a lone CR in a field", "a,b\n1\r2,3\n", "{A:1\r2 B:3}", ""},
		{"a byte order mark in the middle is text", "a,b\n\xef\xbb\xbf1,2\n", "{A:\ufeff1 B:2}", ""},
		{"two byte order marks", "\xef\xbb\xbf\xef\xbb\xbfa,b\n1,2\n", "refused: the header is refused: it misses the columns \"a\" (header line: \"\\ufeffa,b\")", ""},
		{"UTF-16 with byte order mark, read as UTF-8", "\xff\xfea\x00,\x00b\x00\n\x00", "refused: the file begins with the byte order mark of UTF-16LE, but Encoding is UTF-8", ""},
		{"UTF-16 without byte order mark, read as UTF-8", "a\x00,\x00b\x00\n\x00", `refused: the header is refused: it misses the columns "a", "b" (it has NUL characters: is the file in UTF-16, which Encoding must say?) (header line: "a\x00,\x00b\x00")`, ""},
		{"Latin-1 read as UTF-8: the rows with accents", "a,b\n1,caf\xe9\n2,tea\n", "{A:2 B:tea} | line 2: b utf8", ""},
		{"UTF-8 cut in a character", "a,b\n1,caf\xc3", "line 2: b utf8", ""},
		{"an overlong form", "a,b\n1,\xc0\xaf\n", "line 2: b utf8", ""},
		{"a surrogate in UTF-8", "a,b\n1,\xed\xa0\x80\n", "line 2: b utf8", ""},
		{"a quote unclosed to the end costs its line", "a,b\n1,\"x\n3,4\n", "{A:3 B:4} | line 2: quote", `{A:1 B:"x} | {A:3 B:4}`},
		{"a quote unclosed in the last line", "a,b\n1,\"x", "line 2: quote", `{A:1 B:"x}`},
		{"a bare quote", "a,b\n1,5\" disk\n", "line 2: quote", `{A:1 B:5" disk}`},
		{"text after the closing quote", "a,b\n\"1\"x,2\n", "line 2: quote", "{A:1x B:2}"},
		{"quotes inside quotes", "a,b\n\"the \"big\" one\",2\n", "line 2: quote", `{A:the "big" one B:2}`},
		{"a backslash does not escape", "a,b\n\"a\\\"b\",2\n", "line 2: quote", `{A:a\"b B:2}`},
		{"too few fields", "a,b\n1\n3,4\n", "{A:3 B:4} | line 2: fields", "{A:1 B:} | {A:3 B:4}"},
		{"too many fields", "a,b\n1,2,3\n", "line 2: fields", "{A:1 B:2}"},
		{"a delimiter at each line's end", "a,b\n1,2,\n3,4,\n", "line 2: fields | line 3: fields", "{A:1 B:2} | {A:3 B:4}"},
		{"1,000,000 columns", "a,b," + wide[:len(wide)-1] + "\n1,2," + wide[:len(wide)-1] + "\n", "{A:1 B:2}", ""},
		{"1,000,000 fields too many", "a,b\n1,2," + wide + "\n3,4\n", "{A:3 B:4} | line 2: fields", "{A:1 B:2} | {A:3 B:4}"},
		{"Excel's first line", "sep=;\na;b\n", `refused: the header is refused: it misses the columns "a", "b" (header line: "sep=;")`, ""},
		{"the end of a DOS file", "a,b\n1,2\n\x1a", "{A:1 B:2} | line 3: fields", "{A:1 B:2} | {A:\x1a B:}"},
	} {
		if tc.lenient == "" {
			tc.lenient = tc.strict
		}
		strict := verdict(t, Config[couple]{}, tc.file)
		require.Equal(t, tc.strict, strict, tc.name)
		require.Equal(t, tc.lenient, verdict(t, Config[couple]{Lenient: true, Ragged: PadRagged | CutRagged}, tc.file), "lenient: %s", tc.name)
		t.Logf("%-48s %s", tc.name, strict)
	}
}

func TestFormConfigs(t *testing.T) {
	t.Parallel()
	type num struct {
		ID    int64
		Price float64
		Note  *string
		OK    bool
	}
	show := func(n num) string {
		if n.Note == nil {
			return fmt.Sprintf("%d %v null %v", n.ID, n.Price, n.OK)
		}
		return fmt.Sprintf("%d %v %s %v", n.ID, n.Price, *n.Note, n.OK)
	}
	for _, tc := range []struct {
		name, text string
		c          Config[num]
		want       []string
	}{
		{"decimal comma and thousands", "id;price;note;ok\n1;1.234,56;x;true\n1.000;0,5;y;false\n3;1.5;z;true\n",
			Config[num]{Delimiter: ';', Decimal: ',', Thousands: '.'}, []string{"1 1234.56 x true", "1000 0.5 y false", "3 price syntax"}},
		{"decimal comma in quotes, between commas", "id,price,note,ok\n1,\"1,5\",x,true\n2,2,y,false\n",
			Config[num]{Decimal: ','}, []string{"1 1.5 x true", "2 2 y false"}},
		{"null spellings", "id,price,note,ok\n1,1,NULL,true\n2,2,\"N/A\",true\n3,-,x,true\n4,4,null,true\n",
			Config[num]{Null: []string{"NULL", "N/A", "-"}}, []string{"1 1 null true", "2 2 null true", "3 price empty", "4 4 null true"}},
		{"bools", "id,price,note,ok\n1,1,x,sí\n2,2,y,no\n3,3,z,maybe\n",
			Config[num]{True: []string{"sí"}, False: []string{"no"}}, []string{"1 1 x true", "2 2 y false", "3 ok syntax"}},
		{"trim", " id , price,note,ok\t\n 1 ,\" 2\", a b ,true\n", Config[num]{Trim: true}, []string{"1 2 a b true"}},
		{"lines to skip", "Report \"of\nsales\n\nid,price,note,ok\n1,2,x,true\n", Config[num]{SkipLines: 2}, []string{"1 2 x true"}},
		{"a header of our own", "\xef\xbb\xbf1,2,x,true\n3,4,y,false", Config[num]{Header: []string{"id", "price", "note", "ok"}}, []string{"1 2 x true", "3 4 y false"}},
		{"a header in place of theirs", "A,B,C,D\n1,2,x,true\n", Config[num]{Header: []string{"id", "price", "note", "ok"}, SkipLines: 1}, []string{"1 2 x true"}},
		{"no rows and a header of our own", "", Config[num]{Header: []string{"id", "price", "note", "ok"}}, nil},
		{"padded", "id,price,ok,note\n1,2,true\n3\n", Config[num]{Ragged: PadRagged}, []string{"1 2 null true", "2 price empty"}},
		{"padded but not cut", "id,price,ok,note\n1,2,true,x,y\n", Config[num]{Ragged: PadRagged}, []string{"1 fields"}},
		{"cut but not padded", "id,price,ok,note\n1,2,true,x,y\n1,2\n", Config[num]{Ragged: CutRagged}, []string{"1 2 x true", "2 fields"}},
		{"missing columns as zero", "id\n1\n", Config[num]{Missing: drift.ZeroMissing}, []string{"1 0 null false"}},
		{"missing columns as null", "id,price,ok\n1,2,true\n", Config[num]{Missing: drift.NullMissing}, []string{"1 2 null true"}},
	} {
		require.NoError(t, New(func() Config[num] { c := tc.c; c.Dir = "in"; return c }()).Validate(), tc.name)
		rows, rejects, origins := decodeText(t, tc.c, tc.text)
		var got []string
		for _, r := range rows {
			got = append(got, show(r))
		}
		// Rejects in their places, by the number of their record.
		for i, e := range rejects {
			got = append(got, "")
			at := 0
			for at < len(got)-1 && at < recordOf(tc.text, origins[i].Line, tc.c.SkipLines, tc.c.Header != nil) {
				at++
			}
			copy(got[at+1:], got[at:])
			got[at] = fmt.Sprint(at+1, " ", strings.TrimSpace(e.Column+" "+e.Rule))
		}
		require.Equal(t, tc.want, got, tc.name)
	}
}

// recordOf is the number of the record on a line, of a text without fields over several lines.
func recordOf(text string, line int64, skip int, headerless bool) int {
	n := int(line) - 1 - skip
	if !headerless {
		n--
	}
	return n
}

// Schema drift: what a file has and the row type has not, and the other way round.
func TestDrift(t *testing.T) {
	t.Parallel()
	type kept struct {
		ID    int64
		Note  *string
		Otros map[string]string `leat:"otros,extra"`
	}
	type anyKept struct {
		ID    int64
		Otros map[string]any `leat:",extra"`
	}
	type rawKept struct {
		ID    int64
		Otros map[string]json.RawMessage `leat:",extra"`
	}
	rows, rejects, _ := decodeText(t, Config[kept]{}, "x,id,note,y\na,1,n,\"b\"\"c\"\n,2,,\n")
	require.Empty(t, rejects)
	require.Equal(t, map[string]string{"x": "a", "y": `b"c`}, rows[0].Otros)
	require.Equal(t, map[string]string{"x": "", "y": ""}, rows[1].Otros)
	rows, _, _ = decodeText(t, Config[kept]{}, "id,note\n1,n\n")
	require.Nil(t, rows[0].Otros, "there is nothing extra")
	rows, rejects, _ = decodeText(t, Config[kept]{Ragged: PadRagged}, "id,note,x,y\n1,n,a\n1,n,\xff,b\n")
	require.Equal(t, map[string]string{"x": "a"}, rows[0].Otros)
	require.Len(t, rejects, 1)
	require.Equal(t, leat.FieldError{Column: "otros", Rule: "utf8", Msg: `column x: "\xff" is not valid UTF-8 (is the file in another Encoding?)`}, *rejects[0])
	anyRows, _, _ := decodeText(t, Config[anyKept]{}, "id,x\n1,a\n")
	require.Equal(t, map[string]any{"x": "a"}, anyRows[0].Otros)
	rawRows, _, _ := decodeText(t, Config[rawKept]{}, "id,x\n1,\"a\"\"\"\n")
	require.Equal(t, map[string]json.RawMessage{"x": json.RawMessage(`"a\""`)}, rawRows[0].Otros)

	for _, tc := range []struct {
		c          Config[kept]
		text, want string
	}{
		{Config[kept]{Extra: drift.RefuseExtra}, "id,note,x\n", `refused: the header is refused: it has the columns "x", which are not wanted (header line: "id,note,x")`},
		{Config[kept]{Extra: drift.RefuseExtra}, "id,note\n", ""},
		{Config[kept]{}, "id,note,x,x\n", `refused: the header is refused: it names the columns "x" more than once (header line: "id,note,x,x")`},
		{Config[kept]{}, "id,note,\xff\n", `refused: the header is refused: it has the columns "\xff", which are not wanted (header line: "id,note,\xff")`},
		{Config[kept]{}, "id,n\xf3te\n", `refused: the header is refused: it misses the columns "note" (it is no text in UTF-8: is the file in another Encoding?); it has the columns "n\xf3te", which are not wanted (header line: "id,n\xf3te")`},
		{Config[kept]{Missing: drift.NullMissing}, "id\n", ""},
		{Config[kept]{Missing: drift.NullMissing}, "note\n", `refused: the header is refused: it misses the columns "id" (header line: "note")`},
		{Config[kept]{Missing: drift.ZeroMissing}, "note\n", ""},
		{Config[kept]{Missing: drift.ZeroMissing}, "id;note\n", `refused: the header is refused: it has none of the row type's columns, so the file is something else, or its Delimiter is (header line: "id;note")`},
		{Config[kept]{SkipLines: 3}, "a\nb\n", "refused: the file has no header line: nothing follows the 3 lines that are passed over"},
	} {
		require.Equal(t, tc.want, verdict(t, tc.c, tc.text), "%q", tc.text)
	}
	require.Equal(t, "", verdict(t, Config[couple]{Extra: drift.IgnoreExtra}, "b,x,x,a\n"), "names that do not matter")
}

// A change of the header is one line of the ledger.
func TestDriftInTheLedger(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Put("a.csv", "id,text\n1,x\n")
	w.Put("b.csv", "id,text,more\n2,x,y\n")
	w.Put("c.csv", "text,id,more\n,3,\n")
	c := w.config()
	c.Trim = true
	w.must(c)
	require.Equal(t, []int64{1, 2, 3}, w.IDs())
	drift := []string{}
	for _, e := range w.Ledger() {
		drift = append(drift, e.Drift)
	}
	require.Equal(t, "", drift[0])
	require.Contains(t, drift[1], "more")
}

// encodings, and a text that has no fault in any of them.
var encodings = []Encoding{UTF8, AnyBytes, UTF16LE, UTF16BE, Latin1, Windows1252}

// rule D6, D4: offsets are places in the text as UTF-8, the same in each encoding, and a crash
// anywhere neither loses nor doubles a row.
func TestD4EncodedCrashes(t *testing.T) {
	t.Parallel()
	accents := strings.NewReplacer("a", "ñ", "b", "é")
	for seed := range uint64(36) {
		r := rand.New(rand.NewPCG(seed, 19))
		e := encodings[seed%6]
		w, plain := newWorld(t), newWorld(t)
		for i := range 1 + r.IntN(3) {
			text := randomCSV(r, i, r.IntN(30))
			if e != UTF8 {
				text = strings.TrimPrefix(text, "\ufeff")
			}
			head, body, _ := strings.Cut(text, "\n")
			text = head + "\n" + accents.Replace(body)
			name := fmt.Sprintf("f%d.csv", i)
			plain.Put(name, text)
			coded := string(e.code().Encode(nil, []byte(text)))
			if r.IntN(3) == 0 {
				name, coded = name+".gz", filetest.Gzip(coded)
			}
			w.Put(name, coded)
		}
		plain.must(plain.config())
		c := w.config()
		c.Encoding = e
		for lives := 0; lives < 300; lives++ {
			c.ChunkBytes = 1 + r.IntN(200)
			l := life{StopAfter: 1 + r.IntN(4), Hear: r.IntN(2) == 0}
			l.Commit = r.IntN(l.StopAfter + 1)
			if err := w.live(c, l); err == nil && l.Commit >= l.StopAfter {
				break
			} else if err != nil {
				require.ErrorIs(t, err, filetest.ErrKilled, "seed %d", seed)
			}
		}
		w.must(c)
		require.Equal(t, len(plain.Rows), len(w.Rows), "seed %d", seed)
		bases, plainBases := map[string]int64{}, map[string]int64{}
		for _, en := range w.Ledger() {
			bases[en.Name] = en.Offset
		}
		for _, en := range plain.Ledger() {
			plainBases[en.Name] = en.Offset
		}
		for i, want := range plain.Rows {
			got := w.Rows[i]
			want.Offset -= plainBases[want.File]
			got.Offset -= bases[got.File]
			got.File = strings.TrimSuffix(got.File, ".gz")
			require.Equal(t, want, got, "seed %d, %v", seed, e)
		}
	}
}

// The range of offsets is wide enough for every text, and compressed text can't leave it.
func TestExtents(t *testing.T) {
	t.Parallel()
	for _, e := range encodings {
		f, err := newForm(&Config[rec]{Encoding: e})
		require.NoError(t, err)
		for b := range 256 {
			for _, n := range []int{1, 2, 3, 100, 101} {
				src := bytes.Repeat([]byte{byte(b)}, n)
				require.Less(t, int64(len(e.code().Decode(nil, src))), f.extent("a.csv", int64(n)))
			}
		}
		require.Equal(t, int64(1)<<36, f.extent("a.csv.gz", 5))
	}
	require.Equal(t, 3, transcode.Growth)
	l := &limited{strings.NewReader("0123456789"), 10}
	_, err := l.Read(make([]byte, 20))
	require.ErrorContains(t, err, "too long for a range of offsets")
	l = &limited{strings.NewReader("0123456789"), 11}
	n, err := l.Read(make([]byte, 20))
	require.NoError(t, err)
	require.Equal(t, 10, n)
}

func TestEncodings(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		e          Encoding
		file, want string
	}{
		{Windows1252, "a,b\n1,caf\xe9 \x80\n2,\x93x\x94\n3,\x81\n4,ok\n", "{A:1 B:café €} | {A:2 B:“x”} | {A:4 B:ok} | line 4: b utf8"},
		{Latin1, "a,b\n1,caf\xe9\n2,\x81\n", "{A:1 B:café} | {A:2 B:\u0081}"},
		{AnyBytes, "a,b\n1,caf\xe9\n", "{A:1 B:caf\xe9}"},
		{UTF16LE, "\xff\xfea\x00,\x00b\x00\r\x00\n\x001\x00,\x00\x3d\xd8\x00\xde\n\x002\x00,\x00\x3d\xd8\n\x003\x00,\x00\xfd\xff\n\x00", "{A:1 B:😀} | {A:3 B:\ufffd} | line 3: b utf8"},
		{UTF16LE, "a\x00,\x00b\x00\n\x001\x00,\x002\x00x", "line 2: b utf8"},
		{UTF16BE, "\xfe\xff\x00a\x00,\x00b\x00\n\x001\x00,\x20\xac", "{A:1 B:€}"},
		{UTF16BE, "\xff\xfea\x00", "refused: the file begins with the byte order mark of UTF-16LE, but Encoding is UTF-16BE"},
		{UTF16LE, "\xfe\xff\x00a", "refused: the file begins with the byte order mark of UTF-16BE, but Encoding is UTF-16LE"},
		{UTF16LE, "\xef\xbb\xbfa,b", "refused: the file begins with the byte order mark of UTF-8, but Encoding is UTF-16LE"},
		{Windows1252, "\xef\xbb\xbfa,b", "refused: the file begins with the byte order mark of UTF-8, but Encoding is Windows-1252"},
		{Latin1, "\xff\xfea\x00", "refused: the file begins with the byte order mark of UTF-16LE, but Encoding is Latin-1"},
	} {
		require.Equal(t, tc.want, verdict(t, Config[couple]{Encoding: tc.e}, tc.file), "%v %q", tc.e, tc.file)
	}
	type bin struct{ A []byte }
	require.Equal(t, "{A:[255]}", verdict(t, Config[bin]{}, "a\n\xff\n"), "bytes may be any")
	require.Equal(t, "line 2: a utf8", verdict(t, Config[bin]{Encoding: Windows1252}, "a\n\x81\n"), "but those of text that is none can't be given")
	require.Equal(t, "encoding 9", Encoding(9).String())
}

// rule B4: a letter keeps the bytes that the file has, in each dialect, and is decoded again from them.
func TestLettersOfDialects(t *testing.T) {
	t.Parallel()
	type strictRow struct {
		ID   int64
		Text string
		N    float64
	}
	text := "id,text,n\n1,añb,1\n2,€,x\nx,plain,3\n4,\"o\"\"k\",4\n5,\"open,5\n6,few\n7,7,7,7\n8,y,\"8,5\"\n"
	for _, e := range encodings {
		for how, c := range map[string]Config[strictRow]{
			"strict":     {},
			"lenient":    {Lenient: true, Ragged: PadRagged},
			"spelled":    {Decimal: ',', Null: []string{"few"}},
			"headerless": {Header: []string{"id", "text", "n"}},
			"skipping":   {Header: []string{"id", "text", "n"}, SkipLines: 1},
			"trimmed":    {Trim: true, Ragged: CutRagged},
		} {
			c.Encoding, c.Dir = e, "in"
			text := text
			if e == Latin1 {
				text = strings.ReplaceAll(text, "€", "\u0081")
			}
			file := e.code().Encode(nil, []byte(text))
			if e == Windows1252 {
				file = bytes.ReplaceAll(file, []byte("few"), []byte("f\x81w"))
			}
			if e == UTF16LE {
				file = bytes.ReplaceAll(file, []byte("f\x00e\x00"), []byte("f\x00\x3d\xd8"))
			}
			rows, rejects, origins := decodeText(t, c, string(file))
			require.NotEmpty(t, rejects)
			src := New(c)
			require.NoError(t, src.Validate())
			for i, o := range origins {
				require.True(t, bytes.Contains(file, o.Raw), "%v %s: %q is in the file", e, how, o.Raw)
				require.True(t, strings.Count(o.Header, "text") == 1, o.Header)
				out := new(leat.Batch[strictRow])
				var again *leat.FieldError
				l := leat.DeadLetter{Raw: o.Raw, Header: o.Header, File: o.File, Line: o.Line, Offset: o.Offset, Class: leat.Decode}
				require.NoError(t, src.decodeLetter(&l, out, 0, func(_ int, err error) { require.True(t, errors.As(err, &again)) }))
				require.Equal(t, rejects[i], again, "%v %s %q", e, how, o.Raw)
				require.Zero(t, out.Len())
			}
			// Letters of good rows give the row.
			ch := wholeChunk(t, c, file)
			batch := new(leat.Batch[strictRow])
			var good []int
			bad := map[int]bool{}
			n, _ := ch.decode(batch, func(i int, _ error) { bad[i] = true })
			for i := range n {
				if !bad[i] {
					good = append(good, i)
				}
			}
			require.Equal(t, rows, batch.Rows())
			for k, o := range ch.Locate(good) {
				out := new(leat.Batch[strictRow])
				require.NoError(t, src.DecodeLetter(leat.DeadLetter{Raw: o.Raw, Header: o.Header, File: o.File, Line: o.Line, Offset: o.Offset}, out, 0))
				require.Equal(t, rows[k:k+1], out.Rows(), "%v %s %q", e, how, o.Raw)
			}
		}
	}
}

func wholeChunk[T any](t *testing.T, c Config[T], file []byte) *chunk[T] {
	t.Helper()
	f, err := newForm(&c)
	require.NoError(t, err)
	cut := csvtext.NewCutter(f.dialect, 1<<20)
	cut.Reset(f.encoding.code().Reader(bytes.NewReader(file)))
	_, h, err := f.header(cut)
	require.NoError(t, err)
	p, err := cut.Next()
	require.NoError(t, err)
	return &chunk[T]{piece: p, header: h}
}

// A record that is too long is cut between characters before it is kept.
func TestLongRecordOfAnEncoding(t *testing.T) {
	t.Parallel()
	ch := wholeChunk(t, Config[couple]{Encoding: Windows1252, MaxRecord: 101}, []byte("a,b\n1,"+strings.Repeat("\xe9", 200)+"\n"))
	require.True(t, ch.piece.Long)
	raw := ch.Locate([]int{0})[0].Raw
	require.Equal(t, "1,"+strings.Repeat("\xe9", 49), string(raw))
}

func TestValidateDialects(t *testing.T) {
	t.Parallel()
	type price struct {
		ID    int64
		Price float64
	}
	for want, c := range map[string]Config[price]{
		"Encoding 9":                             {Encoding: 9},
		"SkipLines -1 is negative":               {SkipLines: -1},
		"Ragged 7":                               {Ragged: 7},
		"Extra 5":                                {Extra: 5},
		"Missing 9":                              {Missing: 9},
		"Decimal '5'":                            {Decimal: '5'},
		"Decimal '-'":                            {Decimal: '-'},
		"Thousands '.': the decimal point is":    {Thousands: '.'},
		"Thousands ',': the decimal point is":    {Decimal: ',', Thousands: ','},
		`True and False both have "x"`:           {True: []string{"x"}, False: []string{"x"}},
		`"x" is one of Null, and of True`:        {True: []string{"x"}, Null: []string{"x"}},
		"Header is empty":                        {Header: []string{}},
		`Header: it misses the columns "price"`:  {Header: []string{"id"}},
		`Header: it names the columns "id" more`: {Header: []string{"id", "price", "id"}},
		"can't be written as one line":           {Header: []string{"id", "price", "a,b"}, Quote: -1},
		"the dialect has no header line: name":   Config[price]{}.With(Dialect{Delimiter: ';'}),
		`which are not wanted`:                   {Header: []string{"id", "price", "x"}, Extra: drift.RefuseExtra},
	} {
		c.Dir = "in"
		require.ErrorContains(t, New(c).Validate(), want)
	}
	for _, c := range []Config[price]{
		{Encoding: UTF16LE, SkipLines: 3, Lenient: true, Ragged: PadRagged | CutRagged, Decimal: ',', Thousands: '.', Null: []string{"NULL", ""}},
		{Decimal: '.', Thousands: '\u202f'}, {Header: []string{"price", "x", "id"}}, {Header: []string{"id", "price", "a,b", `c"d`, "#"}, Comment: '#'},
		{Header: []string{"id"}, Missing: drift.ZeroMissing},
		Config[price]{Header: []string{"id", "price"}}.With(Dialect{Delimiter: ';', Quote: '"'}),
	} {
		c.Dir = "in"
		require.NoError(t, New(c).Validate())
	}
}

func TestWith(t *testing.T) {
	t.Parallel()
	type price struct {
		ID    int64
		Price float64
	}
	file := Windows1252.code().Encode(nil, []byte("Precios – 2025\n\nid;price;nota\n1;1.234,50;café\n2;3,25;\n3;7,5;té\n4;7,75;té\n"))
	d, err := Detect(bytes.NewReader(file))
	require.NoError(t, err)
	require.Equal(t, "Windows-1252, delimiter ';', quote '\"', 2 lines to skip, a header, 3 fields, numbers like 1.234,5", strings.TrimSuffix(d.String(), d.String()[strings.Index(d.String(), " (conf"):]))
	require.Equal(t, []string{"id", "price", "nota"}, d.Columns)
	require.Equal(t, "{ID:1 Price:1234.5} | {ID:2 Price:3.25} | {ID:3 Price:7.5} | {ID:4 Price:7.75}", verdict(t, Config[price]{}.With(d), string(file)))
	own := Config[price]{Header: []string{"x", "price", "id"}, Missing: drift.ZeroMissing, Null: []string{"", "café", "té"}}.With(d)
	require.Equal(t, 3, own.SkipLines)

	path := filepath.Join(t.TempDir(), "f.csv.gz")
	require.NoError(t, os.WriteFile(path, []byte(filetest.Gzip(string(file))), 0o600))
	again, err := DetectFile(path)
	require.NoError(t, err)
	require.Equal(t, d, again)
	require.NoError(t, os.WriteFile(path, []byte("no gzip"), 0o600))
	_, err = DetectFile(path)
	require.ErrorContains(t, err, "gzip")
	_, err = DetectFile(path + ".none")
	require.ErrorIs(t, err, os.ErrNotExist)
}

// TestVeryManyColumns: a header line of a MiB is looked at once for each name, not for each two.
func TestVeryManyColumns(t *testing.T) {
	t.Parallel()
	type fila struct {
		ID    int
		Otros map[string]string `leat:",extra"`
	}
	f, err := newForm(&Config[fila]{})
	require.NoError(t, err)
	names := make([]string, 150_000)
	for i := range names {
		names[i] = fmt.Sprintf("%06d", i)
	}
	names[0] = "id"
	began := time.Now()
	h, err := f.bind(names, "")
	require.NoError(t, err)
	require.Len(t, h.others, len(names)-1)
	require.Less(t, time.Since(began), 3*time.Second)
	names[7] = names[9]
	_, err = f.bind(names, "")
	require.ErrorContains(t, err, "more than once")
}
