package parquetread

import (
	"encoding/binary"
	"math/bits"
	"unsafe"
)

// Values are values of one storage type. What is set, that type tells.
type Values struct {
	N       int
	Bools   []bool
	Int32s  []int32
	Int64s  []int64
	Floats  []float32
	Doubles []float64

	// Byte arrays: value i is Data[s>>32:][:uint32(s)] for s = Spans[i]; those of fixed
	// length (INT96 too) lie one after the other.
	Data  []byte
	Spans []uint64
	Width int

	// Or numbers in a dictionary of byte arrays.
	Codes []uint32
	Dict  *Dictionary
}

// Bytes is value i of byte arrays.
func (v *Values) Bytes(i int) []byte {
	if v.Codes != nil {
		return v.Dict.Bytes(int(v.Codes[i]))
	}
	if v.Width > 0 {
		return v.Data[i*v.Width : (i+1)*v.Width : (i+1)*v.Width]
	}
	s := v.Spans[i]
	at, n := int(s>>32), int(uint32(s))
	return v.Data[at : at+n : at+n]
}

// slice gives values i to j-1.
func (v *Values) slice(i, j int) Values {
	out := Values{N: j - i, Data: v.Data, Width: v.Width, Dict: v.Dict}
	switch {
	case v.Bools != nil:
		out.Bools = v.Bools[i:j]
	case v.Int32s != nil:
		out.Int32s = v.Int32s[i:j]
	case v.Int64s != nil:
		out.Int64s = v.Int64s[i:j]
	case v.Floats != nil:
		out.Floats = v.Floats[i:j]
	case v.Doubles != nil:
		out.Doubles = v.Doubles[i:j]
	case v.Codes != nil:
		out.Codes = v.Codes[i:j]
	case v.Spans != nil:
		out.Spans = v.Spans[i:j]
	case v.Width > 0:
		out.Data = v.Data[i*v.Width : j*v.Width]
	}
	return out
}

var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// view gives the little-endian numbers in b, in the same memory where that can be.
func view[E int32 | int64 | float32 | float64](b []byte) []E {
	size := int(unsafe.Sizeof(*new(E)))
	n := len(b) / size
	if n == 0 {
		return []E{}
	}
	p := unsafe.Pointer(unsafe.SliceData(b))
	if littleEndian {
		if uintptr(p)%uintptr(size) == 0 {
			return unsafe.Slice((*E)(p), n)
		}
		out := make([]E, n)
		copy(unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(out))), n*size), b)
		return out
	}
	out := make([]E, n)
	for i := range out {
		if size == 4 {
			*(*uint32)(unsafe.Pointer(&out[i])) = binary.LittleEndian.Uint32(b[i*size:])
		} else {
			*(*uint64)(unsafe.Pointer(&out[i])) = binary.LittleEndian.Uint64(b[i*size:])
		}
	}
	return out
}

// plain gives the first n values of b, or fewer if there are not so many, and how many
// bytes they take.
func plain(t *leafType, b []byte, n int) (v Values, used int) {
	size := 0
	switch t.phys {
	case physInt32, physFloat:
		size = 4
	case physInt64, physDouble:
		size = 8
	case physInt96:
		size = 12
	case physFixed:
		size = int(t.length)
	case physBytes:
		spans := make([]uint64, 0, min(n, len(b)/4))
		at := 0
		for len(spans) < n && len(b)-at >= 4 {
			size := binary.LittleEndian.Uint32(b[at:])
			if uint64(size) > uint64(len(b)-at-4) {
				break
			}
			length := int(size)
			spans = append(spans, uint64(at+4)<<32|uint64(length))
			at += 4 + length
		}
		return Values{N: len(spans), Data: b, Spans: spans}, at
	}
	n = min(n, len(b)/size)
	v.N = n
	used = n * size
	b = b[:used:used]
	switch t.phys {
	case physInt32:
		v.Int32s = view[int32](b)
	case physFloat:
		v.Floats = view[float32](b)
	case physInt64:
		v.Int64s = view[int64](b)
	case physDouble:
		v.Doubles = view[float64](b)
	default:
		v.Data, v.Width = b, size
	}
	return v, used
}

// hybrid reads runs of equal numbers and runs of packed ones, a few at a time: a run may
// claim any number of values.
type hybrid struct {
	b      []byte // behind the run
	width  uint   // of a number, in bits; up to 32
	left   int    // numbers of the run that are still to come
	value  uint32 // of a run of equal ones
	packed []byte // of a run of packed ones; nil: it is not one
	at     int    // the next one in packed
}

// fillHybrid reads numbers until dst is full or the runs end, and gives how many.
func fillHybrid[E uint8 | uint32](h *hybrid, dst []E) int {
	n := 0
	for n < len(dst) {
		if h.left == 0 && !h.next() {
			break
		}
		k := min(h.left, len(dst)-n)
		part := dst[n : n+k]
		switch {
		case h.packed != nil:
			unpack(h, part)
		case h.value == 0:
			clear(part)
		default:
			v := E(h.value)
			for i := range part {
				part[i] = v
			}
		}
		h.left -= k
		n += k
	}
	return n
}

// next begins with the next run that is not empty.
func (h *hybrid) next() bool {
	const most = 1<<31 - 1
	for {
		head, n := binary.Uvarint(h.b)
		if n <= 0 {
			return false
		}
		h.b = h.b[n:]
		count := head >> 1
		switch {
		case head&1 == 0:
			size := int(h.width+7) / 8
			if size > len(h.b) {
				return false
			}
			h.value, h.packed = 0, nil
			for i, b := range h.b[:size] {
				h.value |= uint32(b) << (8 * i)
			}
			if uint64(h.value)>>h.width != 0 {
				return false
			}
			h.b = h.b[size:]
		case h.width == 0:
			h.value, h.packed = 0, nil
			count = min(count, most) * 8
		default:
			// Some writers leave out what is behind the last value.
			size := min(min(count, most)*uint64(h.width), uint64(len(h.b)))
			count = min(min(count, most)*8, size*8/uint64(h.width))
			h.packed, h.at = h.b[:size], 0
			h.b = h.b[size:]
		}
		if h.left = int(min(count, most)); h.left > 0 {
			return true
		}
	}
}

// unpack reads packed numbers; they are there.
func unpack[E uint8 | uint32](h *hybrid, dst []E) {
	width := h.width
	mask := uint64(1)<<width - 1
	bit := uint64(h.at) * uint64(width)
	h.at += len(dst)
	b := h.packed
	i := 0
	for ; i < len(dst); i++ {
		at := int(bit >> 3)
		if at+8 > len(b) {
			break
		}
		dst[i] = E(binary.LittleEndian.Uint64(b[at:]) >> (bit & 7) & mask)
		bit += uint64(width)
	}
	for ; i < len(dst); i++ {
		dst[i] = E(bitsAt(b, bit, width))
		bit += uint64(width)
	}
}

// bitsAt reads a number of up to 64 bits anywhere in b; what is behind b is zero.
func bitsAt(b []byte, bit uint64, width uint) uint64 {
	var v uint64
	at, have := int(bit>>3), uint(0)
	if at < len(b) {
		v, have = uint64(b[at])>>(bit&7), 8-uint(bit&7)
	}
	for have < width {
		at++
		if at < len(b) {
			v |= uint64(b[at]) << have
		}
		have += 8
	}
	if width < 64 {
		v &= 1<<width - 1
	}
	return v
}

// deltas reads DELTA_BINARY_PACKED numbers of 32 or 64 bits, at most most of them, and
// gives what is behind them.
func deltas[E int32 | int64](b []byte, most int) (out []E, rest []byte, err error) {
	damaged := damagef("its numbers are damaged (DELTA_BINARY_PACKED)")
	var head [3]uint64 // the size of a block, its parts, and the numbers in all
	for i := range head {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, nil, damaged
		}
		head[i], b = v, b[n:]
	}
	first, n := binary.Varint(b)
	if n <= 0 {
		return nil, nil, damaged
	}
	b = b[n:]
	block, parts, total := head[0], head[1], head[2]
	if total > uint64(most) {
		return nil, nil, damagef("it has more numbers than its page says")
	}
	if block == 0 || block%128 != 0 || block > 1<<24 || parts == 0 || parts > block || block%parts != 0 || block/parts%32 != 0 {
		return nil, nil, damaged
	}
	out = make([]E, total)
	if total == 0 {
		return out, b, nil
	}
	value := uint64(first)
	out[0] = E(value)
	per := int(block / parts)
	for i := 1; i < len(out); {
		least, n := binary.Varint(b)
		if n <= 0 || len(b)-n < int(parts) {
			return nil, nil, damaged
		}
		widths := b[n : n+int(parts)]
		b = b[n+int(parts):]
		for _, w := range widths {
			if i == len(out) {
				break // the others have no bytes
			}
			width := uint(w)
			if width > 64 {
				return nil, nil, damaged
			}
			size := per / 8 * int(width)
			packed := b[:min(size, len(b))]
			k := min(per, len(out)-i)
			if len(packed) < size && uint64(len(packed))*8 < uint64(k)*uint64(width) {
				return nil, nil, damaged
			}
			b = b[len(packed):]
			dst := out[i : i+k]
			i += k
			if width == 0 {
				for j := range dst {
					value += uint64(least)
					dst[j] = E(value)
				}
				continue
			}
			mask := ^uint64(0) >> (64 - width)
			bit := uint64(0)
			for j := range dst {
				var d uint64
				if at := int(bit >> 3); width <= 56 && at+8 <= len(packed) {
					d = binary.LittleEndian.Uint64(packed[at:]) >> (bit & 7) & mask
				} else {
					d = bitsAt(packed, bit, width)
				}
				bit += uint64(width)
				value += uint64(least) + d
				dst[j] = E(value)
			}
		}
	}
	return out, b, nil
}

// deltaLengths reads DELTA_LENGTH_BYTE_ARRAY.
func deltaLengths(b []byte, most int) (v Values, err error) {
	lengths, rest, err := deltas[int32](b, most)
	if err != nil {
		return v, err
	}
	v = Values{N: len(lengths), Data: rest, Spans: make([]uint64, len(lengths))}
	at := 0
	for i, n := range lengths {
		if n < 0 || int(n) > len(rest)-at {
			return v, damagef("its texts are longer than their page (DELTA_LENGTH_BYTE_ARRAY)")
		}
		v.Spans[i] = uint64(at)<<32 | uint64(n)
		at += int(n)
	}
	return v, nil
}

// deltaArrays reads DELTA_BYTE_ARRAY: each value is the beginning of the one before, and
// something more. So they may be far longer than their page: no more than limit.
func deltaArrays(b []byte, most int, limit int64) (v Values, err error) {
	prefixes, b, err := deltas[int32](b, most)
	if err != nil {
		return v, err
	}
	lengths, b, err := deltas[int32](b, most)
	if err != nil {
		return v, err
	}
	damaged := damagef("its texts are damaged (DELTA_BYTE_ARRAY)")
	if len(lengths) != len(prefixes) {
		return v, damaged
	}
	total := int64(0)
	for i, n := range lengths {
		if n < 0 || prefixes[i] < 0 {
			return v, damaged
		}
		if total += int64(n) + int64(prefixes[i]); total > limit {
			return v, damagef("its texts unfold to more than the limit of %d bytes (DELTA_BYTE_ARRAY)", limit)
		}
	}
	v = Values{N: len(lengths), Data: make([]byte, 0, total), Spans: make([]uint64, len(lengths))}
	last := []byte(nil)
	for i, n := range lengths {
		if int(prefixes[i]) > len(last) || int(n) > len(b) {
			return v, damaged
		}
		at := len(v.Data)
		v.Data = append(append(v.Data, last[:prefixes[i]]...), b[:n]...)
		b = b[n:]
		last = v.Data[at:]
		v.Spans[i] = uint64(at)<<32 | uint64(len(last))
	}
	return v, nil
}

// unsplit reads BYTE_STREAM_SPLIT: the first bytes of all values, then the second ones.
func unsplit(t *leafType, b []byte) (v Values, err error) {
	size := 0
	switch t.phys {
	case physInt32, physFloat:
		size = 4
	case physInt64, physDouble:
		size = 8
	case physFixed:
		size = int(t.length)
	default:
		return v, damagef("%s values are encoded by BYTE_STREAM_SPLIT", physName(t.phys))
	}
	n := len(b) / size
	if n*size != len(b) {
		return v, damagef("its values are damaged (BYTE_STREAM_SPLIT)")
	}
	out := make([]byte, len(b))
	for k := range size {
		stream := b[k*n : (k+1)*n]
		for i, c := range stream {
			out[i*size+k] = c
		}
	}
	v, _ = plain(t, out, n)
	return v, nil
}

// levelWidth is how many bits a level of up to most has.
func levelWidth(most uint8) uint { return uint(bits.Len8(most)) }
