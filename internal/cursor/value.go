package cursor

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"
)

// Kind is the form of a value. The zero Kind is null.
type Kind uint8

// The kinds of values.
const (
	Null Kind = iota
	Int
	Float
	Text
	Blob
)

var kindNames = [...]string{"NULL", "an integer", "a float", "a text", "a blob"}

// String names the kind with its article, for messages.
func (k Kind) String() string { return kindNames[k] }

// Value is one value of a cursor or of a key.
type Value struct {
	Kind  Kind
	Int   int64
	Float float64
	Str   string // of a Text or a Blob
}

// Of makes a Value of what people write in a Config: an integer, a float, a string or
// bytes.
func Of(v any) (Value, error) {
	switch v := v.(type) {
	case int:
		return Value{Kind: Int, Int: int64(v)}, nil
	case int32:
		return Value{Kind: Int, Int: int64(v)}, nil
	case int64:
		return Value{Kind: Int, Int: v}, nil
	case uint32:
		return Value{Kind: Int, Int: int64(v)}, nil
	case float64:
		if math.IsNaN(v) {
			return Value{}, errors.New("NaN has no place in an order")
		}
		return Value{Kind: Float, Float: v}, nil
	case string:
		return Value{Kind: Text, Str: v}, nil
	case []byte:
		return Value{Kind: Blob, Str: string(v)}, nil
	}
	return Value{}, fmt.Errorf("a %T is no value of a cursor: there are integers, floats, strings and bytes", v)
}

// whole gives the integer that a float is equal to: databases compare numbers by value.
func (v Value) whole() Value {
	if v.Kind == Float && v.Float == math.Trunc(v.Float) && v.Float >= -1<<63 && v.Float < 1<<63 {
		return Value{Kind: Int, Int: int64(v.Float)}
	}
	return v
}

// Equal tells whether two values are the same, and numbers whether they have the same value.
func (v Value) Equal(w Value) bool { return v.whole() == w.whole() }

// Class is the value's kind, and the same for all numbers: what databases sort together.
func (v Value) Class() Kind {
	if v.Kind == Float {
		return Int
	}
	return v.Kind
}

func equal(a, b []Value) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !a[i].Equal(b[i]) {
			return false
		}
	}
	return true
}

// append adds bytes that are the same for equal values, and of which no sequence of
// values has another's.
func (v Value) append(b []byte) []byte {
	v = v.whole()
	b = append(b, byte(v.Kind))
	switch v.Kind {
	case Int:
		b = binary.BigEndian.AppendUint64(b, uint64(v.Int))
	case Float:
		b = binary.BigEndian.AppendUint64(b, math.Float64bits(v.Float))
	case Text, Blob:
		b = append(binary.AppendUvarint(b, uint64(len(v.Str))), v.Str...)
	}
	return b
}

// String is the value as messages show it: one line, cut to 64 bytes.
func (v Value) String() string {
	switch v.Kind {
	case Int:
		return strconv.FormatInt(v.Int, 10)
	case Float:
		return strconv.FormatFloat(v.Float, 'g', -1, 64)
	case Text:
		if len(v.Str) > 64 {
			return strconv.Quote(v.Str[:64]) + "…"
		}
		return strconv.Quote(v.Str)
	case Blob:
		if len(v.Str) > 32 {
			return fmt.Sprintf("x'%x'…", v.Str[:32])
		}
		return fmt.Sprintf("x'%x'", v.Str)
	}
	return "NULL"
}

// form is a value that has no plain form in JSON.
type form struct {
	Float string  `json:"float,omitempty"`
	Text  *[]byte `json:"text,omitempty"` // not UTF-8
	Blob  *[]byte `json:"blob,omitempty"`
}

// AppendJSON appends the value in a form that people can read and ParseJSON gives back
// exactly: null, a whole number, a number with a point or an exponent, a string. What JSON
// has no form for is an object: {"blob": base64}, {"text": base64} when it is
// not UTF-8, {"float": "+Inf"}.
func (v Value) AppendJSON(b []byte) []byte {
	var f form
	switch v.Kind {
	case Null:
		return append(b, "null"...)
	case Int:
		return strconv.AppendInt(b, v.Int, 10)
	case Float:
		if !math.IsInf(v.Float, 0) && !math.IsNaN(v.Float) {
			start := len(b)
			b = strconv.AppendFloat(b, v.Float, 'g', -1, 64)
			if !bytes.ContainsAny(b[start:], ".e") { // else it would come back as an integer
				b = append(b, ".0"...)
			}
			return b
		}
		f.Float = strconv.FormatFloat(v.Float, 'g', -1, 64)
	case Text:
		if utf8.ValidString(v.Str) {
			js, err := json.Marshal(v.Str)
			if err != nil { // can't be
				panic(err)
			}
			return append(b, js...)
		}
		raw := []byte(v.Str)
		f.Text = &raw
	case Blob:
		raw := []byte(v.Str)
		f.Blob = &raw
	}
	js, err := json.Marshal(f)
	if err != nil { // can't be
		panic(err)
	}
	return append(b, js...)
}

// MarshalJSON implements json.Marshaler.
func (v Value) MarshalJSON() ([]byte, error) { return v.AppendJSON(nil), nil }

// UnmarshalJSON implements json.Unmarshaler.
func (v *Value) UnmarshalJSON(js []byte) error {
	d := json.NewDecoder(bytes.NewReader(js))
	d.UseNumber()
	var a any
	if err := d.Decode(&a); err != nil {
		return err
	}
	got, err := FromJSON(a)
	if err != nil {
		return err
	}
	*v = got
	return nil
}

// FromJSON makes a value of what encoding/json has decoded, with UseNumber.
func FromJSON(a any) (Value, error) {
	switch a := a.(type) {
	case nil:
		return Value{}, nil
	case string:
		return Value{Kind: Text, Str: a}, nil
	case bool: // people mend letters by hand
		if a {
			return Value{Kind: Int, Int: 1}, nil
		}
		return Value{Kind: Int}, nil
	case json.Number:
		if i, err := strconv.ParseInt(string(a), 10, 64); err == nil {
			return Value{Kind: Int, Int: i}, nil
		}
		if !bytes.ContainsAny([]byte(a), ".eE") {
			return Value{}, fmt.Errorf("the number %.40s is out of range for an integer of 64 bits", string(a))
		}
		f, err := strconv.ParseFloat(string(a), 64)
		if err != nil {
			return Value{}, fmt.Errorf("the number %.40s is out of range", string(a))
		}
		return Value{Kind: Float, Float: f}, nil
	case map[string]any:
		for name, x := range a {
			s, ok := x.(string)
			if !ok || len(a) > 1 {
				break
			}
			switch name {
			case "float":
				f, err := strconv.ParseFloat(s, 64)
				if err != nil || math.IsNaN(f) {
					return Value{}, fmt.Errorf("%.40q is no float", s)
				}
				return Value{Kind: Float, Float: f}, nil
			case "text", "blob":
				raw, err := base64.StdEncoding.DecodeString(s)
				if err != nil {
					return Value{}, fmt.Errorf("the %s is no base64: %w", name, err)
				}
				if name == "text" {
					return Value{Kind: Text, Str: string(raw)}, nil
				}
				return Value{Kind: Blob, Str: string(raw)}, nil
			}
		}
	}
	return Value{}, errors.New(`it is no value: there are null, numbers, strings, {"text": base64}, {"blob": base64} and {"float": "+Inf"}`)
}
