package sqlitepage

import (
	"encoding/binary"
	"math"
	"math/bits"
	"time"
	"unsafe"
)

// outcome of adding a row to the leaf.
type outcome uint8

const (
	added   outcome = iota
	full            // no room in this leaf
	refused         // no image can hold the row
)

// Serial types of a record.
const (
	typeNull  = 0
	typeFloat = 7
	typeZero  = 8 // the integer 0; 9 is 1
	typeBlob  = 12
	typeText  = 13
)

// margin is more than a cell takes besides its values and their types: its length, its
// rowid, the size of its header, and the 8 bytes that a small integer is written
// in. It is also so much that the record of a row that fits has no overflow pages.
const margin = 48

// widths gives for the bits of an integer, its sign not counted, serial type and bytes.
var widths = func() (w [64]struct{ serial, size uint8 }) {
	for n := range w {
		switch {
		case n < 8:
			w[n].serial, w[n].size = 1, 1
		case n < 16:
			w[n].serial, w[n].size = 2, 2
		case n < 24:
			w[n].serial, w[n].size = 3, 3
		case n < 32:
			w[n].serial, w[n].size = 4, 4
		case n < 48:
			w[n].serial, w[n].size = 5, 6
		default:
			w[n].serial, w[n].size = 6, 8
		}
	}
	return w
}()

// add adds the row at p. It works from the end of the record to its beginning, because
// the leaf is filled from its end: so everything is written where it stays, and no
// size must be known before. Only the types of the values, which come before all values,
// are gathered elsewhere.
func (m *Image) add(p unsafe.Pointer) outcome {
	leaf, pos := m.leaf, m.free
	floor := leafHeader + 2*(m.cells+1) + m.slack
	if pos < floor {
		return full
	}
	rowid := m.rowid + 1
	if m.key != nil {
		var ok bool
		if rowid, ok = m.key.integer(p); !ok || rowid <= m.rowid && (m.cells > 0 || m.used > firstLeaf+1) {
			return refused
		}
	}
	types := m.types
	t := len(types)
	for i := range m.steps {
		s := &m.steps[i]
		q := unsafe.Add(p, s.offset)
		if s.null {
			if q = s.column.At(p); q == nil {
				t--
				types[t] = typeNull
				continue
			}
		}
		var v int64
		switch s.code {
		case stepInt64:
			v = *(*int64)(q)
		case stepFloat64, stepFloat32:
			var f float64
			if s.code == stepFloat64 {
				f = *(*float64)(q)
			} else {
				f = float64(*(*float32)(q))
			}
			var whole bool
			if v, whole = wholeFloat(f); !whole {
				if f != f {
					return refused
				}
				pos -= 8
				binary.BigEndian.PutUint64(leaf[pos:], math.Float64bits(f))
				t--
				types[t] = typeFloat
				continue
			}
		case stepString:
			str := *(*string)(q)
			if len(str) > pos-floor {
				return full
			}
			pos -= len(str)
			copy(leaf[pos:], str)
			t = putType(types, t, 2*len(str)+typeText)
			continue
		case stepDateTime, stepDate, stepRFC3339:
			at := *(*time.Time)(q)
			sec := at.Unix()
			if sec < s.from || sec >= s.from+daySeconds {
				if !s.newDay(sec) {
					return refused
				}
			}
			end := pos
			switch s.code {
			case stepRFC3339:
				pos--
				leaf[pos] = 'Z'
				pos = putFraction(leaf, pos, at.Nanosecond())
				pos = putClock(leaf, pos, 'T', uint(sec-s.from))
			case stepDateTime:
				pos = putClock(leaf, pos, ' ', uint(sec-s.from))
			}
			pos -= len(s.date)
			*(*[len(s.date)]byte)(leaf[pos:]) = s.date
			t = putType(types, t, 2*(end-pos)+typeText)
			continue
		case stepBytes:
			b := *(*[]byte)(q)
			if len(b) > pos-floor {
				return full
			}
			pos -= len(b)
			copy(leaf[pos:], b)
			t = putType(types, t, 2*len(b)+typeBlob)
			continue
		case stepRowid:
			t--
			types[t] = typeNull
			continue
		case stepTime, stepText:
			var fine bool
			if m.text, fine = s.appendText(m.text[:0], p, q); !fine {
				return refused
			}
			if len(m.text) > pos-floor {
				return full
			}
			pos -= len(m.text)
			copy(leaf[pos:], m.text)
			t = putType(types, t, 2*len(m.text)+typeText)
			continue
		default:
			var ok bool
			if v, ok = s.integerAt(q); !ok {
				return refused
			}
		}
		t--
		if uint64(v) <= 1 {
			types[t] = typeZero + byte(v)
			continue
		}
		w := widths[bits.Len64(uint64(v^v>>63))&63]
		types[t] = w.serial
		// Its bytes are the last of the 8; those before them are overwritten by what
		// comes next.
		binary.BigEndian.PutUint64(leaf[pos-8:], uint64(v))
		pos -= int(w.size)
	}

	header := types[t:]
	pos -= len(header)
	copy(leaf[pos:], header)
	// The size of the header counts itself.
	if n := len(header) + 1; n < 1<<7 {
		pos--
		leaf[pos] = byte(n)
	} else {
		pos = putVarint(leaf, pos, uint64(n+1))
	}
	payload := m.free - pos
	pos = putVarint(leaf, pos, uint64(rowid))
	pos = putVarint(leaf, pos, uint64(payload))
	binary.BigEndian.PutUint16(leaf[leafHeader+2*m.cells:], uint16(pos))
	m.cells++
	m.free, m.rowid = pos, rowid
	return added
}

// wholeFloat tells the floats that SQLite stores as integers, in a column REAL, to save
// space: all that are whole and of 48 bits. -0 is one of them, and becomes 0.
func wholeFloat(f float64) (int64, bool) {
	v := int64(f) // of a float out of range it is any integer, but none that is equal
	return v, float64(v) == f && v >= -1<<47 && v < 1<<47
}

// putVarint writes v before pos and returns where it begins.
func putVarint(p *page, pos int, v uint64) int {
	if v >= 1<<56 {
		// The ninth byte, if there is one, has 8 bits.
		pos--
		p[pos] = byte(v)
		v >>= 8
		for range 8 {
			pos--
			p[pos] = byte(v) | 0x80
			v >>= 7
		}
		return pos
	}
	pos--
	p[pos] = byte(v & 0x7f)
	for v >>= 7; v != 0; v >>= 7 {
		pos--
		p[pos] = byte(v) | 0x80
	}
	return pos
}

// putType writes the serial type of a text or blob before t; it is below 1<<21.
func putType(types []byte, t, serial int) int {
	t--
	types[t] = byte(serial & 0x7f)
	for serial >>= 7; serial != 0; serial >>= 7 {
		t--
		types[t] = byte(serial) | 0x80
	}
	return t
}

const daySeconds = 24 * 60 * 60

// putClock writes sep and the time of day as 15:04:05 before pos.
func putClock(p *page, pos int, sep byte, sec uint) int {
	pos -= 9
	c := (*[9]byte)(p[pos:])
	minute := sec / 60
	hour := minute / 60
	c[0] = sep
	put2(c[1:3], hour)
	c[3] = ':'
	put2(c[4:6], minute-hour*60)
	c[6] = ':'
	put2(c[7:9], sec-minute*60)
	return pos
}

// putFraction writes the fraction of a second before pos as time.RFC3339Nano does:
// without the zeros at its end, and not at all when it is 0.
func putFraction(p *page, pos int, nsec int) int {
	if nsec == 0 {
		return pos
	}
	digits := 9
	for ; nsec%10 == 0; nsec /= 10 {
		digits--
	}
	for range digits {
		pos--
		p[pos] = byte('0' + nsec%10)
		nsec /= 10
	}
	pos--
	p[pos] = '.'
	return pos
}

func put2(b []byte, v uint) { b[0], b[1] = byte('0'+v/10), byte('0'+v%10) }
