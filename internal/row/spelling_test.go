package row

import (
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

type spelled struct {
	I   int64
	U   uint8
	F   float64
	F32 float32
	B   bool
	S   string
	D   string `leat:"d,decimal=18.2"`
	By  []byte
	P   *int64
	N   sql.Null[string]
	PS  *string
}

var spellings = map[string]*Spelling{
	"none":     {},
	"utf8":     {Text: "valid UTF-8"},
	"bytes":    {Text: "valid UTF-8", CheckBytes: true},
	"european": {Decimal: ",", Thousands: ".", Null: []string{"-", "NULL"}, Text: "valid UTF-8"},
	"comma":    {Decimal: ","},
	"groups":   {Thousands: ","},
	"narrow":   {Decimal: ",", Thousands: "\u202f"},
	"trim":     {Trim: true, Null: []string{"N/A", "n/a"}, True: []string{"sí", "yes"}, False: []string{"no"}},
	"numbers":  {Null: []string{"-999", "0"}},
}

func TestSpelling(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ spelling, column, text, want string }{
		{"european", "f", "1.234,56", "1234.56"},
		{"european", "f", "-1.234.567,5", "-1.2345675e+06"},
		{"european", "f", "1234,5", "1234.5"},
		{"european", "f", "0,5", "0.5"},
		{"european", "f", ",5", "0.5"},
		{"european", "f", "5,", "5"},
		{"european", "f", "1,5e3", "1500"},
		{"european", "f", "12", "12"},
		{"european", "f", "1.5", `syntax column f: "1.5" is not a number as this source spells them: 1.234,5`},
		{"european", "f", "12.34", `syntax column f: "12.34" is not a number as this source spells them: 1.234,5`},
		{"european", "f", "1234.567", `syntax column f: "1234.567" is not a number as this source spells them: 1.234,5`},
		{"european", "f", ".234", `syntax column f: ".234" is not a number as this source spells them: 1.234,5`},
		{"european", "f", "1.234.56", `syntax column f: "1.234.56" is not a number as this source spells them: 1.234,5`},
		{"european", "f", "1,234.5", `syntax column f: "1,234.5" is not a number as this source spells them: 1.234,5`},
		{"european", "f", "1,2,3", `syntax column f: "1,2,3" is not a number as this source spells them: 1.234,5`},
		{"european", "f", "--1", `syntax column f: "--1" is not a number as this source spells them: 1.234,5`},
		{"european", "f", "NaN", `syntax column f: "NaN" is not a number as this source spells them: 1.234,5`},
		{"european", "f", "1,5e", `syntax column f: "1,5e" is not a number`},
		{"european", "i", "1.234", "1234"},
		{"european", "i", "1,5", `syntax column i: "1,5" is not a whole number`},
		{"european", "u", "1.234", `range column u: "1.234" is out of range for uint8`},
		{"european", "u", "x", `syntax column u: "x" is not a whole number as this source spells them: 1.234,5`},
		{"european", "d", "1.234,56", "1234.56"},
		{"european", "s", "1.234,56", "1.234,56"},
		{"european", "p", "-", "<nil>"},
		{"european", "p", "1.000", "1000"},
		{"european", "s", "NULL", ""},
		{"european", "s", " NULL", " NULL"},
		{"european", "i", "-", `empty column i: the cell is empty, but the column must hold an int64`},
		{"comma", "f", "1,5", "1.5"},
		{"comma", "f", "1.5", `syntax column f: "1.5" is not a number as this source spells them: 1234,5`},
		{"comma", "i", "12", "12"},
		{"groups", "f", "1,234,567.8", "1.2345678e+06"},
		{"groups", "f", "1,5", `syntax column f: "1,5" is not a number as this source spells them: 1,234.5`},
		{"narrow", "f", "12\u202f345,6", "12345.6"},
		{"trim", "i", " \t12 ", "12"},
		{"trim", "s", "  a b ", "a b"},
		{"trim", "s", "   ", ""},
		{"trim", "p", " N/A ", "<nil>"},
		{"trim", "b", "sí", "true"},
		{"trim", "b", " no", "false"},
		{"trim", "b", "True", "true"},
		{"trim", "b", "SÍ", `syntax column b: "SÍ" is not a bool`},
		{"numbers", "p", "-999", "<nil>"},
		{"numbers", "p", "-998", "-998"},
		{"numbers", "i", "0", "empty column i: "},
		{"none", "s", "a\xff", "a\xff"},
		{"utf8", "s", "a\xff", `utf8 column s: "a\xff" is not valid UTF-8`},
		{"utf8", "n", "a\xff", `utf8 column n: "a\xff" is not valid UTF-8`},
		{"utf8", "by", "a\xff", "a\xff"},
		{"bytes", "by", "a\xff", `utf8 column by: "a\xff" is not valid UTF-8`},
		{"utf8", "s", "\ufffd", "\ufffd"},
	} {
		require.Contains(t, setSpelled(t, spellings[tc.spelling], tc.column, tc.text), tc.want, "%s %q", tc.column, tc.text)
		if !strings.Contains(tc.want, "column") {
			require.Equal(t, tc.want, setSpelled(t, spellings[tc.spelling], tc.column, tc.text))
		}
	}
	require.Empty(t, spellings["utf8"].Check("ñ"))
	require.Equal(t, "is not valid UTF-8", spellings["utf8"].Check("\xff"))
	require.Empty(t, spellings["none"].Check("\xff"))
}

func setSpelled(t testing.TB, s *Spelling, column, text string) string {
	t.Helper()
	c := mustOf[spelled](t).Column(column)
	var v spelled
	if err := s.Set(c, unsafe.Pointer(&v), text, nil); err != nil {
		var e *Error
		require.True(t, errors.As(err, &e))
		return e.Rule() + " " + err.Error()
	}
	switch column {
	case "p":
		if v.P != nil {
			return fmt.Sprint(*v.P)
		}
		return "<nil>"
	case "s":
		return v.S
	case "n":
		return v.N.V
	case "by":
		return string(v.By)
	case "d":
		return v.D
	case "b":
		return fmt.Sprint(v.B)
	case "i":
		return fmt.Sprint(v.I)
	case "u":
		return fmt.Sprint(v.U)
	}
	return fmt.Sprint(v.F)
}

// What a line gives quickly, its cells give one by one; and lines of every spelling are read quickly.
func TestLineSpellings(t *testing.T) {
	t.Parallel()
	cells := []string{"", "1", "-5", "0", "-999", "1.5", "1,5", "1.234", "1.234,56", "1,234.5", "NULL", "N/A", "-", " 1 ", "\ta ", "sí", "no", "true", "a\xff", "ñ", "x", "12\u202f345", "300",
		strings.Repeat(" ", 59) + "a", strings.Repeat("ñ", 40), strings.Repeat("y", 40) + "\xff"}
	good := map[string]string{"i": "1", "u": "7", "f": "12", "f32": "3", "b": "true", "s": "s", "d": "5", "by": "b", "p": "9", "n": "n", "ps": "t"}
	rt := mustOf[spelled](t)
	for name, sp := range spellings {
		taken := 0
		f := plainForm
		f.Delimiter, f.Spelling = ';', sp
		plan := planOf[spelled](t, f)
		d := plan.Decoder()
		for seed := range uint64(4000) {
			r := rand.New(rand.NewPCG(seed, 12))
			var texts []string
			for i := range rt.Columns {
				text := good[rt.Columns[i].Name]
				if r.IntN(8) == 0 {
					text = cells[r.IntN(len(cells))]
				}
				texts = append(texts, text)
			}
			line := strings.Join(texts, ";") + "\n"
			if seed%2 == 0 {
				line = `"` + strings.Join(texts, `";"`) + "\"\r\n"
			}
			var got, want spelled
			behind := padding
			if r.IntN(4) == 0 {
				behind = padding[:r.IntN(len(padding))]
			}
			n := d.Line([]byte(line+behind), 0, unsafe.Pointer(&got))
			if n == 0 {
				continue
			}
			taken++
			for i := range rt.Columns {
				require.NoError(t, sp.Set(&rt.Columns[i], unsafe.Pointer(&want), texts[i], nil), "%s: %q is taken", name, line)
			}
			require.Equal(t, want, got, "%s: %q", name, line)
		}
		require.Greater(t, taken, 500, name)
	}
}

func BenchmarkLineSpelled(b *testing.B) {
	const rows = 7000
	data := []byte(strings.NewReplacer(",", ";", ".", ",").Replace(string(ventas(rows, ""))))
	d := planOf[venta](b, Form{Delimiter: ';', Quote: '"', Max: 1 << 20, Spelling: &Spelling{Decimal: ",", Thousands: ".", Null: []string{"NULL", "-"}, Text: "valid UTF-8"}}).Decoder()
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
}
