package avrocodec

import (
	"fmt"
	"reflect"
	"strconv"
	"sync"
	"unsafe"

	"github.com/twmb/avro"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/row"
)

// A cell stands between a column and the library where the two have no common form: a null
// that the column may not take, an sql.Null, a decimal as text. It is a pointer beside
// the row, nil for null, to a value of its own.
type cell struct {
	col  *row.Column
	text bool         // the value is the column's text
	fill bool         // no column: a field that is written with its default
	name string       // the field's
	elem reflect.Type // of the value, when it is not a text
}

// frame is what the library works on: the row's shadow alone, or a struct of the shadow and
// the cells.
type frame struct {
	shadow reflect.Type
	cells  []cell
	pool   sync.Pool // of *framed, when there are cells
}

// framed is one struct { R *shadow; S0 E0; P0 *E0; S1 … }.
type framed struct {
	ptr   any           // to the struct
	row   reflect.Value // its R
	store []reflect.Value
	cells []reflect.Value // its P
	addr  []reflect.Value // of each store
}

func newFrame(rt *row.Type, t reflect.Type, cells []cell) (*frame, error) {
	without := make(map[string]bool, len(cells))
	for _, c := range cells {
		without[c.name] = true
	}
	shadow, err := shadowOf(t, rt, without)
	if err != nil {
		return nil, err
	}
	f := &frame{shadow: shadow, cells: cells}
	if len(cells) == 0 {
		return f, nil
	}
	fields := []reflect.StructField{{Name: "R", Type: reflect.PointerTo(shadow), Tag: `avro:",inline"`}}
	for i := range cells {
		c := &cells[i]
		n := strconv.Itoa(i)
		if c.fill {
			// The library writes the default for a zero value with this option.
			fields = append(fields,
				reflect.StructField{Name: "S" + n, Type: reflect.TypeFor[struct{}](), Tag: `avro:"-"`},
				reflect.StructField{Name: "P" + n, Type: reflect.TypeFor[any](), Tag: reflect.StructTag(`avro:"` + c.name + `,omitzero"`)})
			continue
		}
		e := reflect.TypeFor[string]()
		if !c.text {
			c.elem = c.col.Elem()
			s := shadower{open: map[reflect.Type]bool{t: true}}
			if e, err = s.value(c.elem); err != nil {
				return nil, fmt.Errorf("column %s: %w", c.name, err)
			}
		}
		fields = append(fields,
			reflect.StructField{Name: "S" + n, Type: e, Tag: `avro:"-"`},
			reflect.StructField{Name: "P" + n, Type: reflect.PointerTo(e), Tag: reflect.StructTag(`avro:"` + c.name + `"`)})
	}
	whole := reflect.StructOf(fields)
	f.pool.New = func() any {
		p := reflect.New(whole)
		s := p.Elem()
		fr := &framed{ptr: p.Interface(), row: s.Field(0)}
		for i := range cells {
			st := s.Field(1 + 2*i)
			fr.store = append(fr.store, st)
			fr.addr = append(fr.addr, st.Addr())
			fr.cells = append(fr.cells, s.Field(2+2*i))
		}
		return fr
	}
	return f, nil
}

// decode reads one value into the row at p.
func (f *frame) decode(schema *avro.Schema, value []byte, p unsafe.Pointer) (rest []byte, err error) {
	if len(f.cells) == 0 {
		return schema.Decode(value, at(f.shadow, p).Interface(), skipUnknown)
	}
	fr := f.pool.Get().(*framed)
	defer f.put(fr)
	fr.row.Set(at(f.shadow, p))
	for i := range f.cells {
		fr.cells[i].Set(fr.addr[i])
	}
	if rest, err = schema.Decode(value, fr.ptr, skipUnknown); err != nil {
		return nil, err
	}
	for i := range f.cells {
		if err := f.cells[i].take(fr.cells[i], p); err != nil {
			return nil, err
		}
	}
	return rest, nil
}

var skipUnknown = avro.SkipUnknown()

// put gives the frame back. The values it held are the row's now, and must be neither kept
// alive nor written to again.
func (f *frame) put(fr *framed) {
	fr.row.SetZero()
	for i := range f.cells {
		fr.store[i].SetZero()
		fr.cells[i].SetZero()
	}
	f.pool.Put(fr)
}

// take moves a value from its cell into the column.
func (c *cell) take(v reflect.Value, p unsafe.Pointer) error {
	switch {
	case v.IsNil() && c.col.Null:
		return c.col.Empty(p)
	case v.IsNil():
		return &leat.FieldError{Column: c.name, Rule: "null", Msg: "column " + c.name + ": null, but it can't be null in the row (make the field a pointer)"}
	case c.text:
		return c.col.Parse(p, v.Elem().String())
	}
	// The same memory under two types, so it is moved by the column's own.
	to := reflect.NewAt(c.elem, c.col.Make(p)).Elem()
	to.Set(reflect.NewAt(c.elem, v.UnsafePointer()).Elem())
	return nil
}

// encode appends the row at p.
func (f *frame) encode(schema *avro.Schema, dst []byte, p unsafe.Pointer) ([]byte, error) {
	if len(f.cells) == 0 {
		return schema.AppendEncode(dst, at(f.shadow, p).Interface())
	}
	fr := f.pool.Get().(*framed)
	defer f.put(fr)
	fr.row.Set(at(f.shadow, p))
	for i := range f.cells {
		if err := f.cells[i].give(fr.store[i], fr.cells[i], fr.addr[i], p); err != nil {
			return dst, err
		}
	}
	return schema.AppendEncode(dst, fr.ptr)
}

// give puts the column's value into its cell.
func (c *cell) give(store, ptr, addr reflect.Value, p unsafe.Pointer) error {
	if c.fill {
		return nil
	}
	q := c.col.At(p)
	if q == nil {
		return nil // put has made it nil
	}
	if c.text {
		text, err := c.col.Text(p)
		if err != nil {
			return err
		}
		store.SetString(text)
	} else {
		reflect.NewAt(c.elem, addr.UnsafePointer()).Elem().Set(reflect.NewAt(c.elem, q).Elem())
	}
	ptr.Set(addr)
	return nil
}
