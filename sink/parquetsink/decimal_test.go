package parquetsink

import (
	"math/big"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func (x int128) big() *big.Int {
	b := new(big.Int).Lsh(big.NewInt(x.hi), 64)
	return b.Add(b, new(big.Int).SetUint64(x.lo))
}

func TestDecimals(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text             string
		precision, scale int
		want             string // of the multiple of 10^-scale, or the rule
	}{
		{"0", 9, 2, "0"},
		{"-0.00", 9, 2, "0"},
		{"1", 9, 2, "100"},
		{"+1.5", 9, 2, "150"},
		{"-12.34", 9, 2, "-1234"},
		{".5", 9, 2, "50"},
		{"5.", 9, 2, "500"},
		{"0001.2300000", 4, 2, "123"},
		{"1.005", 9, 2, "range"},
		{"1e3", 9, 2, "100000"},
		{"1.5E-1", 9, 2, "15"},
		{"1.5e-2", 9, 2, "range"},
		{"1500e-2", 9, 2, "1500"},
		{"12345e-5", 9, 2, "range"},
		{"0e999999999999999999", 9, 2, "0"},
		{"1e999999999999999999", 9, 2, "range"},
		{"1e-999999999999999999", 9, 2, "range"},
		{"1234567.89", 9, 2, "123456789"},
		{"12345678.9", 9, 2, "range"},
		{"99999999999999999999999999999999999999", 38, 0, "99999999999999999999999999999999999999"},
		{"-99999999999999999999999999999999999999", 38, 0, "-99999999999999999999999999999999999999"},
		{"100000000000000000000000000000000000000", 38, 0, "range"},
		{"0.00000000000000000000000000000000000001", 38, 38, "1"},
		{"1e37", 38, 0, "1" + strings.Repeat("0", 37)},
		{"1e38", 38, 0, "range"},
		{"", 9, 2, "syntax"},
		{"-", 9, 2, "syntax"},
		{".", 9, 2, "syntax"},
		{"1.2.3", 9, 2, "syntax"},
		{"1,5", 9, 2, "syntax"},
		{" 1", 9, 2, "syntax"},
		{"1e", 9, 2, "syntax"},
		{"1e+", 9, 2, "syntax"},
		{"1e1x", 9, 2, "syntax"},
		{"NaN", 9, 2, "syntax"},
		{"0x10", 9, 2, "syntax"},
		{"--1", 9, 2, "syntax"},
	} {
		x, rule, msg := parseDecimal(c.text, c.precision, c.scale)
		if rule != "" {
			assert.Equal(t, c.want, rule, "%s as (%d,%d): %s", c.text, c.precision, c.scale, msg)
			assert.NotEmpty(t, msg)
			continue
		}
		assert.Equal(t, c.want, x.big().String(), "%s as (%d,%d)", c.text, c.precision, c.scale)
	}
}

func TestDecimalBytes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"1": "00000000000000000000000000000001", "-1": "ffffffffffffffffffffffffffffffff", "-256": "ffffffffffffffffffffffffffffff00"} {
		x, rule, _ := parseDecimal(text, 38, 0)
		require.Empty(t, rule)
		assert.Equal(t, want, hexOf(x.appendBytes(nil)))
	}
}

func hexOf(b []byte) string {
	const digits = "0123456789abcdef"
	var s strings.Builder
	for _, c := range b {
		s.WriteByte(digits[c>>4])
		s.WriteByte(digits[c&15])
	}
	return s.String()
}

// FuzzDecimal compares with math/big, which rounds nothing either.
func FuzzDecimal(f *testing.F) {
	for _, s := range []string{"0", "-1.50", "1e3", "12345678901234567890.12", ".5e-1", "00.100", "1e-40", "x", "-"} {
		f.Add(s, uint8(18), uint8(2))
		f.Add(s, uint8(38), uint8(38))
	}
	f.Fuzz(func(t *testing.T, s string, p, sc uint8) {
		precision := int(p)%38 + 1
		scale := int(sc) % (precision + 1)
		x, rule, _ := parseDecimal(s, precision, scale)
		plain := s != "" && strings.Trim(s, "0123456789.eE+-") == ""
		if _, after, ok := strings.Cut(strings.ToLower(s), "e"); ok && len(strings.TrimLeft(after, "+-0")) > 3 {
			return // math/big would compute with millions of digits
		}
		r, ok := new(big.Rat).SetString(s)
		if !plain || !ok {
			require.Equal(t, "syntax", rule, "%q", s)
			return
		}
		require.NotEqual(t, "syntax", rule, "%q", s)
		want := r.Mul(r, new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil)))
		limit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(precision)), nil)
		fits := want.IsInt() && new(big.Int).Abs(want.Num()).Cmp(limit) < 0
		require.Equal(t, fits, rule == "", "%q as (%d,%d): %s", s, precision, scale, rule)
		if fits {
			require.Equal(t, want.Num().String(), x.big().String(), "%q as (%d,%d)", s, precision, scale)
		}
	})
}
