package parquetsink

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/leatgo/leat/internal/row"
)

// decimalLength is the size of a DECIMAL of more than 18 digits: an int128.
const decimalLength = 16

// int128 is a whole number of up to 38 digits, in two's complement.
type int128 struct {
	hi int64
	lo uint64
}

// appendBytes appends x as Parquet wants it in a FIXED_LEN_BYTE_ARRAY: big-endian.
func (x int128) appendBytes(dst []byte) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(dst, uint64(x.hi)), x.lo)
}

func (x int128) neg() int128 {
	lo, carry := bits.Add64(^x.lo, 1, 0)
	hi, _ := bits.Add64(^uint64(x.hi), 0, carry)
	return int128{int64(hi), lo}
}

// mul10 is x*10 + d for an x that is not negative and has room for it.
func (x int128) mul10(d uint64) int128 {
	over, lo := bits.Mul64(x.lo, 10)
	lo, carry := bits.Add64(lo, d, 0)
	return int128{x.hi*10 + int64(over+carry), lo}
}

// parseDecimal reads a number, with or without exponent, as its multiple of
// 10^-scale. Nothing is rounded: a digit behind the scale that is not 0, or more
// than precision digits in all, is an error; rule says which ("syntax" or
// "range"), and msg what is wrong, to be read after the text.
func parseDecimal(s string, precision, scale int) (x int128, rule, msg string) {
	syntax := func() (int128, string, string) { return int128{}, row.RuleSyntax, "is not a number" }
	rest, negative := s, false
	if rest != "" && (rest[0] == '-' || rest[0] == '+') {
		negative, rest = rest[0] == '-', rest[1:]
	}
	end := 0 // of the digits and the point
	point, digits := -1, 0
	for end < len(rest) {
		if b := rest[end]; b == '.' && point < 0 {
			point = end
		} else if b-'0' <= 9 {
			digits++
		} else {
			break
		}
		end++
	}
	if digits == 0 {
		return syntax()
	}
	exponent := 0
	if tail := rest[end:]; tail != "" {
		if tail[0]|0x20 != 'e' {
			return syntax()
		}
		var ok bool
		if exponent, ok = parseExponent(tail[1:]); !ok {
			return syntax()
		}
	}
	number := rest[:end]
	// The value is the digits times 10^exponent, with the point taken out.
	if point >= 0 {
		exponent -= len(number) - point - 1
	}
	// keep is how many of the digits are before the last one that the scale has.
	keep := digits + exponent + scale
	used, seen := 0, 0 // digits of x; digits read, leading zeros included
	for i := range len(number) {
		if i == point {
			continue
		}
		d := uint64(number[i] - '0')
		seen++
		if d == 0 && (used == 0 || seen > keep) {
			continue // a zero in front, or behind the scale, changes nothing
		}
		if seen > keep {
			return int128{}, row.RuleRange, fmt.Sprintf("has more than %d digits behind the point", scale)
		}
		// So many digits has the whole number, this one and those still to come.
		if used == 0 && keep-seen+1 > precision {
			return int128{}, row.RuleRange, fmt.Sprintf("has more than %d digits before the point", precision-scale)
		}
		x = x.mul10(d)
		used++
	}
	if used > 0 {
		for range keep - seen { // zeros that the exponent stands for
			x = x.mul10(0)
		}
	}
	if negative {
		x = x.neg()
	}
	return x, "", ""
}

// parseExponent reads what stands behind the e. Beyond a million it is cut off:
// no column has so many digits.
func parseExponent(s string) (int, bool) {
	negative := false
	if s != "" && (s[0] == '-' || s[0] == '+') {
		negative, s = s[0] == '-', s[1:]
	}
	if s == "" {
		return 0, false
	}
	const most = 1_000_000
	n := 0
	for i := range len(s) {
		if s[i]-'0' > 9 {
			return 0, false
		}
		n = min(n*10+int(s[i]-'0'), most)
	}
	if negative {
		n = -n
	}
	return n, true
}
