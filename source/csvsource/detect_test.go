package csvsource

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// way is how a generated file is written, and what Detect should say.
type way struct {
	delimiter rune
	quote     rune   // -1: none
	quoting   string // none, needed, all
	encoding  Encoding
	bom       bool
	header    bool
	decimal   rune
	thousands bool
	lead      int // lines before the header
	comment   bool
	end       string
	rows      int
	shape     string
}

// shapes of rows: the header, and a cell of each column.
var shapes = map[string]struct {
	header []string
	cell   func(r *rand.Rand, i, j int, w way) string
}{
	"ventas": {[]string{"venta_id", "cliente", "precio", "fecha", "pago", "nota"}, func(r *rand.Rand, i, j int, w way) string {
		switch j {
		case 0:
			return strconv.Itoa(i + 1)
		case 1:
			return []string{"Muñoz", "Pérez Gil", "Ñandú", "Ana María", "O'Neill"}[r.IntN(5)]
		case 2:
			return spellNumber(w, r.IntN(3_000_000))
		case 3:
			return fmt.Sprintf("2025-%02d-%02d 14:%02d:40", 1+r.IntN(12), 1+r.IntN(28), r.IntN(60))
		case 4:
			return []string{"tarjeta", "efectivo", "transferencia"}[r.IntN(3)]
		}
		return []string{"", "", "entregar mañana", "sin prisa, por favor", "llamar antes; dos veces"}[r.IntN(5)]
	}},
	"text": {[]string{"Name", "Città", "Comment", "Author"}, func(r *rand.Rand, i, j int, w way) string {
		switch j {
		case 0:
			return []string{"Zoë", "Müller", "Łukasz Nowak", "José", "Anne-Marie"}[r.IntN(5)] + " " + string(rune('A'+r.IntN(26)))
		case 1:
			return []string{"Köln", "Paris", "München", "Bogotá"}[r.IntN(4)]
		case 2:
			return []string{"was late, as always", "said \"no\"", "ok", "it's fine", "10:30 is better; or 11:00"}[r.IntN(5)]
		}
		return []string{"me", "you", "them"}[r.IntN(3)]
	}},
	"times": {[]string{"device", "at", "level", "ok"}, func(r *rand.Rand, i, j int, w way) string {
		switch j {
		case 0:
			return fmt.Sprintf("dev-%c%d", 'a'+r.IntN(4), r.IntN(9))
		case 1:
			return fmt.Sprintf("%02d:%02d:%02d", r.IntN(24), r.IntN(60), r.IntN(60))
		case 2:
			return spellNumber(w, r.IntN(9000))
		}
		return []string{"true", "false"}[r.IntN(2)]
	}},
	"numbers": {[]string{"x", "y", "z"}, func(r *rand.Rand, i, j int, w way) string { return spellNumber(w, r.IntN(100_000)) }},
	"wide": {strings.Split("a b c d e f g h i j k l m n o p q r s t u v w x y z", " "), func(r *rand.Rand, i, j int, w way) string {
		if j%3 == 0 {
			return []string{"", "", "x", "yes, indeed"}[r.IntN(4)]
		}
		return strconv.Itoa(r.IntN(1000))
	}},
}

func spellNumber(w way, cents int) string {
	whole := strconv.Itoa(cents / 100)
	if w.thousands {
		sep := "."
		if w.decimal == '.' {
			sep = ","
		}
		for i := len(whole) - 3; i > 0; i -= 3 {
			whole = whole[:i] + sep + whole[i:]
		}
	}
	return fmt.Sprintf("%s%c%02d", whole, w.decimal, cents%100)
}

func (w way) file(r *rand.Rand) []byte {
	shape := shapes[w.shape]
	var b strings.Builder
	if w.bom {
		b.WriteRune('\ufeff')
	}
	for i := range w.lead {
		b.WriteString([]string{"Informe de ventas", "Created 2025-11-26", ""}[i%3] + w.end)
	}
	line := func(cells []string) {
		for i, c := range cells {
			if i > 0 {
				b.WriteRune(w.delimiter)
			}
			q := string(w.quote)
			switch {
			case w.quote == -1:
				c = strings.Map(func(r rune) rune {
					if r == w.delimiter || r == '"' {
						return ' '
					}
					return r
				}, c)
			case w.quoting == "all", strings.ContainsAny(c, q+string(w.delimiter)+"\r\n"):
				c = q + strings.ReplaceAll(c, q, q+q) + q
			}
			b.WriteString(c)
		}
		b.WriteString(w.end)
	}
	if w.header {
		line(shape.header)
	}
	for i := range w.rows {
		if w.comment && i%5 == 0 {
			b.WriteString("# a remark, " + strconv.Itoa(i) + w.end)
		}
		cells := make([]string, len(shape.header))
		for j := range cells {
			cells[j] = shape.cell(r, i, j, w)
		}
		line(cells)
	}
	text := b.String()
	if w.encoding == Latin1 || w.encoding == Windows1252 {
		text = strings.ReplaceAll(text, "Ł", "L")
		if w.encoding == Windows1252 {
			text = strings.ReplaceAll(text, "Köln", "Köln – €")
		}
	}
	return w.encoding.code().Encode(nil, []byte(text))
}

// wrong is what d has missed.
func (w way) wrong(d Dialect, file []byte) (out []string) {
	want := func(what string, ok bool) {
		if !ok {
			out = append(out, what)
		}
	}
	same := d.Encoding == w.encoding || bytes.Equal(d.Encoding.code().Decode(nil, file), w.encoding.code().Decode(nil, file))
	want("encoding", same)
	want("delimiter", d.Delimiter == w.delimiter)
	want("quote", d.Quote == w.quote || w.quote == -1 && d.Quote == '"' || w.quoting == "needed" && !bytes.ContainsRune(w.encoding.code().Decode(nil, file), w.quote))
	want("header", d.HasHeader == w.header)
	// Without a header, the comment above the first record may count as one of those lines.
	want("lines before", d.SkipLines == w.lead || d.SkipLines == w.lead+1 && w.comment && !w.header)
	want("comment", (d.Comment == '#') == w.comment)
	want("decimal", d.Decimal == w.decimal)
	return out
}

// ways are all combinations that people write, each once.
func ways() (out []way) {
	for _, shape := range []string{"ventas", "text", "times", "numbers", "wide"} {
		for _, delimiter := range []rune{',', ';', '\t', '|'} {
			for _, quoting := range []string{"none", "needed", "all", "single"} {
				for _, e := range []struct {
					e   Encoding
					bom bool
				}{{UTF8, false}, {UTF8, true}, {UTF16LE, true}, {UTF16LE, false}, {UTF16BE, true}, {UTF16BE, false}, {Latin1, false}, {Windows1252, false}} {
					for _, header := range []bool{true, false} {
						for _, numbers := range []struct {
							decimal   rune
							thousands bool
						}{{'.', false}, {',', false}, {',', true}, {'.', true}} {
							if shape == "text" || shape == "wide" {
								if numbers.decimal == ',' || numbers.thousands {
									continue
								}
							}
							w := way{delimiter: delimiter, quote: '"', quoting: quoting, encoding: e.e, bom: e.bom, header: header, decimal: numbers.decimal, thousands: numbers.thousands, shape: shape}
							switch quoting {
							case "none":
								w.quote = -1
								if delimiter == ',' && (numbers.decimal == ',' || numbers.thousands) {
									continue // no such file can be read
								}
							case "single":
								w.quote, w.quoting = '\'', "all"
							}
							out = append(out, w)
						}
					}
				}
			}
		}
	}
	for i := range out { // the rest of the dimensions by turns
		r := rand.New(rand.NewPCG(uint64(i), 20))
		out[i].lead = []int{0, 0, 0, 3}[r.IntN(4)]
		out[i].comment = r.IntN(6) == 0
		out[i].end = []string{"\n", "\r\n"}[r.IntN(2)]
		out[i].rows = []int{8, 30, 200}[r.IntN(3)]
	}
	return out
}

func TestDetectAccuracy(t *testing.T) {
	t.Parallel()
	missed := map[string]int{}
	by := map[string][2]int{} // right, all
	all, right := 0, 0
	var worst []string
	for i, w := range ways() {
		if testing.Short() && i%11 > 0 {
			continue
		}
		file := w.file(rand.New(rand.NewPCG(uint64(i), 21)))
		d, err := Detect(bytes.NewReader(file))
		require.NoError(t, err)
		wrong := w.wrong(d, file)
		all++
		if len(wrong) == 0 {
			right++
		} else if len(worst) < 25 {
			worst = append(worst, fmt.Sprintf("%v missed of %+v: %v\n\t\t%s", wrong, w, d, strings.Join(d.Why, "\n\t\t")))
		}
		for _, what := range wrong {
			missed[what]++
		}
		for _, key := range []string{"shape " + w.shape, fmt.Sprintf("delimiter %q", w.delimiter), "encoding " + w.encoding.String(), fmt.Sprintf("quote %q %s", max(w.quote, ' '), w.quoting), fmt.Sprintf("rows %d", w.rows), fmt.Sprintf("header %v", w.header)} {
			n := by[key]
			n[1]++
			if len(wrong) == 0 {
				n[0]++
			}
			by[key] = n
		}
	}
	t.Logf("%d files, %d right in everything: %.1f %%", all, right, 100*float64(right)/float64(all))
	for _, what := range []string{"encoding", "delimiter", "quote", "header", "lines before", "comment", "decimal"} {
		t.Logf("  %-14s %6.2f %%", what, 100-100*float64(missed[what])/float64(all))
	}
	keys := []string{}
	for k := range by {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, cmp.Compare)
	for _, k := range keys {
		t.Logf("  %-26s %4d of %4d", k, by[k][0], by[k][1])
	}
	for _, w := range worst {
		t.Log(w)
	}
	require.Greater(t, float64(right)/float64(all), 0.98)
}

// Files of which other detectors are known to think otherwise.
func TestDetectHardCases(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, text string
		delimiter  rune
		header     bool
		skip       int
		more       func(d Dialect) bool
	}{
		{"CleverCSV #35: times have more colons than there are commas", strings.Repeat("bytearray(b'fake data'),20:53:06,2019-09-01T19:28:21\n", 12), ',', false, 0, nil},
		{"CPython #119123: a list in brackets", "id;has_data;has_info;is_sort;a;b;c;d;cost;group;sub_group;merge\n1;False;False;False;True;;;;62.25;['345'];['10'];UNKNOWN\n2;False;False;False;True;;;;54.00;['235'];['256'];UNKNOWN\n4;False;False;False;True;;;;46.50;['112', '112'];['765', '766'];UNKNOWN\n6;False;False;False;True;;;;13.27;['510'];['23'];UNKNOWN\n", ';', true, 0, nil},
		{"rich-cli #38: a small table of words", "Features,rich,markdown,rich-cli\nhas tables,x,x\neasy to use,x,x,x\n", ',', true, 0, nil},
		{"CleverCSV #99: markdown in quotes", "id,text\n1,\"**bold** and *more*\n* one\n* two\"\n2,\"* a\n* b\n* c\n\"\n3,plain\n4,\"**x** *y*\"\n", ',', true, 0, nil},
		{"pandas #53035: one column", "name\nAnna\nBert\nCarl\n", ',', true, 0, func(d Dialect) bool { return d.Fields == 1 }},
		{"names of two words", "John Smith\nAnna Miller\nBert Long\nCarl Short\n", ',', true, 0, func(d Dialect) bool { return d.Fields == 1 }},
		{"decimal commas", "a;b;c\n1,5;2,5;3,5\n4,25;1,75;9,0\n", ';', true, 0, func(d Dialect) bool { return d.Decimal == ',' }},
		{"decimal commas alone", "1,5;2,5\n4,25;1,75\n3,5;0,5\n", ';', false, 0, func(d Dialect) bool { return d.Decimal == ',' }},
		{"sep=", "sep=|\r\na|b,c;d\r\n1|2,3;4\r\n", '|', true, 1, nil},
		{"a title and an empty line", "Sales report\n\nid,amount\n1,5.5\n2,6.5\n3,1.0\n", ',', true, 2, nil},
		{"comments", "# made by hand\n# do not edit, ever\nid,amount\n1,5.5\n2,6.5\n", ',', true, 0, func(d Dialect) bool { return d.Comment == '#' || d.SkipLines == 2 }},
		{"a header that begins with #", "#id,amount\n1,5.5\n2,6.5\n3,7.5\n", ',', true, 0, func(d Dialect) bool { return d.Comment == 0 }},
		{"inches", "item|size\ndisk|5\" wide\nbox|3\" high\ncup|2\" round\n", '|', true, 0, func(d Dialect) bool { return d.Quote == -1 }},
		{"tabs and commas", "who\twhat\nme\ta, b, c\nyou\td, e\nthem\tf\n", '\t', true, 0, nil},
		{"JSON in a field", "id,doc\n1,\"{\"\"a\"\": 1, \"\"b\"\": 2}\"\n2,\"{\"\"a\"\": 3, \"\"b\"\": 4}\"\n", ',', true, 0, func(d Dialect) bool { return d.Quote == '"' }},
		{"a quoted field over lines", "id,text\n1,\"one;\ntwo;\nthree;\"\n2,\"four;\nfive;\"\n", ',', true, 0, nil},
		{"header only", "id,amount,when\n", ',', true, 0, nil},
		{"numbers only", "1,2,3\n4,5,6\n7,8,9\n", ',', false, 0, nil},
		{"years as columns", "country,2019,2020,2021\nSpain,1.5,2.5,3.5\nPeru,2.5,3.5,4.5\n", ',', true, 0, nil},
	} {
		d, err := Detect(strings.NewReader(tc.text))
		require.NoError(t, err)
		if d.Delimiter != tc.delimiter || d.HasHeader != tc.header || d.SkipLines != tc.skip && tc.more == nil || tc.more != nil && !tc.more(d) {
			t.Errorf("%s: %v\n\t%s", tc.name, d, strings.Join(d.Why, "\n\t"))
		}
	}
}

func TestDetectOddFiles(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, text string
		why        string
		confident  bool
	}{
		{"0 bytes", "", "there is no text", false},
		{"only a BOM", "\xef\xbb\xbf", "there is no text", false},
		{"only a BOM of UTF-16", "\xff\xfe", "there is no text", false},
		{"old Macintosh", "a,b\r1,2\r3,4\r", "CR alone", false},
		{"UTF-32", "\xff\xfe\x00\x00a\x00\x00\x00,\x00\x00\x00b\x00\x00\x00", "UTF-32", false},
		{"binary", "\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x03\x00>\x00\x01\x00\x00\x00\xff\xfe\x80\x81\n\x00", "NUL", false},
		{"damaged UTF-8", strings.Repeat("ñ,ü\n", 20) + "\xff,b\n", "1 bytes are not", true},
		{"undefined in Windows-1252", "a,b\ncaf\xe9\x81,1\nx,2\n", "no meaning in Windows-1252", true},
	} {
		d, err := Detect(strings.NewReader(tc.text))
		require.NoError(t, err)
		require.Contains(t, strings.Join(d.Why, "\n"), tc.why, tc.name)
		require.Equal(t, tc.confident, d.Confidence > 0.2, "%s: %v %q", tc.name, d, d.Why)
	}
	_, err := Detect(iotest.ErrReader(io.ErrClosedPipe))
	require.ErrorIs(t, err, io.ErrClosedPipe)
}

// The first part decides, however long the file and however it comes.
func TestDetectReadsTheFirstPart(t *testing.T) {
	t.Parallel()
	for _, e := range []Encoding{UTF8, UTF16LE, Windows1252} {
		w := way{delimiter: ';', quote: '"', quoting: "needed", encoding: e, header: true, decimal: ',', end: "\n", rows: 9000, shape: "ventas"}
		file := w.file(rand.New(rand.NewPCG(1, 22)))
		require.Greater(t, len(file), detectBytes)
		want := detect(file[:detectBytes], false)
		require.Empty(t, w.wrong(want, file), want.Why)
		for _, r := range []io.Reader{bytes.NewReader(file), iotest.HalfReader(bytes.NewReader(file)), iotest.DataErrReader(bytes.NewReader(file[:detectBytes+1]))} {
			got, err := Detect(r)
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
	}
}

func FuzzDetect(f *testing.F) {
	for i, w := range ways() {
		if i%97 == 0 {
			w.rows = 6
			f.Add(w.file(rand.New(rand.NewPCG(uint64(i), 23))))
		}
	}
	f.Add([]byte("sep=;\na;b\n"))
	f.Add([]byte("\xff\xfe\x00"))
	f.Fuzz(func(t *testing.T, file []byte) {
		want, err := Detect(bytes.NewReader(file))
		require.NoError(t, err)
		got, err := Detect(iotest.OneByteReader(bytes.NewReader(file)))
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.True(t, want.Confidence >= 0 && want.Confidence <= 1, want.Confidence)
		require.NotEmpty(t, want.Why)
		for _, s := range append(want.Why, want.String()) {
			require.True(t, utf8.ValidString(s))
		}
		for _, e := range []int{0, len(file) / 2, len(file)} {
			detect(file[:e], false)
		}
	})
}
