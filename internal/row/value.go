package row

import (
	"encoding"
	"math"
	"reflect"
	"time"
	"unsafe"
)

// Value is what a field holds, for a sink that has its own form for each kind.
type Value struct {
	Kind  Kind // never Text or Other: a Text gives its text, as a String
	Null  bool // nothing else is set
	Int   int64
	Uint  uint64
	Float float64
	Str   string
	Bytes []byte
	Time  time.Time
}

// Value reads the column's field of the row at p. Bool is Int 0 or 1 and
// Duration is Int in nanoseconds; a float32 is widened; Time is as the row holds
// it, in whatever location. Bytes are never nil unless Null is set.
//
// Str and Bytes share the row's memory: they must not be changed, and are valid
// while the row is. Only a Text and an Other can give an error, of type *[Error];
// only a Text allocates.
func (c *Column) Value(p unsafe.Pointer) (Value, error) {
	q := c.At(p)
	if q == nil {
		k := c.Kind
		if k == Text {
			k = String
		}
		return Value{Kind: k, Null: true}, nil
	}
	switch c.Kind {
	case String:
		return Value{Kind: String, Str: *(*string)(q)}, nil
	case Int:
		return Value{Kind: Int, Int: getInt(q, c.Bits)}, nil
	case Float:
		return Value{Kind: Float, Float: getFloat(q, c.Bits)}, nil
	case Time:
		return Value{Kind: Time, Time: *(*time.Time)(q)}, nil
	case Uint:
		return Value{Kind: Uint, Uint: getUint(q, c.Bits)}, nil
	case Bool:
		v := Value{Kind: Bool}
		if *(*bool)(q) {
			v.Int = 1
		}
		return v, nil
	case Duration:
		return Value{Kind: Duration, Int: *(*int64)(q)}, nil
	case Bytes:
		b := *(*[]byte)(q)
		if b == nil {
			// A driver would make null of it, in a column that has none.
			b = []byte{}
		}
		return Value{Kind: Bytes, Bytes: b}, nil
	case Text:
		s, err := c.textOf(q)
		return Value{Kind: String, Str: s}, err
	}
	return Value{}, c.fail(RuleType, "", "a "+c.elem.String()+" has no column form, only JSON", nil)
}

// At returns where the value of the row at p is, or nil when it is null. What
// lies there is of type [Column.Elem].
func (c *Column) At(p unsafe.Pointer) unsafe.Pointer {
	f := unsafe.Add(p, c.offset)
	switch c.null {
	case nullPtr:
		return *(*unsafe.Pointer)(f)
	case nullSQL:
		if !*(*bool)(unsafe.Add(f, c.validOff)) {
			return nil
		}
		return unsafe.Add(f, c.valueOff)
	}
	return f
}

func (c *Column) textOf(q unsafe.Pointer) (string, error) {
	if c.noneExtra(q) { // without a copy
		return "{}", nil
	}
	b, err := c.marshalText(q)
	return string(b), err
}

func (c *Column) marshalText(q unsafe.Pointer) ([]byte, error) {
	if c.Extra {
		return c.appendAny(nil, q)
	}
	m, can := reflect.NewAt(c.elem, q).Interface().(encoding.TextMarshaler)
	if !can {
		return nil, c.fail(RuleType, "", "a "+c.elem.String()+" cannot be written, it has no MarshalText", nil)
	}
	b, err := m.MarshalText()
	if err != nil {
		return nil, c.fail(RuleType, "", "the "+c.elem.String()+" cannot be written", err)
	}
	return b, nil
}

func getInt(q unsafe.Pointer, bits int) int64 {
	switch bits {
	case 64:
		return *(*int64)(q)
	case 32:
		return int64(*(*int32)(q))
	case 16:
		return int64(*(*int16)(q))
	}
	return int64(*(*int8)(q))
}

func getUint(q unsafe.Pointer, bits int) uint64 {
	switch bits {
	case 64:
		return *(*uint64)(q)
	case 32:
		return uint64(*(*uint32)(q))
	case 16:
		return uint64(*(*uint16)(q))
	}
	return uint64(*(*uint8)(q))
}

func getFloat(q unsafe.Pointer, bits int) float64 {
	if bits == 32 {
		return float64(*(*float32)(q))
	}
	return *(*float64)(q)
}

func finite(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) }

// Text is the column's value as text, for adapters that have no other form for it: what
// [Column.Parse] reads. Of a Text and a Time, whose layout it has; others have their
// own forms. The value must not be null. Errors are of type *[Error].
func (c *Column) Text(p unsafe.Pointer) (string, error) {
	q := c.At(p)
	switch c.Kind {
	case Text:
		return c.textOf(q)
	case Time:
		return (*(*time.Time)(q)).UTC().Format(c.Layout), nil
	}
	return "", c.fail(RuleType, "", "a "+c.elem.String()+" has no text here", nil)
}
