package row

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
)

type venta struct {
	VentaID        int64
	ClienteID      int64
	ProductoID     int64
	Cantidad       int64
	PrecioUnitario float64
	Total          float64
	FechaVenta     time.Time `leat:"fecha_venta,time=2006-01-02 15:04:05"`
	MetodoPago     string
	Estado         string
}

// ventas are lines of the comparisons' file; quote is "" or what is around each cell.
func ventas(rows int, quote string) []byte {
	pay := []string{"tarjeta", "efectivo", "transferencia"}
	state := []string{"completada", "pendiente", "cancelada"}
	base := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	var b bytes.Buffer
	for j := range rows {
		q, p := j%5+1, float64(j*37%50000)/100+1
		for i, cell := range []string{
			fmt.Sprint(j), fmt.Sprint(j*7919%50000 + 1), fmt.Sprint(j%977 + 1), fmt.Sprint(q), fmt.Sprintf("%.2f", p), fmt.Sprintf("%.2f", p*float64(q)),
			base.Add(time.Duration(20*j) * time.Second).Format(time.DateTime), pay[j%3], state[j/3%3],
		} {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(quote + cell + quote)
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}

func planOf[T any](tb testing.TB, f Form) *Plan {
	rt := mustOf[T](tb)
	cells := make([]*Column, len(rt.Columns))
	for i := range cells {
		cells[i] = &rt.Columns[i]
	}
	return NewPlan(f, cells)
}

var plainForm = Form{Delimiter: ',', Quote: '"', Comment: '#', Max: 1 << 20}

// padding is what follows a line, so that it is not the text's last.
var padding = strings.Repeat("~", room)

// checkLine reads text as a line of one column, bare and quoted. What Line takes,
// Column.Parse must take, as the same value.
func checkLine[T any](t testing.TB, text string) (taken bool) {
	t.Helper()
	if strings.ContainsAny(text, ",\"\n") || strings.HasSuffix(text, "\r") {
		return false
	}
	c := mustCol[one[T]](t)
	d := planOf[one[T]](t, plainForm).Decoder()
	for _, line := range []string{text + "\n", text + "\r\n", `"` + text + "\"\n", `"` + text + "\"\r\n"} {
		var got, want one[T]
		n := d.Line([]byte(line+padding), 0, unsafe.Pointer(&got))
		if n == 0 {
			continue
		}
		require.Equal(t, len(line), n, "%q", line)
		var err error
		if text == "" {
			err = c.Empty(unsafe.Pointer(&want))
		} else {
			err = c.Parse(unsafe.Pointer(&want), text)
		}
		require.NoError(t, err, "%q is taken", line)
		// Not Equal: -0 is 0 to it.
		require.Equal(t, fmt.Sprintf("%#v", want), fmt.Sprintf("%#v", got), "%q", line)
		taken = true
	}
	return taken
}

func checkLines(t testing.TB, text string) {
	t.Helper()
	checkLine[int8](t, text)
	checkLine[int16](t, text)
	checkLine[int32](t, text)
	checkLine[int64](t, text)
	checkLine[uint8](t, text)
	checkLine[uint64](t, text)
	checkLine[float32](t, text)
	checkLine[float64](t, text)
	checkLine[string](t, text)
	checkLine[time.Time](t, text)
	type seconds struct {
		V time.Time `leat:"v,time=2006-01-02 15:04:05"`
	}
	type day struct {
		V time.Time `leat:"v,time=2006-01-02"`
	}
	checkLineTime[seconds](t, text)
	checkLineTime[day](t, text)
}

func checkLineTime[T any](t testing.TB, text string) {
	t.Helper()
	if strings.ContainsAny(text, ",\"\n\r") {
		return
	}
	var got, want T
	if planOf[T](t, plainForm).Decoder().Line([]byte(text+"\n"+padding), 0, unsafe.Pointer(&got)) > 0 {
		require.NoError(t, mustCol[T](t).Parse(unsafe.Pointer(&want), text), "%q is taken", text)
		require.Equal(t, want, got, "%q", text)
	}
}

func FuzzLine(f *testing.F) {
	for _, s := range timeTexts {
		f.Add(s)
	}
	for _, s := range []string{"0", "-128", "12345678", "123456789012345678", "1234567890123456789", "1.5", "-.5", "5.", ".", "12345.67", "12345678.9", "9007199254740993", "0.1234567890123456789", "tarjeta"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) { checkLines(t, text) })
}

// Numbers of each length and form are read in one go, and as Column.Parse reads them.
func TestLineNumbers(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 9))
	for range 4_000 {
		size := 1 + r.IntN(maxDigits)
		var b strings.Builder
		if r.IntN(4) == 0 {
			b.WriteByte('-')
		}
		for range size {
			b.WriteByte(byte('0' + r.IntN(10)))
		}
		text := b.String()
		require.True(t, checkLine[int64](t, text), text)
		if text[0] != '-' {
			require.True(t, checkLine[uint64](t, text), text)
		}
		at := r.IntN(len(text))
		decimal := text[:at] + "." + text[at:]
		checkLine[float32](t, decimal)
		if m, err := strconv.ParseUint(strings.TrimPrefix(text, "-"), 10, 64); err == nil && m < 1<<53 && decimal[:2] != ".-" {
			require.True(t, checkLine[float64](t, decimal), decimal)
			require.True(t, checkLine[float64](t, text), text)
		}
		checkLines(t, text)
		checkLines(t, decimal)
	}
}

func TestLineTimes(t *testing.T) {
	t.Parallel()
	for _, s := range timeTexts {
		checkLines(t, s)
	}
	for _, s := range []string{"2025-01-02", "2025-01-02 03:04:05", "2025-01-02T03:04:05Z", "2025-01-02T03:04:05.25Z", "2025-01-02 03:04:05.123456789"} {
		require.True(t, checkLine[time.Time](t, s), s)
	}
	// The date that is remembered is never another one.
	d := planOf[one[time.Time]](t, plainForm).Decoder()
	for _, s := range []string{"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", "2025-01-02", "2025-01-02", "2025-01-03", "2025-01-0x", "2025-01-03", "2025-01-0\x00"} {
		want, err := parseOne[time.Time](t, s)
		var got one[time.Time]
		require.Equal(t, err == nil, d.Line([]byte(s+"\n"+padding), 0, unsafe.Pointer(&got)) > 0, s)
		require.Equal(t, want, got.V)
	}
}

// What is not plain is left to others.
func TestLineLeaves(t *testing.T) {
	t.Parallel()
	type pair struct {
		A int64
		B string
	}
	d := planOf[pair](t, plainForm).Decoder()
	for line, taken := range map[string]bool{
		"1,a\n": true, "1,a\r\n": true, "1,\n": true, "1,\"\"\n": true, "\"1\",\"a,b\"\n": true, "1,a\rb\n": true,
		"\n": false, "\r\n": false, "#1,a\n": false, "1\n": false, "1,a,b\n": false, ",a\n": false, "1,a\"b\n": false, "1,\"a\"b\n": false,
		"1,\"a\"\"b\"\n": false, "1,\"a\nb\"\n": false, "1,\"a\"\rb\n": false, "\"1,a\n": false, "1\",a\n": false, "+1,a\n": false, "1,a": false,
		"1," + strings.Repeat("x", 1<<20) + "\n": false,
	} {
		var p pair
		n := d.Line([]byte(line+padding), 0, unsafe.Pointer(&p))
		require.Equal(t, taken, n > 0, "%.20q", line)
		if taken {
			require.Equal(t, len(line), n)
		}
	}
	var p pair
	require.Zero(t, d.Line([]byte("1,a\n"), 0, unsafe.Pointer(&p)), "the end of the text is not read beyond")
	for _, f := range []Form{{Delimiter: ' '}, {Delimiter: '.'}, {Delimiter: '5'}, {Delimiter: ',', Quote: '-'}, {Delimiter: 'T'}} {
		f.Max = 100
		line := "1" + string(rune(f.Delimiter)) + "a\n"
		require.Zero(t, planOf[pair](t, f).Decoder().Line([]byte(line+padding), 0, unsafe.Pointer(&p)), "a delimiter or a quote that a value may hold")
	}
}

// The strings of a row stay what they are whatever becomes of the text.
func TestLineStringsAreCopies(t *testing.T) {
	t.Parallel()
	type words struct {
		A, B string
		C    *string
		D    []byte
	}
	d := planOf[words](t, plainForm).Decoder()
	var want, got []words
	for i := range 2000 {
		a, b := fmt.Sprintf("word%d", i%7), strings.Repeat(strconv.Itoa(i), 1+i%30)
		if i%100 == 0 {
			b = strings.Repeat("long", 10_000)
		}
		want = append(want, words{a, b, &b, []byte(a)})
		data := []byte(a + "," + b + "," + b + "," + a + "\n" + padding)
		var w words
		require.Positive(t, d.Line(data, 0, unsafe.Pointer(&w)))
		clear(data)
		got = append(got, w)
		if i%500 == 0 {
			d.Release()
			d = d.plan.Decoder()
		}
	}
	require.Equal(t, want, got)
	require.Same(t, unsafe.StringData(got[1990].A), unsafe.StringData(got[1997].A), "what repeats is kept once")
}

// Not parallel, for AllocsPerRun counts the whole program.
func TestLineAllocations(t *testing.T) {
	const rows = 500
	p := planOf[venta](t, plainForm)
	out := make([]venta, rows)
	for name, quote := range map[string]string{"bare": "", "quoted": `"`} {
		data := append(ventas(rows, quote), padding...)
		d := p.Decoder()
		require.Zero(t, testing.AllocsPerRun(20, func() {
			at := 0
			for i := range out {
				if at = d.Line(data, at, unsafe.Pointer(&out[i])); at == 0 {
					t.Fatal("not plain")
				}
			}
		}), name)
	}
	// Strings that do not repeat cost a block now and then.
	type ids struct{ A, B string }
	var b bytes.Buffer
	for i := range rows {
		fmt.Fprintf(&b, "client-%d,%032d\n", i*7919, i)
	}
	data := append(b.Bytes(), padding...)
	q := planOf[ids](t, plainForm)
	texts := make([]ids, rows)
	d := q.Decoder()
	require.Less(t, testing.AllocsPerRun(20, func() {
		at := 0
		for i := range texts {
			if at = d.Line(data, at, unsafe.Pointer(&texts[i])); at == 0 {
				t.Fatal("not plain")
			}
		}
	}), 8.0, "for %d rows", rows)
}

func BenchmarkLine(b *testing.B) {
	for name, quote := range map[string]string{"bare": "", "quoted": `"`} {
		b.Run(name, func(b *testing.B) {
			const rows = 7000
			data := ventas(rows, quote)
			d := planOf[venta](b, Form{Delimiter: ',', Quote: '"', Max: 1 << 20}).Decoder()
			out := make([]venta, rows)
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				at := 0
				for i := 0; i < rows-1; i++ {
					if at = d.Line(data, at, unsafe.Pointer(&out[i])); at == 0 {
						b.Fatal(i)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows, "ns/row")
		})
	}
}
