package avrocodec

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/twmb/avro"

	"github.com/leatgo/leat/internal/row"
)

// reader is how values of one schema become rows.
type reader struct {
	fault  error // no value of the schema becomes a row
	schema *avro.Schema
	frame  *frame
	text   []textColumn
}

// writer is how rows become values of one schema.
type writer struct {
	header []byte
	schema *avro.Schema
	frame  *frame
	text   []textColumn
	record string // the schema's full name
}

// newReadPlan fits a writer's schema to the row type, by way of the reader's schema if
// there is one.
func newReadPlan(rt *row.Type, written, wanted *avro.Schema) (*reader, error) {
	shape, r := written, &reader{schema: written}
	if wanted != nil {
		resolved, err := avro.Resolve(written, wanted)
		if err != nil {
			return nil, err
		}
		shape, r.schema = wanted, resolved
	}
	root, err := rootOf(shape)
	if err != nil {
		return nil, err
	}
	var errs []error
	var cells []cell
	found := make(map[string]bool)
	for _, f := range root.Fields {
		col := rt.Column(f.Name)
		if col == nil || col.Extra {
			continue
		}
		found[f.Name] = true
		need, text, err := between(col, &f.Type)
		if err != nil {
			errs = append(errs, err)
		}
		if need {
			cells = append(cells, cell{col: col, name: f.Name, text: text})
		}
	}
	for i := range rt.Columns {
		col := &rt.Columns[i]
		if !found[col.Name] && !col.Null && !col.Extra {
			errs = append(errs, fmt.Errorf("column %s: the record %s has no such field, and the column can't be null: make it a pointer, or give a Schema with a default for it", col.Name, root.Name))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if r.frame, err = newFrame(rt, rt.GoType(), cells); err != nil {
		return nil, err
	}
	r.text = textColumns(rt, found)
	return r, nil
}

// newWritePlan fits the row type to the schema it is to be written with.
func newWritePlan(rt *row.Type, schema *avro.Schema) (*writer, error) {
	root, err := rootOf(schema)
	if err != nil {
		return nil, err
	}
	w := &writer{schema: schema, record: root.Name}
	if root.Namespace != "" && !strings.Contains(root.Name, ".") {
		w.record = root.Namespace + "." + root.Name
	}
	var errs []error
	var cells []cell
	found := make(map[string]bool)
	for _, f := range root.Fields {
		col := rt.Column(f.Name)
		if col != nil && col.Extra {
			col = nil
		}
		if col == nil {
			if !f.HasDefault && !nullable(&f.Type) {
				errs = append(errs, fmt.Errorf("the schema's field %s has neither a column in the row nor a default", f.Name))
			}
			cells = append(cells, cell{name: f.Name, fill: true})
			continue
		}
		found[f.Name] = true
		need, text, err := between(col, &f.Type)
		if err != nil && !errors.Is(err, errNested) {
			errs = append(errs, err)
		}
		// A row that has no null fits a field that may have one.
		if need && (text || row.IsSQLNull(col.Type)) {
			cells = append(cells, cell{col: col, name: f.Name, text: text})
		}
	}
	for i := range rt.Columns {
		if col := &rt.Columns[i]; !found[col.Name] {
			errs = append(errs, fmt.Errorf("column %s: the schema has no such field, so its values would be lost (`leat:\"-\"` leaves a field out)", col.Name))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if w.frame, err = newFrame(rt, rt.GoType(), cells); err != nil {
		return nil, err
	}
	w.text = textColumns(rt, found)
	return w, nil
}

func rootOf(s *avro.Schema) (*avro.SchemaNode, error) {
	root := s.Root().ExpandReferences()
	if root.Type != "record" {
		return nil, fmt.Errorf("the schema is of a %s, but rows are records", root.Type)
	}
	return root, nil
}

func nullable(n *avro.SchemaNode) bool {
	return n.Type == "null" || slices.ContainsFunc(n.Branches, func(b avro.SchemaNode) bool { return b.Type == "null" })
}

// bare is the one type beside null, or the node itself.
func bare(n *avro.SchemaNode) *avro.SchemaNode {
	var one *avro.SchemaNode
	for i := range n.Branches {
		if b := &n.Branches[i]; b.Type != "null" {
			if one != nil {
				return n
			}
			one = b
		}
	}
	if one != nil {
		return one
	}
	return n
}

// between says whether column and field need a cell, and whether it is one of text.
func between(col *row.Column, n *avro.SchemaNode) (need, text bool, err error) {
	b := bare(n)
	if !known(b.Type) {
		return false, false, unfollowed(b, "column "+col.Name)
	}
	decimal := b.LogicalType == "decimal" || b.LogicalType == "big-decimal"
	switch col.Kind {
	case row.Text:
		text = decimal && !opaque(col.Elem())
	case row.Time:
		text = b.Type == "string"
	case row.Other:
		err = nested(b, col.Elem(), "column "+col.Name)
	}
	if text && !col.CanParse() && !col.CanValue() {
		text = false
	}
	need = text || row.IsSQLNull(col.Type) || nullable(n) && !col.Null
	return need, text, err
}

// known tells Avro's own types from names. A name is left where the library does not follow it:
// in a type that holds itself, one with attributes of its own, or a schema that would be huge.
func known(t string) bool {
	switch t {
	case "null", "boolean", "int", "long", "float", "double", "bytes", "string", "record", "error", "enum", "array", "map", "fixed", "union":
		return true
	}
	return false
}

func unfollowed(n *avro.SchemaNode, path string) error {
	return fmt.Errorf("%s: the schema names the type %s in a way that is not followed here: it holds itself, or the name has attributes of its own", path, n.Type)
}

// errNested is of what cells would do for a column, but nothing does inside a record that is
// itself a column's value.
var errNested = errors.New("inside a record")

// nested looks for what the library would read wrongly inside a column.
func nested(n *avro.SchemaNode, t reflect.Type, path string) error {
	null := nullable(n)
	if t.Kind() == reflect.Pointer {
		t, null = t.Elem(), false
	}
	b := bare(n)
	if !known(b.Type) && t.Kind() != reflect.Interface {
		return unfollowed(b, path)
	}
	if null && t.Kind() != reflect.Interface && t.Kind() != reflect.Slice && t.Kind() != reflect.Map {
		return fmt.Errorf("%s: null is possible, but the Go value can't be null: make it a pointer (%w)", path, errNested)
	}
	switch {
	case t.Kind() == reflect.Interface:
	case b.Type == "array" && (t.Kind() == reflect.Slice || t.Kind() == reflect.Array) && b.Items != nil:
		return nested(b.Items, t.Elem(), path+"[]")
	case b.Type == "map" && t.Kind() == reflect.Map && b.Values != nil:
		return nested(b.Values, t.Elem(), path+"[]")
	case b.Type == "record" && t.Kind() == reflect.Struct:
		rt, err := row.OfType(t)
		if err != nil {
			return err
		}
		found := make(map[string]bool)
		var errs []error
		for _, f := range b.Fields {
			col := rt.Column(f.Name)
			if col == nil {
				continue
			}
			found[f.Name] = true
			if row.IsSQLNull(col.Type) {
				errs = append(errs, fmt.Errorf("%s.%s: use a pointer, not an sql.Null (%w)", path, col.Name, errNested))
				continue
			}
			errs = append(errs, nested(&f.Type, col.Type, path+"."+f.Name))
		}
		for i := range rt.Columns {
			if col := &rt.Columns[i]; !found[col.Name] && !col.Null {
				errs = append(errs, fmt.Errorf("%s.%s: the record has no such field, and it can't be null: make it a pointer (%w)", path, col.Name, errNested))
			}
		}
		return errors.Join(errs...)
	case b.LogicalType == "decimal" && t.Kind() == reflect.Struct && !opaque(t):
		return fmt.Errorf("%s: a decimal needs a string, a float64 or a *big.Rat (%w)", path, errNested)
	}
	return nil
}
