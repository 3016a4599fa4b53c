package csvtext

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

func dialect(max int) Dialect {
	return Dialect{Delimiter: ',', Quote: '"', MaxRecord: max}
}

// found is a record as the tests compare them.
type found struct {
	Start, End, Line int64
	Fault            Fault
	Fields           []string
}

// direct is the definition: Scan over the whole text, record after record.
func direct(d Dialect, text []byte, from, line int64) []found {
	var out []found
	pos := int(from)
	for pos < len(text) {
		s, ok := d.Scan(text[pos:], true)
		if !ok {
			panic("Scan wants more at the end of the text")
		}
		end := pos + s.Len
		if s.Fault == FaultLong {
			end = len(text)
			if nl := bytes.IndexByte(text[pos+d.MaxRecord:], '\n'); nl >= 0 {
				end = pos + d.MaxRecord + nl + 1
			}
		}
		if s.Record {
			f := found{Start: int64(pos), End: int64(end), Line: line, Fault: s.Fault}
			if s.Fault == Fine {
				r := NewRecords(&d, text[pos:end], 1, len(text)+1)
				r.Next()
				f.Fields = append([]string{}, r.Fields...)
			}
			out = append(out, f)
		}
		line += int64(bytes.Count(text[pos:end], newline))
		pos = end
	}
	return out
}

// pieces reads the same through a Cutter.
func pieces(t testing.TB, c *Cutter, d Dialect) []found {
	t.Helper()
	var out []found
	for {
		p, err := c.Next()
		if err == io.EOF {
			return out
		}
		require.NoError(t, err)
		require.NotEmpty(t, p.Data)
		if p.Long {
			out = append(out, found{Start: p.Start, End: p.End, Line: p.Line, Fault: FaultLong})
			continue
		}
		require.Equal(t, int64(len(p.Data)), p.End-p.Start)
		r := NewRecords(&d, p.Data, p.Line, len(p.Data)+1)
		first := true
		for r.Next() {
			if first {
				require.Zero(t, r.Start, "a piece begins with a record")
				first = false
			}
			f := found{Start: p.Start + int64(r.Start), End: p.Start + int64(r.End), Line: r.Line, Fault: r.Fault}
			if r.Fault == Fine {
				require.Equal(t, len(r.Fields), r.Count)
				f.Fields = append([]string{}, r.Fields...)
			}
			out = append(out, f)
		}
		require.False(t, first, "a piece holds a record")
		require.Equal(t, p.EndLine, r.next)
	}
}

func sameRecords(t testing.TB, d Dialect, text []byte, chunk int, r io.Reader) {
	t.Helper()
	want := direct(d, text, 0, 1)
	c := NewCutter(d, chunk)
	c.Reset(r)
	got := pieces(t, c, d)
	require.Equal(t, want, got, "chunk %d, max %d, text %q", chunk, d.MaxRecord, text)
}

func TestRecords(t *testing.T) {
	t.Parallel()
	type rec = []string
	bad := rec(nil) // a record at fault
	for _, tc := range []struct {
		name, text string
		want       []rec
	}{
		{"simple", "a,b,c\n1,2,3\n", []rec{{"a", "b", "c"}, {"1", "2", "3"}}},
		{"no final newline", "a,b\n1,2", []rec{{"a", "b"}, {"1", "2"}}},
		{"CR LF", "a,b\r\n1,2\r\n", []rec{{"a", "b"}, {"1", "2"}}},
		{"CR at the end of the text", "a,b\r", []rec{{"a", "b"}}},
		{"lone CR is data", "a\rb,c\n", []rec{{"a\rb", "c"}}},
		{"blank lines", "\n\r\na,b\n\n\n1,2\n\n", []rec{{"a", "b"}, {"1", "2"}}},
		{"only blank", "\n\n\r\n\r", nil},
		{"a space is no blank line", " \n", []rec{{" "}}},
		{"empty fields", ",,\n", []rec{{"", "", ""}}},
		{"comma in quotes", "John,\"120 any st., Anytown\",WW\n", []rec{{"John", "120 any st., Anytown", "WW"}}},
		{"empty quoted", "1,\"\",\"\"\n2,3,4\n", []rec{{"1", "", ""}, {"2", "3", "4"}}},
		{"escaped quotes", "1,\"ha \"\"ha\"\" ha\"\n3,4\n", []rec{{"1", `ha "ha" ha`}, {"3", "4"}}},
		{"only escaped quotes", "\"\"\"\"\"\"\n", []rec{{`""`}}},
		{"json", "1,\"{\"\"type\"\": \"\"Point\"\", \"\"c\"\": [1,2]}\"\n", []rec{{"1", `{"type": "Point", "c": [1,2]}`}}},
		{"newlines in quotes", "1,\"once \nupon\n\",3\n4,5,6\n", []rec{{"1", "once \nupon\n", "3"}, {"4", "5", "6"}}},
		{"CR LF in quotes is kept, unlike in encoding/csv", "1,\"a\r\nb\"\r\n2,c\r\n", []rec{{"1", "a\r\nb"}, {"2", "c"}}},
		{"quotes and newlines", "1,\"ha\n\"\"ha\"\"\n\"\n", []rec{{"1", "ha\n\"ha\"\n"}}},
		{"utf8", "1,ʤ\n", []rec{{"1", "ʤ"}}},
		{"quoted at the end of the text", "1,\"a\"", []rec{{"1", "a"}}},
		{"quoted with CR at the end of the text", "1,\"a\"\r", []rec{{"1", "a"}}},
		{"delimiter at the end of the text", "1,", []rec{{"1", ""}}},
		{"bare quote", "a\"b,1\n2,3\n", []rec{bad, {"2", "3"}}},
		{"bare quote cannot derail", "1,5\" disk\n\"x\",2\n", []rec{bad, {"x", "2"}}},
		{"space before a quote is bare", "1, \"a\"\n2,b\n", []rec{bad, {"2", "b"}}},
		{"text after the closing quote", "\"a\"b,1\n2,3\n", []rec{bad, {"2", "3"}}},
		{"a bad record with a good field over two lines", "\"a\"b,\"x\ny\",1\n2,3\n", []rec{bad, {"2", "3"}}},
		{"unterminated to the end costs one line", "1,\"abc\n2,d\n3,e\n", []rec{bad, {"2", "d"}, {"3", "e"}}},
		{"unterminated, then quotes", "1,\"abc\n2,\"d\"\n3,\"e\"\n", []rec{bad, {"2", "d"}, {"3", "e"}}},
		{"unterminated behind a field of two lines", "1,\"a\nb\",\"c\n2,\"x\",3\n", []rec{bad, {"2", "x", "3"}}},
		{"unterminated in the last line", "1,2\n3,\"abc", []rec{{"1", "2"}, bad}},
		{"all lines unterminated", "\"a\n\"b\n\"c\n", []rec{bad, bad, bad}},
		{"empty text", "", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			d := dialect(1 << 20)
			var got []rec
			for _, f := range direct(d, []byte(tc.text), 0, 1) {
				got = append(got, f.Fields)
			}
			require.Equal(t, tc.want, got)
			for chunk := 1; chunk < len(tc.text)+2; chunk++ {
				sameRecords(t, d, []byte(tc.text), chunk, strings.NewReader(tc.text))
			}
		})
	}
}

func TestOtherDialects(t *testing.T) {
	t.Parallel()
	t.Run("comment only outside of quotes", func(t *testing.T) {
		t.Parallel()
		d := Dialect{Delimiter: ';', Quote: '\'', Comment: '#', MaxRecord: 100}
		text := "# \"x\na;b\n#c;'d\n1;'\n# no comment\n'\n2;#\n#"
		var got [][]string
		for _, f := range direct(d, []byte(text), 0, 1) {
			got = append(got, f.Fields)
		}
		require.Equal(t, [][]string{{"a", "b"}, {"1", "\n# no comment\n"}, {"2", "#"}}, got)
		for chunk := 1; chunk < len(text)+2; chunk++ {
			sameRecords(t, d, []byte(text), chunk, strings.NewReader(text))
		}
	})
	t.Run("no quote", func(t *testing.T) {
		t.Parallel()
		d := Dialect{Delimiter: '\t', MaxRecord: 100}
		text := "a\t\"b\nc\"\t\x00d\n"
		got := direct(d, []byte(text), 0, 1)
		require.Equal(t, []string{"a", `"b`}, got[0].Fields)
		require.Equal(t, []string{`c"`, "\x00d"}, got[1].Fields)
		sameRecords(t, d, []byte(text), 3, strings.NewReader(text))
	})
}

func TestMaxRecord(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 30)
	for _, tc := range []struct {
		name, text string
		want       []Fault
	}{
		{"exactly the limit, line end included", "123456789\n1\n", []Fault{Fine, Fine}},
		{"exactly the limit, at the end of the text", "1234567890", []Fault{Fine}},
		{"one more", "1234567890\n1\n", []Fault{FaultLong, Fine}},
		{"long line", "1,2\n" + long + "\n3,4\n", []Fault{Fine, FaultLong, Fine}},
		{"long line at the end", "1,2\n" + long, []Fault{Fine, FaultLong}},
		{"long quoted line", "\"" + long + "\"\n3,4\n", []Fault{FaultLong, Fine}},
		{"quoted field over lines runs on: cut at its first line", "1,\"a\nbbbbbbbbbbbb\n2\n", []Fault{FaultQuote, FaultLong, Fine}},
		{"cut at the limit although closed later", "1,\"a\n2,b\n3,c\n4\"\n", []Fault{FaultQuote, Fine, Fine, FaultQuote}},
		{"quote as the very last byte of the window", "\"a\n234567\"\n1\n", []Fault{FaultQuote, FaultQuote, Fine}},
		{"CR as the very last byte of the window", "\"2345678\"\r\n1\n", []Fault{FaultLong, Fine}},
		{"many good lines in a quoted record", "\"a\n\",\"b\n\",ccccc\n1\n", []Fault{FaultLong, Fine}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			d := dialect(10)
			var got []Fault
			for _, f := range direct(d, []byte(tc.text), 0, 1) {
				got = append(got, f.Fault)
			}
			require.Equal(t, tc.want, got)
			for chunk := 1; chunk < len(tc.text)+2; chunk++ {
				sameRecords(t, d, []byte(tc.text), chunk, strings.NewReader(tc.text))
				sameRecords(t, d, []byte(tc.text), chunk, iotest.OneByteReader(strings.NewReader(tc.text)))
			}
		})
	}
	t.Run("long comments are passed over", func(t *testing.T) {
		t.Parallel()
		d := dialect(10)
		d.Comment = '#'
		text := "#" + long + "\na,b\n#" + long + "\n1,2\n#" + long
		require.Len(t, direct(d, []byte(text), 0, 1), 2)
		for chunk := 1; chunk < len(text)+2; chunk++ {
			sameRecords(t, d, []byte(text), chunk, strings.NewReader(text))
			c := NewCutter(d, chunk)
			c.Reset(strings.NewReader(text))
			raw, fields, err := c.Header()
			require.NoError(t, err)
			require.Equal(t, "a,b", string(raw))
			require.Equal(t, []string{"a", "b"}, fields)
			p, err := c.Next()
			require.NoError(t, err)
			require.Equal(t, "1,2\n", string(p.Data))
		}
	})
}

// randomText is rich in what matters.
func randomText(r *rand.Rand, n int) []byte {
	const plain = "ab,\n,1\n"
	const nasty = "\"\"\",,\n\n\r\r\n#ab;"
	out := make([]byte, 0, n)
	for range n {
		set := plain
		if r.IntN(3) == 0 {
			set = nasty
		}
		out = append(out, set[r.IntN(len(set))])
	}
	return out
}

// randomFile is a well-formed file with quoted fields.
func randomFile(r *rand.Rand, rows, cols int) []byte {
	var b bytes.Buffer
	end := []string{"\n", "\r\n"}[r.IntN(2)]
	for range rows {
		for c := range cols {
			if c > 0 {
				b.WriteByte(',')
			}
			cell := string(randomText(r, r.IntN(12)))
			if r.IntN(2) == 0 {
				b.WriteString(strings.Map(func(c rune) rune {
					if strings.ContainsRune("\",\r\n", c) {
						return 'x'
					}
					return c
				}, cell))
			} else {
				b.WriteString(`"` + strings.ReplaceAll(cell, `"`, `""`) + `"`)
			}
		}
		b.WriteString(end)
	}
	out := b.Bytes()
	if r.IntN(3) == 0 {
		out = bytes.TrimRight(out, "\r\n")
	}
	return out
}

// rule D6: offsets never depend on chunking.
func TestCuttingInvariance(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 1))
		text := randomText(r, r.IntN(120))
		if seed%3 == 0 {
			text = randomFile(r, r.IntN(12), 1+r.IntN(4))
		}
		d := dialect(1 + r.IntN(60))
		if r.IntN(2) == 0 {
			d.MaxRecord = 1 << 20
		}
		if r.IntN(3) == 0 {
			d.Comment = '#'
		}
		for _, chunk := range []int{1, 2, 3, 5, 8, 13, 40, 200, 4096} {
			sameRecords(t, d, text, chunk, bytes.NewReader(text))
		}
		sameRecords(t, d, text, 16, iotest.OneByteReader(bytes.NewReader(text)))
		sameRecords(t, d, text, 16, iotest.DataErrReader(bytes.NewReader(text)))
	}
}

// rule D4: reading again from any record boundary gives the same rest.
func TestRestartAtEveryRecord(t *testing.T) {
	t.Parallel()
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 2))
		text := randomText(r, r.IntN(120))
		d := dialect(1 + r.IntN(60))
		all := direct(d, text, 0, 1)
		for i, f := range all {
			for _, line := range []int64{f.Line, 0} {
				for _, chunk := range []int{1, 7, 500} {
					c := NewCutter(d, chunk)
					c.Reset(bytes.NewReader(text))
					require.NoError(t, c.SkipTo(f.Start, line))
					require.Equal(t, all[i:], pieces(t, c, d), "from %d of %q", f.Start, text)

					c.Reset(bytes.NewReader(text))
					c.Stop(f.Start)
					require.Equal(t, len(all[:i]), len(pieces(t, c, d)), "up to %d of %q", f.Start, text)
					c.Stop(-1)
					require.Equal(t, all[i:], pieces(t, c, d), "after a stop at %d of %q", f.Start, text)
				}
			}
		}
	}
}

func TestSkipTo(t *testing.T) {
	t.Parallel()
	c := NewCutter(dialect(100), 4)
	c.Reset(strings.NewReader("a\nb\nc\n"))
	require.ErrorIs(t, c.SkipTo(7, 0), io.ErrUnexpectedEOF, "beyond the end")
	boom := errors.New("boom")
	c.Reset(iotest.ErrReader(boom))
	require.ErrorIs(t, c.SkipTo(7, 0), boom)
}

// What is before the damage comes out, and nothing that may be half of something.
func TestReadError(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	for _, tc := range []struct{ text, want string }{
		{"a,b\n1,2\n3,4", "a,b\n1,2\n"},
		{"a,b\n1,2\n", "a,b\n1,2\n"},
		{"a,b\n1,\"2\n3\n", "a,b\n"},
		{"a,b\n1,\"2\"", "a,b\n"},
		{"", ""},
		{"a", ""},
	} {
		for chunk := 1; chunk < 20; chunk++ {
			c := NewCutter(dialect(100), chunk)
			c.Reset(io.MultiReader(strings.NewReader(tc.text), iotest.ErrReader(boom)))
			var got []byte
			for {
				p, err := c.Next()
				if err != nil {
					require.ErrorIs(t, err, boom)
					break
				}
				got = append(got, p.Data...)
			}
			require.Equal(t, tc.want, string(got), "chunk %d", chunk)
			require.Equal(t, len(tc.text)-len(tc.want), c.Rest())
		}
	}
	c := NewCutter(dialect(3), 2)
	c.Reset(io.MultiReader(strings.NewReader("123456"), iotest.ErrReader(boom)))
	_, err := c.Next()
	require.ErrorIs(t, err, boom, "a long record without an end is not whole")
	c.Reset(stuck{})
	_, err = c.Next()
	require.ErrorIs(t, err, io.ErrNoProgress)
}

type stuck struct{}

func (stuck) Read([]byte) (int, error) { return 0, nil }

func TestHeader(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, text string
		want       []string
		rest       string
		fail       string
	}{
		{name: "plain", text: "a,b\n1,2\n", want: []string{"a", "b"}, rest: "1,2\n"},
		{name: "BOM", text: "\xef\xbb\xbfa,b\n1,2\n", want: []string{"a", "b"}, rest: "1,2\n"},
		{name: "BOM and quotes", text: "\xef\xbb\xbf\"a\",\"b \"\"x\"\"\"\r\n1,2\n", want: []string{"a", `b "x"`}, rest: "1,2\n"},
		{name: "blank lines first", text: "\n\r\n\na\n1\n", want: []string{"a"}, rest: "1\n"},
		{name: "newline in a name", text: "\"a\nb\",c\n1,2\n", want: []string{"a\nb", "c"}, rest: "1,2\n"},
		{name: "header only", text: "a,b", want: []string{"a", "b"}},
		{name: "empty", text: "", fail: "EOF"},
		{name: "BOM only", text: "\xef\xbb\xbf", fail: "EOF"},
		{name: "blank only", text: "\n\n", fail: "EOF"},
		{name: "bad quote", text: "a,b\"c\n1\n", fail: `the header line "a,b\"c" has a misplaced or missing quote`},
		{name: "unterminated", text: "a,\"b\n1\n", fail: `the header line "a,\"b" has a misplaced or missing quote`},
		{name: "too long", text: strings.Repeat("a,", 60), fail: "the header line is longer than 100 bytes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			for chunk := 1; chunk < 20; chunk++ {
				c := NewCutter(dialect(100), chunk)
				c.Reset(strings.NewReader(tc.text))
				_, fields, err := c.Header()
				if tc.fail != "" {
					require.EqualError(t, err, tc.fail)
					continue
				}
				require.NoError(t, err)
				require.Equal(t, tc.want, fields)
				require.Equal(t, tc.rest, tc.text[c.Offset():])
				require.Equal(t, int64(1+strings.Count(tc.text[:c.Offset()], "\n")), c.Line())
				var got []byte
				for {
					p, err := c.Next()
					if err != nil {
						break
					}
					got = append(got, p.Data...)
				}
				require.Equal(t, tc.rest, string(got))
			}
		})
	}
}

func TestWantedFieldsBoundMemory(t *testing.T) {
	t.Parallel()
	for _, text := range []string{strings.Repeat(",", 100_000) + "\n", strings.Repeat(",", 100_000) + "\"\"\n"} {
		d := dialect(1 << 20)
		r := NewRecords(&d, []byte(text), 1, 3)
		require.True(t, r.Next())
		require.Equal(t, 100_001, r.Count)
		require.Len(t, r.Fields, 4)
		require.LessOrEqual(t, cap(r.Fields), 4)
	}
}

// Memory stays flat however long a record is.
func TestLongRecordInFlatMemory(t *testing.T) {
	t.Parallel()
	d := dialect(1 << 10)
	c := NewCutter(d, 512)
	c.Reset(io.MultiReader(strings.NewReader("a\n"), io.LimitReader(repeat('x'), 64<<20), strings.NewReader("\nb\n")))
	got := pieces(t, c, d)
	require.Len(t, got, 3)
	require.Equal(t, FaultLong, got[1].Fault)
	require.Equal(t, int64(3), got[2].Line)
	require.LessOrEqual(t, len(c.buf), 4<<10)
}

type repeat byte

func (r repeat) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(r)
	}
	return len(p), nil
}

// The work stays linear when every line begins a quote that nobody closes.
func TestForgottenQuotesAreLinear(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"a,\"bc\n", "\"a\"\"\n", "\"\"a\"\"\n", "a\n"} {
		text := "\"" + strings.Repeat(line, 200_000)
		d := dialect(1 << 30)
		c := NewCutter(d, 64<<10)
		c.Reset(strings.NewReader(text))
		n := 0
		for {
			p, err := c.Next()
			if err != nil {
				break
			}
			r := NewWalk(&d, p.Data, p.Line)
			for r.Next() {
				n++
			}
		}
		require.GreaterOrEqual(t, n, 100_000, fmt.Sprintf("%q", line))
	}
}

func FuzzCutting(f *testing.F) {
	f.Add([]byte("a,b\n1,\"x\ny\"\n\"bad\n"), uint8(3), uint8(20))
	f.Add([]byte("\"a\n234567\"\n1\n"), uint8(1), uint8(10))
	f.Fuzz(func(t *testing.T, text []byte, chunk, max uint8) {
		d := dialect(1 + int(max))
		if max > 200 {
			d.MaxRecord = 1 << 20
		}
		if chunk%2 == 0 {
			d.Comment = '#'
		}
		sameRecords(t, d, text, 1+int(chunk), bytes.NewReader(text))
		all := direct(d, text, 0, 1)
		for i, r := range all {
			if i > 8 {
				break
			}
			c := NewCutter(d, 1+int(chunk))
			c.Reset(bytes.NewReader(text))
			require.NoError(t, c.SkipTo(r.Start, r.Line))
			require.Equal(t, all[i:], pieces(t, c, d))
		}
	})
}

// FuzzAgainstStdlib: where encoding/csv finds no fault, the records are the same,
// but for CR LF in quotes, and so is the place of each.
func FuzzAgainstStdlib(f *testing.F) {
	for seed := range uint64(40) {
		f.Add(randomFile(rand.New(rand.NewPCG(seed, 3)), 5, 3))
		f.Add(randomText(rand.New(rand.NewPCG(seed, 4)), 40))
	}
	f.Fuzz(againstStdlib)
}

func TestAgainstStdlib(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20_000) {
		r := rand.New(rand.NewPCG(seed, 5))
		if seed%2 == 0 {
			againstStdlib(t, randomText(r, r.IntN(60)))
		} else {
			againstStdlib(t, randomFile(r, r.IntN(6), 1+r.IntN(4)))
		}
	}
}

func againstStdlib(t *testing.T, text []byte) {
	std := csv.NewReader(bytes.NewReader(text))
	std.FieldsPerRecord = -1
	var want []found
	for {
		fields, err := std.Read()
		if err == io.EOF {
			break
		}
		if err != nil {
			want = nil
			std = nil
			break
		}
		line, _ := std.FieldPos(0)
		want = append(want, found{Line: int64(line), End: std.InputOffset(), Fields: fields})
	}
	got := direct(dialect(1<<20), text, 0, 1)
	if std == nil { // both find fault, or a file that encoding/csv gives up has a bad record here too
		bad := false
		for _, g := range got {
			bad = bad || g.Fault != Fine
		}
		require.True(t, bad, "encoding/csv refuses %q", text)
		return
	}
	for i := range got {
		require.Equal(t, Fine, got[i].Fault, "%q", text)
		got[i].Start = 0
		for k := range got[i].Fields {
			got[i].Fields[k] = strings.ReplaceAll(got[i].Fields[k], "\r\n", "\n")
		}
	}
	require.Equal(t, want, got, "%q", text)
}

func FuzzHeader(f *testing.F) {
	f.Add([]byte("\xef\xbb\xbf\"a\",b\n1,2\n"), uint8(3))
	f.Fuzz(func(t *testing.T, text []byte, chunk uint8) {
		c := NewCutter(dialect(64), 1+int(chunk))
		c.Reset(bytes.NewReader(text))
		raw, fields, err := c.Header()
		if err != nil {
			return
		}
		require.NotEmpty(t, fields)
		require.True(t, bytes.Contains(text, raw))
	})
}

// A piece that has been released serves as another one's memory; those that have not
// are left alone.
func TestPiecesOwnTheirMemory(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	for i := range 50_000 {
		fmt.Fprintf(&text, "%d,\"some text, of record %d\"\n", i, i)
	}
	const chunk = 100 << 10
	c := NewCutter(dialect(1<<20), chunk)
	c.Reset(bytes.NewReader(text.Bytes()))
	var kept []Piece
	var want [][]byte
	pooled := 0
	for {
		p, err := c.Next()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		require.Equal(t, string(text.Bytes()[p.Start:p.End]), string(p.Data))
		require.GreaterOrEqual(t, p.Held(), len(p.Data))
		require.LessOrEqual(t, p.Held(), 2*chunk)
		if len(kept)%2 == 0 {
			for i := range p.Data {
				p.Data[i] = '"'
			}
			p.Release()
			require.Nil(t, p.Data)
			p.Release() // once is enough
			pooled++
			kept, want = append(kept, Piece{}), append(want, nil)
			continue
		}
		kept, want = append(kept, p), append(want, bytes.Clone(p.Data))
	}
	require.Greater(t, pooled, 5)
	for i := range kept {
		require.Equal(t, string(want[i]), string(kept[i].Data))
	}
	// A small text does not hold a whole buffer.
	c.Reset(strings.NewReader("1,2\n3,4\n"))
	p, err := c.Next()
	require.NoError(t, err)
	require.Equal(t, 8, p.Held())
}

// plainLine takes nothing that Scan sees otherwise.
func TestPlainLine(t *testing.T) {
	t.Parallel()
	taken := 0
	for seed := range uint64(20_000) {
		r := rand.New(rand.NewPCG(seed, 6))
		d := dialect(1 << 20)
		if seed%2 == 0 {
			d.Comment = '#'
		}
		text := randomText(r, 1+r.IntN(60))
		if seed%3 > 0 {
			text = append(randomFile(r, 1+r.IntN(3), 1+r.IntN(4)), text...)
		}
		n := d.plainLine(text)
		if n == 0 {
			continue
		}
		taken++
		s, ok := d.Scan(text, false)
		require.True(t, ok)
		require.Equal(t, Span{Len: n, Record: true}, s, "%q", text)
	}
	require.Greater(t, taken, 2000)
}

func BenchmarkWalk(b *testing.B) {
	for name, line := range map[string]string{
		"bare":   "12345,5791,978,3,101.75,305.25,2025-01-03 14:20:40,efectivo,pendiente\n",
		"quoted": "\"12345\",\"5791\",\"978\",\"3\",\"101.75\",\"305.25\",\"2025-01-03 14:20:40\",\"efectivo\",\"pendiente\"\n",
	} {
		data := []byte(strings.Repeat(line, 7000))
		d := dialect(16 << 20)
		b.Run("records/"+name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				r := NewRecords(&d, data, 1, 9)
				for r.Next() {
				}
			}
			b.ReportMetric(float64(b.N)*7000/b.Elapsed().Seconds()/1e6, "Mrows/s")
		})
		b.Run("cut/"+name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			c := NewCutter(d, 256<<10)
			for b.Loop() {
				c.Reset(bytes.NewReader(data))
				for {
					p, err := c.Next()
					if err != nil {
						break
					}
					p.Release()
				}
			}
			b.ReportMetric(float64(b.N)*7000/b.Elapsed().Seconds()/1e6, "Mrows/s")
		})
	}
}
