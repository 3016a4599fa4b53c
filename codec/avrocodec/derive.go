package avrocodec

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/leatgo/leat/internal/row"
)

// Derive gives the schema that rows of type T are written with when a Config has none: a
// record named name, or as the type if name is "", with a field for each column.
//
// Integers of up to 32 bits are int (uint32 is not), others long; times are timestamp-micros,
// durations long in nanoseconds, strings and types with a text form string, those of 16
// bytes with the logical type uuid. A tag `leat:",decimal=18.2"` makes a decimal of
// bytes. What may be null is a union with null, whose default is null. Structs are
// records, slices arrays, maps of strings maps. The same type gives the same text in every
// program, so that it is found in the registry.
func Derive[T any](name string) (string, error) {
	t := reflect.TypeFor[T]()
	rt, err := row.OfType(t)
	if err != nil {
		return "", wrap(err)
	}
	d := deriver{names: make(map[string]reflect.Type)}
	node, err := d.record(t, rt, name, "")
	if err != nil {
		return "", wrap(err)
	}
	text, err := json.Marshal(node)
	return string(text), err
}

type (
	record struct {
		Type   string  `json:"type"`
		Name   string  `json:"name"`
		Fields []field `json:"fields"`
	}
	field struct {
		Name    string           `json:"name"`
		Type    any              `json:"type"`
		Default *json.RawMessage `json:"default,omitempty"`
	}
	logical struct {
		Type      string `json:"type"`
		Logical   string `json:"logicalType"`
		Precision int    `json:"precision,omitempty"`
		Scale     int    `json:"scale,omitempty"`
	}
	container struct {
		Type   string `json:"type"`
		Items  any    `json:"items,omitempty"`
		Values any    `json:"values,omitempty"`
	}
	fixed struct {
		Type string `json:"type"`
		Name string `json:"name"`
		Size int    `json:"size"`
	}
)

type deriver struct {
	names map[string]reflect.Type // of records, the open ones included
	open  []reflect.Type
}

func (d *deriver) record(t reflect.Type, rt *row.Type, name, path string) (any, error) {
	if name == "" {
		name = recordName(t)
	}
	for _, o := range d.open {
		if o == t {
			return nil, fmt.Errorf("%sthe type %v holds itself, which Avro rows can't", path, t)
		}
	}
	if have, ok := d.names[name]; ok {
		if have == t {
			return name, nil
		}
		return nil, fmt.Errorf("%s%v and %v would be records of one name, %s: give a Schema", path, have, t, name)
	}
	d.names[name] = t
	d.open = append(d.open, t)
	defer func() { d.open = d.open[:len(d.open)-1] }()
	r := record{Type: "record", Name: name, Fields: []field{}}
	var errs []error
	for i := range rt.Columns {
		col := &rt.Columns[i]
		where := path + "column " + col.Name + ": "
		if !validName(col.Name) {
			errs = append(errs, fmt.Errorf("%sAvro has names of the letters a-z, digits and _ only: rename the column with a `leat` tag", where))
			continue
		}
		node, err := d.column(col, where)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		f := field{Name: col.Name, Type: node}
		if col.Null {
			null := json.RawMessage("null")
			f.Type, f.Default = []any{"null", node}, &null
		}
		r.Fields = append(r.Fields, f)
	}
	return r, errors.Join(errs...)
}

func (d *deriver) column(col *row.Column, where string) (any, error) {
	if col.Extra {
		return nil, fmt.Errorf("%swhat is extra has no Avro type: leave it out of the rows that are written", where)
	}
	if col.Precision > 0 {
		return logical{Type: "bytes", Logical: "decimal", Precision: col.Precision, Scale: col.Scale}, nil
	}
	return d.value(col.Elem(), where)
}

func (d *deriver) value(t reflect.Type, where string) (any, error) {
	kind, bits := row.KindOf(t)
	switch kind {
	case row.Bool:
		return "boolean", nil
	case row.Int:
		if bits <= 32 && t.Kind() != reflect.Int {
			return "int", nil
		}
		return "long", nil
	case row.Uint:
		if bits <= 16 {
			return "int", nil
		}
		return "long", nil
	case row.Float:
		if bits == 32 {
			return "float", nil
		}
		return "double", nil
	case row.String:
		return "string", nil
	case row.Bytes:
		return "bytes", nil
	case row.Time:
		return logical{Type: "long", Logical: "timestamp-micros"}, nil
	case row.Duration:
		return "long", nil
	case row.Text:
		if t.Kind() == reflect.Array && t.Len() == 16 && t.Elem().Kind() == reflect.Uint8 {
			return logical{Type: "string", Logical: "uuid"}, nil
		}
		return "string", nil
	}
	switch t.Kind() {
	case reflect.Pointer:
		if t.Elem().Kind() == reflect.Pointer {
			break
		}
		node, err := d.value(t.Elem(), where)
		return []any{"null", node}, err
	case reflect.Slice:
		node, err := d.value(t.Elem(), where)
		return container{Type: "array", Items: node}, err
	case reflect.Map:
		if t.Key().Kind() != reflect.String {
			break
		}
		node, err := d.value(t.Elem(), where)
		return container{Type: "map", Values: node}, err
	case reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			name := fmt.Sprintf("fixed_%d", t.Len())
			if d.names[name] != nil {
				return name, nil
			}
			d.names[name] = t
			return fixed{Type: "fixed", Name: name, Size: t.Len()}, nil
		}
		node, err := d.value(t.Elem(), where)
		return container{Type: "array", Items: node}, err
	case reflect.Struct:
		if row.IsSQLNull(t) || opaque(t) {
			break
		}
		rt, err := row.OfType(t)
		if err != nil {
			return nil, err
		}
		return d.record(t, rt, "", strings.TrimSuffix(where, ": ")+", ")
	}
	return nil, fmt.Errorf("%sa %v has no Avro type: give a Schema, or another type", where, t)
}

// recordName is the Go type's name, as far as Avro can have it.
func recordName(t reflect.Type) string {
	name := strings.Map(func(r rune) rune {
		if r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, t.Name())
	if !validName(name) {
		name = "Row" + name
	}
	return name
}
