package csvtext

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

func lenient(max int) Dialect {
	return Dialect{Delimiter: ',', Quote: '"', MaxRecord: max, Lenient: true}
}

// referenceRecord reads one lenient record of commas and double quotes from the start of
// text, as dialect.go has it, character by character. long: it has no line end within max bytes.
func referenceRecord(text string, max int) (fields []string, size int, long bool) {
	win := text
	whole := len(text) <= max // what is behind the window is not looked at
	if !whole {
		win = text[:max]
	}
	lineEnd := func(i int) (n int, ok bool) { // at i
		switch rest := win[i:]; {
		case rest == "" || rest == "\r":
			return len(rest), whole
		case rest[0] == '\n':
			return 1, true
		case strings.HasPrefix(rest, "\r\n"):
			return 2, true
		}
		return 0, false
	}
	fieldEnd := func(i int) bool {
		_, ok := lineEnd(i)
		return ok || i < len(win) && win[i] == ','
	}
	bareEnd := func(i int) int {
		for i < len(win) && win[i] != ',' {
			if n, ok := lineEnd(i); ok && (n > 0 || i == len(win)) {
				break
			}
			i++
		}
		return i
	}
	undouble := func(s string) string { return strings.ReplaceAll(s, `""`, `"`) }
	// single gives the first quote at or after i that is no half of a doubled one; -1: none.
	single := func(i int) int {
		for ; i < len(win); i++ {
			if win[i] == '"' {
				if i+1 < len(win) && win[i+1] == '"' {
					i++
					continue
				}
				return i
			}
		}
		return -1
	}
	at := 0
	for {
		open := at
		field, end := "", bareEnd(open)
		field = win[open:end]
		if open < len(win) && win[open] == '"' {
			first := single(open + 1)
			switch {
			case first < 0:
			case fieldEnd(first + 1):
				field, end = undouble(win[open+1:first]), first+1
			case first+1 == len(win): // nobody can know
			case strings.Contains(win[open:first], "\n"):
			default:
				line := len(win)
				if n := strings.IndexByte(win[first:], '\n'); n >= 0 {
					line = first + n
				}
				if n := strings.Index(win[first:], `,"`); n >= 0 {
					line = min(line, first+n)
				}
				end = bareEnd(first + 1)
				field = undouble(win[open+1:first]) + win[first+1:end]
				for q := single(first + 1); q >= 0 && q < line; q = single(q + 1) {
					if fieldEnd(q + 1) {
						field, end = undouble(win[open+1:q]), q+1
						break
					}
				}
			}
		}
		fields = append(fields, field)
		at = end
		if at < len(win) && win[at] == ',' {
			at++
			continue
		}
		n, ok := lineEnd(at)
		return fields, at + n, !ok
	}
}

// reference is all records of a text; a comment may be '#' or 0.
func reference(text string, max int) (out []found) {
	line := int64(1)
	for pos := 0; pos < len(text); {
		rest := text[pos:]
		record, size := true, 0
		f := found{Start: int64(pos), Line: line}
		switch {
		case rest[0] == '\n' || rest == "\r":
			record, size = false, 1
		case strings.HasPrefix(rest, "\r\n"):
			record, size = false, 2
		default:
			var long bool
			if f.Fields, size, long = referenceRecord(rest, max); long {
				f.Fields, f.Fault, size = nil, FaultLong, len(rest)
				if n := strings.IndexByte(rest[max:], '\n'); n >= 0 {
					size = max + n + 1
				}
			}
		}
		line += int64(strings.Count(rest[:size], "\n"))
		pos += size
		if f.End = int64(pos); record {
			out = append(out, f)
		}
	}
	return out
}

func TestLenientRecords(t *testing.T) {
	t.Parallel()
	type rec = []string
	for _, tc := range []struct {
		name, text string
		want       []rec
	}{
		{"bare quote", "a\"b,1\n2,3\n", []rec{{`a"b`, "1"}, {"2", "3"}}},
		{"inches", "1,5\" disk\n\"x\",2\n", []rec{{"1", `5" disk`}, {"x", "2"}}},
		{"space before a quote is bare", "1, \"a\"\n2,b\n", []rec{{"1", ` "a"`}, {"2", "b"}}},
		{"text after the closing quote", "\"a\"b,1\n2,3\n", []rec{{"ab", "1"}, {"2", "3"}}},
		{"text after the closing quote, then a quoted field", "\"a\"b,\"c\"\n", []rec{{"ab", "c"}}},
		{"text after the closing quote, CR LF", "1,\"a\"b\r\n2,3\r\n", []rec{{"1", "ab"}, {"2", "3"}}},
		{"a space behind it", "\"a\" ,\"b\" \n", []rec{{"a ", "b "}}},
		{"single quotes inside", "\"5\" disk\",2\n", []rec{{`5" disk`, "2"}}},
		{"a name in quotes", "1,\"John \"Johnny\" Doe\",\"x\"\n", []rec{{"1", `John "Johnny" Doe`, "x"}}},
		{"a delimiter behind a single quote", "\"he said \"hi, you\" ok\",x\n", []rec{{`he said "hi, you" ok`, "x"}}},
		{"single and doubled", "\"a \"\"b\"\" c\" d\",x\n", []rec{{`a "b" c" d`, "x"}}},
		{"a field over two lines behind a bare quote", "a\"b,\"x\ny\",1\n2,3\n", []rec{{`a"b`, "x\ny", "1"}, {"2", "3"}}},
		{"forgotten: the quote is text", "1,\"abc\n2,d\n3,e\n", []rec{{"1", `"abc`}, {"2", "d"}, {"3", "e"}}},
		{"forgotten, then quotes", "1,\"abc\n2,\"d\"\n3,\"e\"\n", []rec{{"1", `"abc`}, {"2", "d"}, {"3", "e"}}},
		{"forgotten behind a field of two lines", "1,\"a\nb\",\"c\n2,\"x\",3\n", []rec{{"1", "a\nb", `"c`}, {"2", "x", "3"}}},
		{"forgotten in the last line", "1,2\n3,\"abc", []rec{{"1", "2"}, {"3", `"abc`}}},
		{"all lines forgotten", "\"a\n\"b\n\"c\n", []rec{{`"a`}, {`"b`}, {`"c`}}},
		{"a lone CR behind the quote", "\"a\"\rb,1\n", []rec{{"a\rb", "1"}}},
		{"two CRs", "\"a\"\r\r\n", []rec{{"a\r"}}},
		{"a quote alone", "\"", []rec{{`"`}}},
		{"a doubled quote never closed", "\"a\"\"\n1\n", []rec{{`"a""`}, {"1"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			d := lenient(1 << 20)
			var got []rec
			for _, f := range direct(d, []byte(tc.text), 0, 1) {
				require.Equal(t, Fine, f.Fault)
				got = append(got, f.Fields)
			}
			require.Equal(t, tc.want, got)
			checkLenient(t, tc.text, 1<<20)
			for max := range len(tc.text) + 2 {
				checkLenient(t, tc.text, 1+max)
			}
		})
	}
}

// checkLenient compares with the reference, whole and in pieces, and from each record on (rules D4, D6).
func checkLenient(t testing.TB, text string, max int) {
	t.Helper()
	d := lenient(max)
	want := reference(text, max)
	require.Equal(t, want, direct(d, []byte(text), 0, 1), "max %d, %q", max, text)
	for _, chunk := range []int{1, 3, 40} {
		sameRecords(t, d, []byte(text), chunk, strings.NewReader(text))
	}
	sameRecords(t, d, []byte(text), 16, iotest.OneByteReader(strings.NewReader(text)))
	for i, f := range want {
		if i > 4 {
			break
		}
		c := NewCutter(d, 5)
		c.Reset(strings.NewReader(text))
		require.NoError(t, c.SkipTo(f.Start, f.Line))
		require.Equal(t, want[i:], pieces(t, c, d), "from %d of %q", f.Start, text)
		c.Reset(strings.NewReader(text))
		c.Stop(f.Start)
		require.Equal(t, len(want[:i]), len(pieces(t, c, d)), "up to %d of %q", f.Start, text)
	}
	// Lenient reads what is strict, and the same.
	strict := dialect(max)
	for _, f := range direct(strict, []byte(text), 0, 1) {
		if f.Fault == Fine {
			fields, size, long := referenceRecord(text[f.Start:], max)
			require.False(t, long)
			require.Equal(t, f.Fields, fields)
			require.Equal(t, f.End-f.Start, int64(size))
		}
	}
}

func TestLenientAgainstReference(t *testing.T) {
	t.Parallel()
	n := uint64(6000)
	if testing.Short() {
		n = 600
	}
	for seed := range n {
		r := rand.New(rand.NewPCG(seed, 10))
		text := randomText(r, r.IntN(60))
		if seed%3 == 0 {
			text = randomFile(r, r.IntN(6), 1+r.IntN(4))
		}
		if len(text) > 0 && seed%2 == 0 {
			text[r.IntN(len(text))] = '"'
		}
		max := 1 << 20
		if r.IntN(2) == 0 {
			max = 1 + r.IntN(40)
		}
		checkLenient(t, string(text), max)
	}
}

func FuzzLenient(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(string(randomText(rand.New(rand.NewPCG(seed, 11)), 40)), uint8(seed*10))
	}
	f.Fuzz(func(t *testing.T, text string, max uint8) {
		size := 1 + int(max)
		if max > 200 {
			size = 1 << 20
		}
		checkLenient(t, text, size)
	})
}

// No line is looked at more than a few times, however its quotes lie.
func TestLenientIsLinear(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"a,\"bc\n", "\"a\"\"\n", "\"\"a\"\"\n", "a\n", "\"a\"b,\n", "\"a\" \"b,c\n", "\"\"\"\n"} {
		text := "\"" + strings.Repeat(line, 200_000)
		d := lenient(1 << 30)
		c := NewCutter(d, 64<<10)
		c.Reset(strings.NewReader(text))
		n := 0
		for {
			p, err := c.Next()
			if err != nil {
				break
			}
			r := NewRecords(&d, p.Data, p.Line, 5)
			for r.Next() {
				n++
			}
		}
		require.GreaterOrEqual(t, n, 90_000, fmt.Sprintf("%q", line))
	}
}

func TestSkipLines(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		text string
		skip int
		rest string
	}{
		{"a\nb\nc\n", 0, "a\nb\nc\n"},
		{"a\nb\nc\n", 2, "c\n"},
		{"\xef\xbb\xbf\"a\n\xef\xbb\xbfb\nc\n", 1, "\xef\xbb\xbfb\nc\n"},
		{"\xef\xbb\xbfa\n", 0, "a\n"},
		{strings.Repeat("x", 1000) + "\r\n\r\nc", 2, "c"},
		{"a\nb", 2, ""},
		{"a\nb", 9, ""},
		{"", 1, ""},
	} {
		for chunk := 1; chunk < 20; chunk++ {
			c := NewCutter(dialect(100), chunk)
			c.Reset(strings.NewReader(tc.text))
			require.NoError(t, c.SkipLines(tc.skip))
			require.Equal(t, tc.rest, tc.text[c.Offset():])
			require.Equal(t, int64(1+strings.Count(tc.text[:c.Offset()], "\n")), c.Line())
		}
	}
	c := NewCutter(dialect(100), 3)
	c.Reset(io.MultiReader(strings.NewReader("a\nb"), iotest.ErrReader(io.ErrClosedPipe)))
	require.ErrorIs(t, c.SkipLines(2), io.ErrClosedPipe)
	c.Reset(io.MultiReader(strings.NewReader("a\n1\n"), iotest.ErrReader(io.ErrClosedPipe)))
	require.Equal(t, "a\n1\n", string(c.Peek(16)))
	_, fields, err := c.Header()
	require.NoError(t, err, "what comes before the damage is read")
	require.Equal(t, []string{"a"}, fields)
	c.Reset(bytes.NewReader([]byte("\n\xef\xbb\xbfa\n")))
	require.NoError(t, c.SkipLines(1))
	_, fields, err = c.Header()
	require.NoError(t, err)
	require.Equal(t, []string{"\ufeffa"}, fields, "only at the start is it a byte order mark")
}
