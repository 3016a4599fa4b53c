package csvsource

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/csvtext"
	"github.com/leatgo/leat/internal/engine"
	"github.com/leatgo/leat/internal/row"
	"github.com/leatgo/leat/source/drift"
)

func init() {
	// In no test may anything of a chunk be looked at after its release.
	onRelease = func(text []byte) {
		for i := range text {
			text[i] = '~'
		}
	}
}

// fussy is a type with a text form of its own, which refuses, panics and keeps what it
// was given.
type fussy struct{ text []byte }

func (f *fussy) UnmarshalText(text []byte) error {
	f.text = append(f.text, text...)
	switch {
	case bytes.Contains(text, []byte("no")):
		return errors.New("it says no")
	case bytes.Contains(text, []byte("panic")):
		panic("it is " + string(text))
	}
	return nil
}

// motley has columns of all kinds.
type motley struct {
	I8    int8
	I16   int16
	I32   int32
	I64   int64
	U8    uint8
	U16   uint16
	U32   uint32
	U64   uint64
	F32   float32
	F64   float64
	B     bool
	D     time.Duration
	S     string
	Bytes []byte
	T     time.Time
	TS    time.Time `leat:"ts,time=2006-01-02 15:04:05"`
	Day   time.Time `leat:"day,time=2006-01-02"`
	Odd   time.Time `leat:"odd,time=02/01/2006 15:04 MST"`
	PI    *int64
	PF    *float64
	PS    *string
	PT    *time.Time
	NI    sql.NullInt64
	NS    sql.Null[string]
	Fussy fussy
	S2    string

	File   string `leat:"@file"`
	Line   int64  `leat:"@line"`
	Offset int64  `leat:"@offset"`
}

type word struct{ Text string }

type amount struct {
	ID    int64
	Price float64
	When  time.Time
	Text  string
}

// outcome is all that a decoding gives.
type outcome[T any] struct {
	rows    []T
	rejects []string
	counted [2]int
}

// decoded decodes a chunk; quick is as in production, else every record takes the
// careful way.
func decoded[T any](c *chunk[T], quick bool) (o outcome[T]) {
	out := new(leat.Batch[T])
	reject := func(record int, err error) {
		var p *engine.PanicError
		if errors.As(err, &p) {
			err = fmt.Errorf("panic: %v", p.Value)
		}
		column, rule := "", ""
		var f *leat.FieldError
		if errors.As(err, &f) {
			column, rule = f.Column, f.Rule
		}
		o.rejects = append(o.rejects, fmt.Sprintf("%d %s %s %v", record, column, rule, err))
	}
	if quick || c.piece.Long {
		o.counted[0], o.counted[1] = c.decode(out, reject)
	} else {
		w := walk[T]{
			chunk: c, out: out, reject: reject,
			records: csvtext.NewRecords(&c.header.form.dialect, c.piece.Data, c.piece.Line, c.header.fields),
		}
		for !w.run() {
		}
		o.counted = [2]int{w.rows, w.rejected}
	}
	o.rows = append([]T{}, out.Rows()...)
	return o
}

// checkBothWays decodes a text quickly and carefully.
func checkBothWays[T any](t testing.TB, c Config[T], text []byte) (rows int) {
	t.Helper()
	f, err := newForm(&c)
	require.NoError(t, err)
	cut := csvtext.NewCutter(f.dialect, c.chunkBytes())
	cut.Reset(bytes.NewReader(text))
	_, h, err := f.header(cut)
	if err != nil {
		return 0
	}
	for {
		p, err := cut.Next()
		if err != nil {
			return rows
		}
		ch := &chunk[T]{piece: p, header: h, base: 1000, file: "f.csv", arrived: time.Unix(5, 0)}
		original := bytes.Clone(p.Data)
		careful := ch.piece
		careful.Data = bytes.Clone(p.Data)
		want := decoded(&chunk[T]{piece: careful, header: h, base: 1000, file: "f.csv", arrived: time.Unix(5, 0)}, false)
		got := decoded(ch, true)
		require.Equal(t, original, p.Data, "the text is only read")
		onRelease(ch.piece.Data)
		require.Equal(t, want, got, "chunk at %d of %q", p.Start, text)
		rows += len(got.rows)
	}
}

// cells are texts that a column may hold, or nearly so.
var cells = func() map[string][]string {
	numbers := []string{
		"0", "1", "-1", "7", "42", "127", "128", "-128", "-129", "255", "256", "32767", "32768", "65535", "65536", "2147483647", "2147483648",
		"-2147483648", "12345678", "123456789", "1234567890123456", "12345678901234567", "123456789012345678", "1234567890123456789",
		"9223372036854775807", "9223372036854775808", "-9223372036854775808", "18446744073709551615", "18446744073709551616", "99999999999999999999999",
		"+5", "007", "-0", "00000000000000000000001", "1_000", " 1", "1 ", "0x10", "1e3", "-", "+", "--1", "1-", "", "٣",
		"1.5", "-1.5", "0.1", "101.75", "4999.99", "12345.67", "123456.78", "1234567.89", "12345678.9", ".5", "5.", ".", "-.5", "-.", "1.2.3", "0.00",
		"-0.0", "9007199254740992", "9007199254740993", "900719925474099.3", "16777216", "16777217", "1677721.7", "0.30000000000000004", "3.4e38", "1e400",
		"0.0000000000000000000001", "0.123456789012345678", "123456789.123456789", "1234567890.123456789", "NaN", "Inf", "1,5", "1.", "12345678.", ".12345678", "1.5e",
	}
	times := []string{
		"2025-01-02", "2025-01-02 03:04:05", "2025-01-02T03:04:05", "2025-01-02T03:04:05Z", "2025-01-02 03:04:05Z", "2025-01-02T03:04:05.5Z", "2025-01-02 03:04:05.123456789",
		"2025-01-02T03:04:05.1234567891Z", "2025-01-02T03:04:05.Z", "2025-01-02T03:04:05+02:00", "2025-01-02T03:04:05.25-05:00", "2024-02-29", "2023-02-29", "2025-13-01", "2025-00-10",
		"2025-01-02 24:00:00", "2025-01-02 23:60:00", "2025-01-02 23:59:60", "2025-01-02 23:59:59", "2025-01-02 3:04:05", "2025-01-02x03:04:05", "2025-01-02 03:04", "1970-01-01", "0000-01-01",
		"9999-12-31 23:59:59", "2025-01-02  03:04:05", "02/01/2006 15:04 UTC", "31/12/2025 23:59 CET", "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", "2025-01-0203:04:05", "2025-01-02 03:04:05.", "2025-01-02 0a:04:05", "2025-01-02 03;04:05",
	}
	words := []string{
		"", "a", "tarjeta", "transferencia", "completada", "12345678", "123456789", "1234567890123456", "12345678901234567", "12345678_b_12345678", "12345678_c_12345678",
		strings.Repeat("x", 32), strings.Repeat("x", 33), strings.Repeat("long ", 2000), "ñandú", "a\rb", "\r", "a\r", "\x00", "ab\x00", "no", "panic", "panic", "#x", "true", "false", "1h30m", "1500", "T", " x ", "a\xffb",
	}
	all := append(append(append([]string{}, numbers...), times...), words...)
	return map[string][]string{
		"i8": numbers, "i16": numbers, "i32": numbers, "i64": numbers, "u8": numbers, "u16": numbers, "u32": numbers, "u64": numbers, "f32": numbers, "f64": numbers,
		"pi": numbers, "pf": numbers, "ni": numbers, "id": numbers, "price": numbers, "t": times, "ts": times, "day": times, "odd": times, "pt": times, "when": times,
		"b": {"true", "false", "1", "0", "T", "x", ""}, "d": {"1500", "1h30m", "x", "-5s", ""}, "": all,
	}
}()

// good is a cell that its column takes.
var good = map[string]string{
	"i8": "12", "i16": "-300", "i32": "70000", "i64": "12345678901", "u8": "200", "u16": "60000", "u32": "4000000000", "u64": "12", "f32": "1.25", "f64": "101.75",
	"pi": "5", "pf": "-2.5", "ni": "7", "id": "77", "price": "1.10", "t": "2025-01-02T03:04:05.25Z", "ts": "2025-01-02 03:04:05", "day": "2025-01-02",
	"odd": "02/01/2006 15:04 UTC", "pt": "2025-01-02", "when": "2025-01-02", "b": "true", "d": "1s",
}

// randomText writes a file of the columns, some lines of it good, some not, some hostile.
func randomText(r *rand.Rand, d csvtext.Dialect, columns []string) []byte {
	columns = append([]string{}, columns...)
	for range r.IntN(3) {
		columns = append(columns, fmt.Sprintf("ignored%d", len(columns)))
	}
	r.Shuffle(len(columns), func(i, j int) { columns[i], columns[j] = columns[j], columns[i] })
	end := []string{"\n", "\r\n"}[r.IntN(2)]
	quoting := r.IntN(3) // how many cells
	var b bytes.Buffer
	b.WriteString(strings.Join(columns, string(rune(d.Delimiter))) + end)
	for range r.IntN(30) {
		if r.IntN(10) == 0 {
			b.WriteString([]string{"\n", "\r\n", "#comment" + end, "\r", string(rune(d.Delimiter)), "\"", "\x00"}[r.IntN(7)])
		}
		odd := r.IntN(3) // one of the cells, or none
		for i, name := range columns {
			if i > 0 {
				b.WriteByte(d.Delimiter)
			}
			list, known := cells[name]
			if !known {
				list = cells[""]
			}
			cell, ok := good[name]
			if !ok || odd == 0 && r.IntN(len(columns)) == 0 {
				cell = list[r.IntN(len(list))]
				if !known && len(cell) > 100 && r.IntN(20) > 0 {
					cell = "tarjeta"
				}
			}
			quote := d.Quote != 0 && (quoting == 2 || quoting == 1 && r.IntN(2) == 0)
			if quote {
				q := string(rune(d.Quote))
				cell = q + strings.ReplaceAll(cell, q, q+q) + q
				if r.IntN(200) == 0 {
					cell = strings.Replace(cell, "a", "\n"+q+q+string(rune(d.Delimiter)), 1)
				}
			}
			b.WriteString(cell)
		}
		if r.IntN(30) == 0 {
			b.WriteByte(d.Delimiter)
		}
		b.WriteString(end)
	}
	text := b.Bytes()
	if r.IntN(3) == 0 {
		text = bytes.TrimRight(text, "\r\n")
	}
	if first := bytes.IndexByte(text, '\n'); r.IntN(3) == 0 && first > 0 && first+1 < len(text) {
		const nasty = "\"'\",,;\n\r\r\n#- .0:T\x00\xff"
		for range 1 + r.IntN(6) {
			text[first+1+r.IntN(len(text)-first-1)] = nasty[r.IntN(len(nasty))]
		}
	}
	return text
}

func columnsOf[T any](t testing.TB) (names []string) {
	rt, err := row.Of[T]()
	require.NoError(t, err)
	for i := range rt.Columns {
		names = append(names, rt.Columns[i].Name)
	}
	return names
}

func checkRandom[T any](t testing.TB, r *rand.Rand) int {
	c := Config[T]{ChunkBytes: []int{1, 300, 4 << 10, 1 << 20}[r.IntN(4)]}
	c.Delimiter = []rune{0, 0, 0, ';', '\t', '|', ' ', '.', '-', '5', ':'}[r.IntN(11)]
	c.Quote = []rune{0, 0, 0, '\'', -1, '0'}[r.IntN(6)]
	c.Comment = []rune{0, '#'}[r.IntN(2)]
	if r.IntN(4) == 0 {
		c.MaxRecord = 1 + r.IntN(300)
	}
	if r.IntN(2) == 0 {
		c.Lenient, c.Ragged, c.Trim = r.IntN(2) == 0, Ragged(r.IntN(4)), r.IntN(3) == 0
		c.Encoding = []Encoding{UTF8, UTF8, AnyBytes, Latin1}[r.IntN(4)]
		c.Decimal, c.Thousands = []rune{0, ',', '.'}[r.IntN(3)], []rune{0, '_', ' '}[r.IntN(3)]
		c.Null = [][]string{nil, {"NULL", "x"}, {"0", "tarjeta"}}[r.IntN(3)]
		c.True, c.False = [][]string{nil, {"x"}}[r.IntN(2)], [][]string{nil, {"no"}}[r.IntN(2)]
	}
	return checkBothWays(t, c, randomText(r, c.dialect(), columnsOf[T](t)))
}

// The quick way gives what the careful one gives: rows, rejects, their numbers and words.
func TestQuickAgainstCareful(t *testing.T) {
	t.Parallel()
	n := uint64(4000)
	if testing.Short() {
		n = 300
	}
	rows := 0
	for seed := range n {
		r := rand.New(rand.NewPCG(seed, 7))
		rows += checkRandom[motley](t, r) + checkRandom[word](t, r) + checkRandom[amount](t, r) + checkRandom[Venta](t, r)
	}
	require.Greater(t, rows, int(n), "the texts are not all refused")
}

// Ordinary files are read the quick way, but for the last lines of a chunk.
func TestQuickIsTaken(t *testing.T) {
	t.Parallel()
	for name, text := range map[string][]byte{
		"bare":   ventasCSV(1000),
		"quoted": quoteAll(ventasCSV(1000)),
		"CR LF":  bytes.ReplaceAll(ventasCSV(1000), []byte("\n"), []byte("\r\n")),
		"mixed":  bytes.ReplaceAll(ventasCSV(1000), []byte("efectivo"), []byte(`"a, b"`)),
	} {
		c := benchChunk(t, text)
		d := c.header.decoder()
		r := csvtext.NewRecords(&c.header.form.dialect, c.piece.Data, 2, c.header.fields)
		quick, all := 0, 0
		for ; r.End < len(c.piece.Data); all++ {
			var v Venta
			if next := d.Line(c.piece.Data, r.End, unsafe.Pointer(&v)); next > 0 {
				r.Pass(next - r.End)
				quick++
				continue
			}
			require.True(t, r.Next())
		}
		require.Equal(t, 1000, all)
		require.Greater(t, quick, 997, name)
		require.Equal(t, int64(1001), r.Line)
	}
}

func FuzzQuick(f *testing.F) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 8))
		f.Add(randomText(r, new(Config[amount]).dialect(), columnsOf[amount](f)), uint8(seed), uint8(200), uint8(seed*9))
	}
	f.Add([]byte("id,price,when,text\n1,1.5,2025-01-02,\"x\"\n1,1.5,2025-01-02,\"\"\"\"\n-1,.5,2025-01-02 03:04:05.5,\r\n"), uint8(3), uint8(30), uint8(0))
	f.Add([]byte("id;price;when;text\n 1;\"1.234,5\";NULL;x\"y\n2;0,5;2025-01-02;\"a\"b;\n3\n"), uint8(1), uint8(30), uint8(0xff))
	f.Fuzz(func(t *testing.T, text []byte, kind, max, odd uint8) {
		c := Config[amount]{ChunkBytes: 1 + int(max)*16, Delimiter: []rune{0, ';', ' '}[kind%3], Quote: []rune{0, '\'', -1}[kind/3%3], Comment: []rune{0, '#'}[kind/9%2]}
		if kind >= 128 {
			c.MaxRecord = 1 + int(max)
		}
		c.Lenient, c.Ragged, c.Trim = odd&1 != 0, Ragged(odd>>1&3), odd&8 != 0
		if odd&16 != 0 {
			c.Decimal, c.Thousands = ',', '.'
		}
		if odd&32 != 0 {
			c.Null = []string{"NULL", "-"}
		}
		if odd&64 != 0 {
			c.Encoding = AnyBytes
		}
		if odd&128 != 0 {
			c.Missing, c.SkipLines = drift.ZeroMissing, 1
		}
		checkBothWays(t, c, text)
		body := text[bytes.IndexByte(text, '\n')+1:]
		checkBothWays(t, Config[amount]{}, append([]byte("id,x,price,when,text\n"), body...))
		checkBothWays(t, Config[word]{Comment: '#', Lenient: odd&1 != 0}, append([]byte("text\n"), body...))
	})
}

// rule A5: the budget is told of all that a chunk keeps: its buffer, its rows and their
// strings.
func TestChunkBytes(t *testing.T) {
	t.Parallel()
	text := ventasCSV(20_000)
	f, err := newForm(new(Config[Venta]))
	require.NoError(t, err)
	cut := csvtext.NewCutter(f.dialect, 256<<10)
	cut.Reset(bytes.NewReader(text))
	_, h, err := f.header(cut)
	require.NoError(t, err)
	for {
		p, err := cut.Next()
		if err != nil {
			break
		}
		c := &chunk[Venta]{piece: p, header: h}
		rows := len(decoded(c, true).rows)
		require.GreaterOrEqual(t, c.Bytes(), int64(p.Held()+rows*int(unsafe.Sizeof(Venta{}))+len(p.Data)))
		require.LessOrEqual(t, c.Bytes(), int64(4*len(p.Data)+1000), "nor of much more")
		c.Release()
	}
}

// rule A5: lines that are no records take no room for rows, be they in a quoted field or
// between the records. One bad record must not cost a hundred times its size.
func TestLinesThatAreNoRecords(t *testing.T) {
	t.Parallel()
	const size = 256 << 10
	lines, record := strings.Repeat("\n", size), "1,1,1,1,1,1,2025-01-01 00:00:00,a,%s\n"
	strict, err := newForm(new(Config[Venta]))
	require.NoError(t, err)
	padded, err := newForm(&Config[Venta]{Ragged: PadRagged, Lenient: true})
	require.NoError(t, err)
	for _, f := range []*form{strict, padded} {
		for name, body := range map[string]string{
			"quoted":  fmt.Sprintf(record, `"`+lines+`"`),
			"between": fmt.Sprintf(record, "b") + lines + fmt.Sprintf(record, "b"),
		} {
			cut := csvtext.NewCutter(f.dialect, 2*size)
			cut.Reset(strings.NewReader("venta_id,cliente_id,producto_id,cantidad,precio_unitario,total,fecha_venta,metodo_pago,estado\n" + body))
			_, h, err := f.header(cut)
			require.NoError(t, err)
			p, err := cut.Next()
			require.NoError(t, err)
			c := &chunk[Venta]{piece: p, header: h}
			out := new(leat.Batch[Venta])
			c.decode(out, func(_ int, err error) { t.Error(err) })
			require.Equal(t, strings.Count(body, "a,"), out.Len(), name)
			require.LessOrEqual(t, cap(out.Rows())*int(unsafe.Sizeof(Venta{})), 10*len(p.Data), name)
			require.LessOrEqual(t, c.Bytes(), int64(12*len(p.Data)), name)
		}
	}
}
