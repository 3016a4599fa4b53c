package avrocodec

import (
	"reflect"
	"unicode/utf8"
	"unsafe"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/row"
)

// textColumn is a column that holds text, itself or somewhere inside. Avro's strings are UTF-8,
// but the library reads and writes what comes.
type textColumn struct {
	*row.Column
	valid textCheck
}

// textCheck tells whether all text of the value at p is UTF-8.
type textCheck func(p unsafe.Pointer) bool

// textColumns are those among found. The row type must have a shadow: types that hold themselves
// have none.
func textColumns(rt *row.Type, found map[string]bool) (out []textColumn) {
	for i := range rt.Columns {
		c := &rt.Columns[i]
		if !found[c.Name] {
			continue
		}
		if check := textIn(c.Elem()); check != nil {
			out = append(out, textColumn{c, check})
		}
	}
	return out
}

// checkText looks at all text of the row at p.
func checkText(columns []textColumn, p unsafe.Pointer) error {
	for i := range columns {
		c := &columns[i]
		if q := c.At(p); q != nil && !c.valid(q) {
			return &leat.FieldError{Column: c.Name, Rule: "utf8", Msg: "column " + c.Name + ": not valid UTF-8"}
		}
	}
	return nil
}

// textIn is nil for types without text.
func textIn(t reflect.Type) textCheck {
	switch kind, _ := row.KindOf(t); kind {
	case row.String:
		return func(p unsafe.Pointer) bool { return utf8.ValidString(*(*string)(p)) }
	case row.Other:
	default:
		return nil
	}
	switch t.Kind() {
	case reflect.Interface:
		return func(p unsafe.Pointer) bool { return validText(reflect.NewAt(t, p).Elem()) }
	case reflect.Pointer:
		if check := textIn(t.Elem()); check != nil {
			return func(p unsafe.Pointer) bool { p = *(*unsafe.Pointer)(p); return p == nil || check(p) }
		}
	case reflect.Slice, reflect.Array:
		if check := textIn(t.Elem()); check != nil {
			return func(p unsafe.Pointer) bool {
				for list, i := reflect.NewAt(t, p).Elem(), 0; i < list.Len(); i++ {
					if !check(list.Index(i).Addr().UnsafePointer()) {
						return false
					}
				}
				return true
			}
		}
	case reflect.Map:
		return textInMap(t)
	case reflect.Struct:
		return textInStruct(t)
	}
	return nil
}

func textInMap(t reflect.Type) textCheck {
	ofKey, ofValue := textIn(t.Key()), textIn(t.Elem())
	if ofKey == nil && ofValue == nil {
		return nil
	}
	return func(p unsafe.Pointer) bool {
		m := reflect.NewAt(t, p).Elem()
		if m.Len() == 0 {
			return true
		}
		key, value := reflect.New(t.Key()), reflect.New(t.Elem())
		for at := m.MapRange(); at.Next(); {
			key.Elem().SetIterKey(at)
			value.Elem().SetIterValue(at)
			if ofKey != nil && !ofKey(key.UnsafePointer()) || ofValue != nil && !ofValue(value.UnsafePointer()) {
				return false
			}
		}
		return true
	}
}

func textInStruct(t reflect.Type) textCheck {
	if row.IsSQLNull(t) || opaque(t) {
		return nil
	}
	rt, err := row.OfType(t)
	if err != nil {
		return nil
	}
	type field struct {
		at    uintptr
		valid textCheck
	}
	var fields []field
	for i := range rt.Columns {
		c := &rt.Columns[i]
		if check := textIn(c.Type); check != nil {
			at, _ := c.Fixed()
			fields = append(fields, field{at, check})
		}
	}
	if fields == nil {
		return nil
	}
	return func(p unsafe.Pointer) bool {
		for _, f := range fields {
			if !f.valid(unsafe.Add(p, f.at)) {
				return false
			}
		}
		return true
	}
}

// validText looks into what the library makes of a value where the row has an interface.
func validText(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.String:
		return utf8.ValidString(v.String())
	case reflect.Pointer, reflect.Interface:
		return v.IsNil() || v.Kind() == reflect.Interface && validText(v.Elem())
	case reflect.Slice:
		for i := range v.Len() {
			if !validText(v.Index(i)) {
				return false
			}
		}
	case reflect.Map:
		for at := v.MapRange(); at.Next(); {
			if !validText(at.Key()) || !validText(at.Value()) {
				return false
			}
		}
	}
	return true
}
