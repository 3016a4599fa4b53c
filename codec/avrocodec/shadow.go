package avrocodec

import (
	"fmt"
	"reflect"
	"strconv"
	"time"
	"unsafe"

	"github.com/leatgo/leat/internal/row"
)

// The Avro library finds fields by its own struct tag. A shadow is a type of the same memory as
// a row's, whose tags say the columns' names, so that the library works on the row
// itself. What has no column is left out, and so are columns with a cell (see cells).

// shadowOf makes the shadow of the row type t.
func shadowOf(t reflect.Type, rt *row.Type, without map[string]bool) (reflect.Type, error) {
	s := shadower{open: map[reflect.Type]bool{t: true}}
	return s.fields(t, 0, rt, without)
}

type shadower struct {
	open map[reflect.Type]bool // structs being walked, to find those that hold themselves
}

func (s *shadower) fields(t reflect.Type, base uintptr, rt *row.Type, without map[string]bool) (reflect.Type, error) {
	fields := make([]reflect.StructField, t.NumField())
	for i := range fields {
		f := t.Field(i)
		out := reflect.StructField{Name: "F" + strconv.Itoa(i), Type: f.Type, Tag: `avro:"-"`}
		col := columnAt(rt, base+f.Offset, f.Type)
		switch {
		case col != nil && !without[col.Name] && !col.Extra && validName(col.Name):
			ft, err := s.value(f.Type)
			if err != nil {
				return nil, fmt.Errorf("column %s: %w", col.Name, err)
			}
			out.Type, out.Tag = ft, reflect.StructTag(`avro:"`+col.Name+`"`)
		case col == nil && f.Anonymous && f.Type.Kind() == reflect.Struct && holdsColumns(rt, base+f.Offset, f.Type):
			ft, err := s.fields(f.Type, base+f.Offset, rt, without)
			if err != nil {
				return nil, err
			}
			out.Type, out.Tag = ft, `avro:",inline"`
		}
		fields[i] = out
	}
	shadow := reflect.StructOf(fields)
	if shadow.Size() != t.Size() { // StructOf lays fields out as the compiler does
		return nil, fmt.Errorf("the type %v has no shadow of its size", t)
	}
	return shadow, nil
}

// value gives the shadow of a column's type: itself, but for structs somewhere in it.
func (s *shadower) value(t reflect.Type) (reflect.Type, error) {
	switch kind, _ := row.KindOf(t); kind {
	case row.Other:
	case row.Time:
		return reflect.TypeFor[time.Time](), nil // type Fecha time.Time has the same memory
	default:
		return t, nil
	}
	switch t.Kind() {
	case reflect.Pointer:
		e, err := s.value(t.Elem())
		if err != nil || e == t.Elem() {
			return t, err
		}
		return reflect.PointerTo(e), nil
	case reflect.Slice:
		e, err := s.value(t.Elem())
		if err != nil || e == t.Elem() {
			return t, err
		}
		return reflect.SliceOf(e), nil
	case reflect.Array:
		e, err := s.value(t.Elem())
		if err != nil || e == t.Elem() {
			return t, err
		}
		return reflect.ArrayOf(t.Len(), e), nil
	case reflect.Map:
		e, err := s.value(t.Elem())
		if err != nil || e == t.Elem() {
			return t, err
		}
		return reflect.MapOf(t.Key(), e), nil
	case reflect.Struct:
		if row.IsSQLNull(t) || opaque(t) {
			return t, nil
		}
		if s.open[t] {
			return nil, fmt.Errorf("the type %v holds itself, which Avro rows can't", t)
		}
		s.open[t] = true
		defer delete(s.open, t)
		rt, err := row.OfType(t)
		if err != nil {
			return nil, err
		}
		return s.fields(t, 0, rt, nil)
	}
	return t, nil
}

// opaque is of structs that the library knows by their type.
func opaque(t reflect.Type) bool {
	p := t.PkgPath()
	return p == "math/big" || p == "github.com/twmb/avro"
}

func columnAt(rt *row.Type, offset uintptr, t reflect.Type) *row.Column {
	for i := range rt.Columns {
		c := &rt.Columns[i]
		if off, _ := c.Fixed(); off == offset && c.Type == t {
			return c
		}
	}
	return nil
}

// holdsColumns tells an embedded struct, whose fields are columns, from one that is left out.
func holdsColumns(rt *row.Type, offset uintptr, t reflect.Type) bool {
	for i := range rt.Columns {
		if off, _ := rt.Columns[i].Fixed(); off >= offset && off < offset+t.Size() {
			return true
		}
	}
	return false
}

// validName says whether Avro can have a field of this name.
func validName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// at is the row at p as its shadow sees it.
func at(shadow reflect.Type, p unsafe.Pointer) reflect.Value { return reflect.NewAt(shadow, p) }
