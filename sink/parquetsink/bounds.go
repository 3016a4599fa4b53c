package parquetsink

import (
	"encoding/binary"
	"math"
)

// The smallest and the largest value of a page are kept as a key: an integer with
// the same order.
//
//	signed integers    themselves
//	unsigned integers  with the highest bit turned over
//	floats             their bits, all but the highest turned over below zero; -0 comes
//	                   before 0, and a NaN before or after all numbers
//	bools              0 and 1

// bounded tells whether a column has its smallest and largest value in the
// footer. Those of strings cost more than they give, and few readers compare
// decimals of 16 bytes rightly.
func (c *Column) bounded() bool {
	p := c.Physical()
	return p != ByteArray && p != FixedLenByteArray
}

// bounds finds the bounds of all pages, and begins b.out.pages. A row group with a
// NaN has none: a NaN is outside of any, and a reader that goes by them (DuckDB
// takes NaN to be the largest number) would miss its row.
func (b *bench) bounds(k *chunk) {
	b.out.pages = b.out.pages[:len(k.pages)]
	if !k.column.bounded() {
		return
	}
	b.out.min, b.out.max = math.MaxInt64, math.MinInt64
	for i := range k.pages {
		pg, info := &k.pages[i], &b.out.pages[i]
		if pg.values == 0 {
			info.none = true
			continue
		}
		switch p := k.column.Physical(); {
		case p == Boolean:
			info.min, info.max = boolKeys(pg.data)
		case p == Int64 && k.column.Type == Uint:
			info.min, info.max = keysOf(numbers[int64](pg.data), math.MinInt64)
		case p == Int64:
			info.min, info.max = keysOf(numbers[int64](pg.data), 0)
		case p == Int32 && k.column.Type == Uint:
			lo, hi := keysOf(numbers[int32](pg.data), math.MinInt32)
			info.min, info.max = int64(lo), int64(hi)
		case p == Int32:
			lo, hi := keysOf(numbers[int32](pg.data), 0)
			info.min, info.max = int64(lo), int64(hi)
		case p == Float64:
			info.min, info.max = doubleKeys(numbers[int64](pg.data))
		case p == Float32:
			lo, hi := floatKeys(numbers[int32](pg.data))
			info.min, info.max = int64(lo), int64(hi)
		}
		b.out.min, b.out.max = min(b.out.min, info.min), max(b.out.max, info.max)
	}
	b.out.bounded = true
	switch k.column.Physical() {
	case Float64:
		b.out.bounded = b.out.min > b.out.max || b.out.min >= doubleKey(math.Inf(-1)) && b.out.max <= doubleKey(math.Inf(1))
	case Float32:
		inf := floatKey(float32(math.Inf(1)))
		b.out.bounded = b.out.min > b.out.max || b.out.min >= int64(floatKey(float32(math.Inf(-1)))) && b.out.max <= int64(inf)
	}
}

func boolKeys(bools []byte) (lo, hi int64) {
	lo = 1
	for _, x := range bools {
		lo, hi = min(lo, int64(x)), max(hi, int64(x))
	}
	return lo, hi
}

// keysOf finds the smallest and largest of at least one value, two at a time.
func keysOf[E int32 | int64](values []E, flip E) (lo, hi E) {
	lo, hi = values[0]^flip, values[0]^flip
	lo2, hi2 := lo, hi
	for len(values) >= 2 {
		x, y := values[0]^flip, values[1]^flip
		lo, hi, lo2, hi2 = min(lo, x), max(hi, x), min(lo2, y), max(hi2, y)
		values = values[2:]
	}
	if len(values) > 0 {
		x := values[0] ^ flip
		lo, hi = min(lo, x), max(hi, x)
	}
	return min(lo, lo2), max(hi, hi2)
}

func doubleKeys(values []int64) (lo, hi int64) {
	lo, hi = math.MaxInt64, math.MinInt64
	for _, x := range values {
		x ^= int64(uint64(x>>63) >> 1)
		lo, hi = min(lo, x), max(hi, x)
	}
	return lo, hi
}

func floatKeys(values []int32) (lo, hi int32) {
	lo, hi = math.MaxInt32, math.MinInt32
	for _, x := range values {
		x ^= int32(uint32(x>>31) >> 1)
		lo, hi = min(lo, x), max(hi, x)
	}
	return lo, hi
}

func doubleKey(f float64) int64 {
	x := int64(math.Float64bits(f))
	return x ^ int64(uint64(x>>63)>>1)
}

func floatKey(f float32) int32 {
	x := int32(math.Float32bits(f))
	return x ^ int32(uint32(x>>31)>>1)
}

// bound gives a key as statistics hold it: the bytes of the value. Zero is written
// as -0 where it is the smallest and as 0 where it is the largest, because not all
// readers tell them apart in the same way.
func (c *Column) bound(key int64, largest bool) []byte {
	switch p := c.Physical(); {
	case p == Boolean:
		return []byte{byte(key)}
	case p == Int32 && c.Type == Uint:
		return binary.LittleEndian.AppendUint32(nil, uint32(key)^1<<31)
	case p == Int32:
		return binary.LittleEndian.AppendUint32(nil, uint32(key))
	case p == Int64 && c.Type == Uint:
		return binary.LittleEndian.AppendUint64(nil, uint64(key)^1<<63)
	case p == Int64:
		return binary.LittleEndian.AppendUint64(nil, uint64(key))
	case p == Float32:
		x := int32(key)
		x ^= int32(uint32(x>>31) >> 1)
		f := math.Float32frombits(uint32(x))
		if f == 0 {
			f = float32(zero(largest))
		}
		return binary.LittleEndian.AppendUint32(nil, math.Float32bits(f))
	}
	key ^= int64(uint64(key>>63) >> 1)
	f := math.Float64frombits(uint64(key))
	if f == 0 {
		f = zero(largest)
	}
	return binary.LittleEndian.AppendUint64(nil, math.Float64bits(f))
}

func zero(largest bool) float64 {
	if largest {
		return 0
	}
	return math.Copysign(0, -1)
}
