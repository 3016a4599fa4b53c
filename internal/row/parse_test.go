package row

import (
	"database/sql"
	"errors"
	"math"
	"math/big"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func checkParse[T any](t *testing.T, text string, want T) {
	t.Helper()
	got, err := parseOne[T](t, text)
	require.NoError(t, err, "%q into %T", text, want)
	assert.Equal(t, want, got, "%q", text)
	p, err := parseOne[*T](t, text)
	require.NoError(t, err)
	if assert.NotNil(t, p) {
		assert.Equal(t, want, *p, "%q by pointer", text)
	}
	n, err := parseOne[sql.Null[T]](t, text)
	require.NoError(t, err)
	assert.Equal(t, sql.Null[T]{V: want, Valid: true}, n, "%q in sql.Null", text)
}

func checkRefused[T any](t *testing.T, text, rule, want string) {
	t.Helper()
	_, err := parseOne[T](t, text)
	require.Error(t, err, "%q into %T", text, *new(T))
	assert.Equal(t, want, err.Error())
	assert.Equal(t, rule, ruleOf(t, err), "%q", text)
	p, err := parseOne[*T](t, text)
	require.Error(t, err)
	assert.Nil(t, p, "a refused pointer stays nil")
	n, err := parseOne[sql.Null[T]](t, text)
	require.Error(t, err)
	assert.False(t, n.Valid, "a refused sql.Null stays null")
}

func TestParse(t *testing.T) {
	t.Parallel()
	type miInt int16
	checkParse(t, "-128", int8(-128))
	checkParse(t, "127", int8(127))
	checkParse(t, "+007", 7)
	checkParse(t, "-0", int64(0))
	checkParse(t, "9223372036854775807", int64(math.MaxInt64))
	checkParse(t, "-9223372036854775808", int64(math.MinInt64))
	checkParse(t, "0000000000000000000000000001", int32(1))
	checkParse(t, "-32768", miInt(math.MinInt16))
	checkParse(t, "255", uint8(255))
	checkParse(t, "+65535", uint16(65535))
	checkParse(t, "-0", uint32(0))
	checkParse(t, "18446744073709551615", uint64(math.MaxUint64))
	checkParse(t, "00000000000000000000000000001", uint(1))
	checkParse(t, "1234.56", 1234.56)
	checkParse(t, "+.5", .5)
	checkParse(t, "5.", 5.)
	checkParse(t, "1e3", 1000.)
	checkParse(t, "0.1", float32(0.1))
	checkParse(t, "16777217", float32(16777216))
	checkParse(t, "12345678901234567890123.5", 12345678901234567890123.5)
	checkParse(t, "TRUE", true)
	checkParse(t, "fAlSe", false)
	checkParse(t, "T", true)
	checkParse(t, "0", false)
	checkParse(t, "hola", "hola")
	checkParse(t, " con espacio ", " con espacio ")
	checkParse(t, "", "")
	checkParse(t, "a\x00b", []byte("a\x00b"))
	checkParse(t, "", []byte{})
	checkParse(t, "1h3m", time.Hour+3*time.Minute)
	checkParse(t, "-1500", -1500*time.Nanosecond)
	checkParse(t, "0", time.Duration(0))
	checkParse(t, "12.50", decimal.RequireFromString("12.50"))
	checkParse(t, "123456789012345678901234567890", *mustBig("123456789012345678901234567890"))

	f, err := parseOne[float64](t, "-0.0")
	require.NoError(t, err)
	assert.True(t, math.Signbit(f))
	g, err := parseOne[float32](t, "-0")
	require.NoError(t, err)
	assert.True(t, math.Signbit(float64(g)))
}

func mustBig(s string) *big.Int {
	b, ok := new(big.Int).SetString(s, 10)
	if !ok {
		panic(s)
	}
	return b
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	type cantidad int8
	checkRefused[int8](t, "300", RuleRange, `column v: "300" is out of range for int8`)
	checkRefused[cantidad](t, "300", RuleRange, `column v: "300" is out of range for int8`)
	checkRefused[int64](t, "9223372036854775808", RuleRange, `column v: "9223372036854775808" is out of range for int64`)
	checkRefused[int](t, "1.0", RuleSyntax, `column v: "1.0" is not a whole number`)
	checkRefused[int](t, " 1", RuleSyntax, `column v: " 1" is not a whole number (it has spaces around it)`)
	checkRefused[int](t, "1_000", RuleSyntax, `column v: "1_000" is not a whole number`)
	checkRefused[int](t, "0x1F", RuleSyntax, `column v: "0x1F" is not a whole number`)
	checkRefused[int](t, "-", RuleSyntax, `column v: "-" is not a whole number`)
	checkRefused[int](t, "123456789012345678901x", RuleSyntax, `column v: "123456789012345678901x" is not a whole number`)
	checkRefused[int](t, "", RuleEmpty, `column v: the cell is empty, but the column must hold an int`)
	checkRefused[int](t, "uno\ndos", RuleSyntax, `column v: "uno\ndos" is not a whole number`)
	checkRefused[uint8](t, "256", RuleRange, `column v: "256" is out of range for uint8`)
	checkRefused[uint64](t, "18446744073709551616", RuleRange, `column v: "18446744073709551616" is out of range for uint64`)
	checkRefused[uint](t, "-1", RuleRange, `column v: "-1" is out of range for uint`)
	checkRefused[uint](t, "+-1", RuleSyntax, `column v: "+-1" is not a whole number`)
	checkRefused[uint](t, "+", RuleSyntax, `column v: "+" is not a whole number`)
	checkRefused[uint](t, "", RuleEmpty, `column v: the cell is empty, but the column must hold a uint`)
	checkRefused[float64](t, "1e309", RuleRange, `column v: "1e309" is out of range for float64`)
	checkRefused[float32](t, "1e39", RuleRange, `column v: "1e39" is out of range for float32`)
	checkRefused[float64](t, "12,5", RuleSyntax, `column v: "12,5" is not a number (write the decimal point as a point, and no thousands separators)`)
	for _, s := range []string{"NaN", "nan", "Inf", "-inf", "+Infinity", "0x1p-2", "1_000", "0x1F", "1e", "e", ".", "+", "1.2.3", "--1"} {
		checkRefused[float64](t, s, RuleSyntax, `column v: "`+s+`" is not a number`)
		checkRefused[float32](t, s, RuleSyntax, `column v: "`+s+`" is not a number`)
	}
	checkRefused[bool](t, "yes", RuleSyntax, `column v: "yes" is not a bool (true, false, t, f, 1 or 0)`)
	checkRefused[bool](t, "falſe", RuleSyntax, `column v: "falſe" is not a bool (true, false, t, f, 1 or 0)`)
	checkRefused[bool](t, "", RuleEmpty, `column v: the cell is empty, but the column must hold a bool`)
	checkRefused[time.Duration](t, "1 hora", RuleSyntax, `column v: "1 hora" is not a duration such as 1h30m, or whole nanoseconds`)
	checkRefused[time.Duration](t, "9999999h", RuleRange, `column v: "9999999h" is out of range for duration`)
	checkRefused[time.Duration](t, "9223372036854775808", RuleRange, `column v: "9223372036854775808" is out of range for duration`)
	checkRefused[decimal.Decimal](t, "abc", RuleSyntax, `column v: "abc" is not a decimal.Decimal: error decoding string 'abc': can't convert abc to decimal`)
}

func TestParseOther(t *testing.T) {
	t.Parallel()
	_, err := parseOne[[]string](t, "a")
	assert.EqualError(t, err, `column v: "a" cannot be read into []string, which has no text form`)
	assert.Equal(t, RuleType, ruleOf(t, err))
	_, err = parseOne[Nivel](t, "a")
	assert.EqualError(t, err, `column v: "a" cannot be read into row.Nivel, which has no UnmarshalText`)
	v, err := parseOne[SoloLee](t, "a")
	require.NoError(t, err)
	assert.Equal(t, SoloLee(7), v)
}

func TestParseMakesNewPointers(t *testing.T) {
	t.Parallel()
	type fila struct{ N *int }
	c := mustCol[fila](t)
	var f fila
	require.NoError(t, c.Parse(unsafe.Pointer(&f), "1"))
	kept := f.N
	require.NoError(t, c.Parse(unsafe.Pointer(&f), "2"))
	assert.Equal(t, 1, *kept)
	assert.Equal(t, 2, *f.N)
	require.Error(t, c.Parse(unsafe.Pointer(&f), "x"))
	assert.Equal(t, 2, *f.N, "a refused value leaves the field alone")
	require.NoError(t, c.Empty(unsafe.Pointer(&f)))
	assert.Nil(t, f.N)
}

func TestParseBytesCopies(t *testing.T) {
	t.Parallel()
	buf := []byte("abc")
	got, err := parseOne[[]byte](t, unsafe.String(&buf[0], len(buf)))
	require.NoError(t, err)
	buf[0] = 'z'
	assert.Equal(t, "abc", string(got))
	assert.Len(t, got, cap(got))
}

type muestra struct {
	B   bool
	I   int8
	U   uint16
	F   float32
	F64 float64
	S   string
	Bs  []byte
	T   time.Time
	D   time.Duration
	Dec decimal.Decimal
	Sl  []string
}

func TestEmpty(t *testing.T) {
	t.Parallel()
	type nulls struct {
		B    *bool
		I    *int8
		S    *string
		T    *time.Time
		Dec  *decimal.Decimal
		Sl   *[]string
		NB   sql.Null[bool]
		NI   sql.Null[int8]
		NU   sql.Null[uint16]
		NF   sql.Null[float32]
		NF64 sql.Null[float64]
		NS   sql.Null[string]
		NBs  sql.Null[[]byte]
		NT   sql.Null[time.Time]
		ND   sql.Null[time.Duration]
		NDec sql.Null[decimal.Decimal]
		NSl  sql.Null[[]string]
		Old  sql.NullInt32
	}
	full := nulls{
		B: new(bool), I: new(int8), S: new(string), T: new(time.Time), Dec: new(decimal.Decimal), Sl: new([]string),
		NB: sql.Null[bool]{V: true, Valid: true}, NI: sql.Null[int8]{V: 1, Valid: true}, NU: sql.Null[uint16]{V: 1, Valid: true},
		NF: sql.Null[float32]{V: 1, Valid: true}, NF64: sql.Null[float64]{V: 1, Valid: true}, NS: sql.Null[string]{V: "x", Valid: true},
		NBs: sql.Null[[]byte]{V: []byte("x"), Valid: true}, NT: sql.Null[time.Time]{V: time.Now(), Valid: true},
		ND: sql.Null[time.Duration]{V: 1, Valid: true}, NDec: sql.Null[decimal.Decimal]{V: decimal.New(1, 1), Valid: true},
		NSl: sql.Null[[]string]{V: []string{"x"}, Valid: true}, Old: sql.NullInt32{Int32: 3, Valid: true},
	}
	rt := mustOf[nulls](t)
	for i := range rt.Columns {
		c := &rt.Columns[i]
		v, err := c.Value(unsafe.Pointer(&full))
		if c.Kind != Other {
			require.NoError(t, err)
			assert.False(t, v.Null, c.Name)
		}
		require.NoError(t, c.Empty(unsafe.Pointer(&full)), c.Name)
		v, err = c.Value(unsafe.Pointer(&full))
		require.NoError(t, err)
		assert.True(t, v.Null, c.Name)
		assert.NotEqual(t, Text, v.Kind)
	}
	assert.Equal(t, nulls{}, full, "null leaves nothing of the old value behind")

	m := muestra{S: "x", Bs: []byte("x")}
	mt := mustOf[muestra](t)
	for i := range mt.Columns {
		c := &mt.Columns[i]
		err := c.Empty(unsafe.Pointer(&m))
		if c.Kind == String || c.Kind == Bytes {
			require.NoError(t, err)
			continue
		}
		assert.Equal(t, RuleEmpty, ruleOf(t, err), c.Name)
		assert.Contains(t, err.Error(), "column "+c.Name+": the cell is empty")
	}
	assert.Equal(t, muestra{Bs: []byte{}}, m)
	assert.EqualError(t, mt.Column("dec").Empty(unsafe.Pointer(&m)), "column dec: the cell is empty, but the column must hold a decimal.Decimal")
	assert.EqualError(t, mt.Column("i").Empty(unsafe.Pointer(&m)), "column i: the cell is empty, but the column must hold an int8")
}

func TestError(t *testing.T) {
	t.Parallel()
	t.Run("cuts without splitting a character", func(t *testing.T) {
		t.Parallel()
		for pad := range 5 {
			text := strings.Repeat("x", 60+pad) + "ññññññ"
			_, err := parseOne[int](t, text)
			var e *Error
			require.ErrorAs(t, err, &e)
			assert.LessOrEqual(t, len(e.Value), 64)
			assert.GreaterOrEqual(t, len(e.Value), 61)
			assert.True(t, strings.HasPrefix(text, e.Value))
			assert.NotContains(t, err.Error(), `\x`)
			assert.Contains(t, err.Error(), "… ("+strconv.Itoa(len(text))+" bytes) is not a whole number")
		}
	})
	t.Run("bytes that are no UTF-8", func(t *testing.T) {
		t.Parallel()
		_, err := parseOne[int](t, strings.Repeat("\x80", 100))
		assert.Less(t, len(err.Error()), 400)
		assert.Contains(t, err.Error(), `"\x80\x80`)
	})
	t.Run("keeps no part of the text", func(t *testing.T) {
		t.Parallel()
		buf := []byte("malo")
		_, err := parseOne[int](t, unsafe.String(&buf[0], len(buf)))
		copy(buf, "xxxx")
		assert.Contains(t, err.Error(), `"malo"`)
	})
	t.Run("a cause on one line", func(t *testing.T) {
		t.Parallel()
		_, err := parseOne[decimal.Decimal](t, "mal\no"+strings.Repeat("x", 1000))
		assert.NotContains(t, err.Error(), "\n")
		assert.Less(t, len(err.Error()), 500)
		assert.NotNil(t, errors.Unwrap(err))
	})
}

func TestSet(t *testing.T) {
	t.Parallel()
	type fila struct {
		Archivo string    `leat:"@file"`
		Linea   int32     `leat:"@line"`
		Part    string    `leat:"@partition"`
		Off     uint64    `leat:"@offset"`
		TS      time.Time `leat:"@timestamp"`
		D       time.Duration
		PI      *int16
		NS      sql.Null[string]
		F       float64
	}
	rt := mustOf[fila](t)
	var f fila
	p := unsafe.Pointer(&f)
	now := time.Now()
	o := rt.Origins
	require.NoError(t, o[0].SetString(p, "a.csv"))
	require.NoError(t, o[1].SetInt(p, 12))
	require.NoError(t, o[2].SetInt(p, 3))
	require.NoError(t, o[3].SetInt(p, 1<<40))
	require.NoError(t, o[4].SetTime(p, now))
	require.NoError(t, rt.Column("d").SetInt(p, 5))
	require.NoError(t, rt.Column("pi").SetInt(p, -5))
	require.NoError(t, rt.Column("ns").SetString(p, "x"))
	five := int16(-5)
	assert.Equal(t, fila{"a.csv", 12, "3", 1 << 40, now, 5, &five, sql.Null[string]{V: "x", Valid: true}, 0}, f)

	assert.EqualError(t, o[1].SetInt(p, 1<<40), `column @line: "1099511627776" is out of range for int32`)
	assert.EqualError(t, o[3].SetInt(p, -1), `column @offset: "-1" is out of range for uint64`)
	assert.EqualError(t, o[3].SetString(p, "x"), `column @offset: "x" is a string, but the column holds uint64`)
	assert.EqualError(t, rt.Column("f").SetInt(p, 1), `column f: "1" is an integer, but the column holds float64`)
	assert.Equal(t, RuleType, ruleOf(t, o[0].SetTime(p, now)))
}

// TestFitsInt tries every value around each bound.
func TestFitsInt(t *testing.T) {
	t.Parallel()
	for _, bits := range []int{8, 16, 32, 64} {
		for _, base := range []int64{0, math.MinInt64, math.MaxInt64, -1 << (bits - 1), 1<<(bits-1) - 1, 1<<bits - 1} {
			for d := int64(-2); d <= 2; d++ {
				s := strconv.FormatInt(base+d, 10)
				_, err := strconv.ParseInt(s, 10, bits)
				assert.Equal(t, err == nil, fitsInt(base+d, bits), "%s in %d bits", s, bits)
				s = strconv.FormatUint(uint64(base+d), 10)
				_, err = strconv.ParseUint(s, 10, bits)
				assert.Equal(t, err == nil, fitsUint(uint64(base+d), bits), "%s in %d bits", s, bits)
			}
		}
	}
}

// checkNumbers holds every number parser against strconv.
func checkNumbers(t *testing.T, s string) {
	t.Helper()
	// The unsigned parser takes a sign: what strconv says of the digits, then the sign.
	digits, neg := strings.CutPrefix(s, "-")
	if !neg {
		digits = strings.TrimPrefix(s, "+")
	}
	// strconv stops reading where a number is too big; "99999999999999999999x" is none.
	integer := func(err error) status {
		if st := statusOf(err); st != outOfRange || strings.Trim(digits, "0123456789") == "" {
			return st
		}
		return syntax
	}
	wi, err := strconv.ParseInt(s, 10, 64)
	if gi, st := parseInt(s); st != integer(err) || st == fine && gi != wi {
		t.Fatalf("parseInt(%q) = %d, %d; strconv: %d, %v", s, gi, st, wi, err)
	}
	wu, err := strconv.ParseUint(digits, 10, 64)
	wst := integer(err)
	if neg && wst == fine && wu != 0 {
		wst = outOfRange
	}
	if gu, st := parseUint(s); st != wst || st == fine && gu != wu {
		t.Fatalf("parseUint(%q) = %d, %d; strconv: %d, %v", s, gu, st, wu, err)
	}
	spelled := strings.ContainsAny(s, "_xXnNpPiI") // NaN, Inf, hexadecimal, underscores
	for _, bits := range []int{32, 64} {
		wf, err := strconv.ParseFloat(s, bits)
		wst := statusOf(err)
		if spelled {
			wst = syntax
		}
		var gf float64
		var st status
		if bits == 32 {
			var f status
			var g float32
			g, f = parseFloat32(s)
			gf, st = float64(g), f
		} else {
			gf, st = parseFloat64(s)
		}
		if st != wst || st == fine && math.Float64bits(gf) != math.Float64bits(wf) {
			t.Fatalf("parseFloat%d(%q) = %v, %d; strconv: %v, %v", bits, s, gf, st, wf, err)
		}
	}
}

func FuzzNumbers(f *testing.F) {
	for _, s := range []string{"", "0", "-0", "+1", "-9223372036854775808", "9223372036854775808", "18446744073709551615",
		"18446744073709551616", "000000000000000000000000", "1.", ".5", ".", "-.", "1e5", "1e-400", "1e309", "9007199254740993",
		"9007199254740992.0", "0.00000000000000000001", "1234567890123456789.5", "16777217", "0.1", "1_0", "0x1p4", "NaN", "-Inf", "12a", "+-1", "1e+", "3.4028236e38"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { checkNumbers(t, s) })
}

// TestNumbersRandom tries what a fuzzer seldom makes: well-formed decimals of every length.
func TestNumbersRandom(t *testing.T) {
	t.Parallel()
	n := 400_000
	if testing.Short() {
		n = 20_000
	}
	r := rand.New(rand.NewPCG(1, 2))
	buf := make([]byte, 0, 64)
	for range n {
		buf = buf[:0]
		switch r.IntN(4) {
		case 0:
			buf = append(buf, '-')
		case 1:
			buf = append(buf, '+')
		}
		for range r.IntN(20) {
			buf = append(buf, byte('0'+r.IntN(10)))
		}
		if r.IntN(3) > 0 {
			buf = append(buf, '.')
			for range r.IntN(24) {
				buf = append(buf, byte('0'+r.IntN(10)))
			}
		}
		if r.IntN(8) == 0 {
			buf = append(buf, 'e')
			buf = strconv.AppendInt(buf, int64(r.IntN(640)-320), 10)
		}
		checkNumbers(t, string(buf))
	}
	for range n {
		checkNumbers(t, strconv.FormatFloat(math.Float64frombits(r.Uint64()), 'g', -1, 64))
		checkNumbers(t, strconv.FormatFloat(float64(math.Float32frombits(r.Uint32())), 'f', -1, 32))
		checkNumbers(t, strconv.FormatInt(int64(r.Uint64())>>r.IntN(64), 10))
	}
}

func FuzzBool(f *testing.F) {
	for _, s := range []string{"true", "FALSE", "t", "0", "", "trve", "falſe", "\x14RUE", "true "} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var want, valid bool
		switch strings.Map(asciiLower, s) {
		case "true", "t", "1":
			want, valid = true, true
		case "false", "f", "0":
			want, valid = false, true
		}
		got, ok := parseBool(s)
		if ok != valid || ok && got != want {
			t.Fatalf("parseBool(%q) = %v, %v", s, got, ok)
		}
	})
}

func asciiLower(r rune) rune {
	if 'A' <= r && r <= 'Z' {
		r += 'a' - 'A'
	}
	return r
}

func FuzzDuration(f *testing.F) {
	for _, s := range []string{"1h3m", "-1.5s", "0", "9999999h", "1", "9223372036854775808", "1hh", "1µs", "", "+.5h"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, st := parseDuration(s)
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			if st != fine || got != n {
				t.Fatalf("%q: %d, %d", s, got, st)
			}
			return
		}
		want, err := time.ParseDuration(s)
		if (err == nil) != (st == fine) || err == nil && got != int64(want) {
			t.Fatalf("%q: %d, %d; time: %v, %v", s, got, st, want, err)
		}
	})
}
