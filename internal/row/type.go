package row

import (
	"database/sql"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"
)

// Kind says which of the few forms a column's value has.
type Kind uint8

// The kinds. Named types have the kind of what they are made of, unless they
// have a text form of their own: then they are Text.
const (
	Other    Kind = iota // slices, maps, structs, interfaces: JSON only
	Bool                 // bool
	Int                  // int, int8 … int64
	Uint                 // uint, uint8 … uint64
	Float                // float32, float64
	String               // string
	Bytes                // []byte
	Time                 // time.Time
	Duration             // time.Duration
	Text                 // an encoding.TextMarshaler, TextUnmarshaler or both
)

var kindNames = [...]string{"other", "bool", "int", "uint", "float", "string", "bytes", "time", "duration", "text"}

// String returns the kind's name in lower case.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// nullity says how a field holds null.
type nullity uint8

const (
	notNull nullity = iota
	nullPtr         // *T
	nullSQL         // sql.Null[T] and its older relatives
)

// Type is a row type compiled to its columns. It is immutable and safe for
// concurrent use; callers must not change the slices.
type Type struct {
	// Columns are the row's columns in field order, embedded structs flattened.
	Columns []Column
	// Origins are the fields tagged `leat:"@file"` and the like: where a row came
	// from. A source fills them; they are no part of Columns and reach no sink.
	Origins []Column

	goType reflect.Type
	byName map[string]*Column
	keys   []*Column
	extra  *Column
}

// Column is one field of a row type. It is immutable and safe for concurrent
// use, as long as no two calls work on the same row.
type Column struct {
	Name   string
	Kind   Kind
	Bits   int          // 8 to 64 for Int, Uint and Float, else 0
	Null   bool         // the field is a pointer or an sql.Null[T]
	Key    bool         // tagged `key`
	Extra  bool         // tagged `extra`; Kind is Text, whose text is a JSON object
	Layout string       // for Time: how text is read and written; defaults to time.RFC3339Nano. Else ""
	Type   reflect.Type // the Go type of the field

	// For a Text or String tagged `decimal=18.2`: the digits in all and those
	// behind the point, for adapters that store decimals as numbers. Else 0.
	Precision, Scale int

	offset   uintptr
	null     nullity
	elem     reflect.Type // Type without its pointer or sql.Null
	valueOff uintptr      // nullSQL: V and Valid inside the field
	validOff uintptr
	layout   layoutKind
	canParse bool
	canValue bool
	ownJSON  bool   // written by encoding/json: the type has a JSON form of its own
	jsonKey  []byte // `"name":`
}

// Of compiles T. Each type is compiled once; later calls return the same *Type.
// The error joins all faults of the type, each naming the Go field and the
// column, and is a fault of the program: no input can cause it.
func Of[T any]() (*Type, error) { return OfType(reflect.TypeFor[T]()) }

// OfType is [Of] for a type that is only known at run time.
func OfType(t reflect.Type) (*Type, error) {
	if c, ok := compiled.Load(t); ok {
		return c.(result).unpack()
	}
	rt, err := compile(t)
	c, _ := compiled.LoadOrStore(t, result{rt, err})
	return c.(result).unpack()
}

type result struct {
	t   *Type
	err error
}

func (r result) unpack() (*Type, error) { return r.t, r.err }

var compiled sync.Map // reflect.Type → result

// Extra returns the column tagged `extra`, or nil.
func (t *Type) Extra() *Column { return t.extra }

// Column returns the column with exactly this name, or nil. Origins are not found.
func (t *Type) Column(name string) *Column { return t.byName[name] }

// Keys returns the columns tagged `key`, in field order; nil when there are none.
func (t *Type) Keys() []*Column { return t.keys }

// GoType is the type that was compiled.
func (t *Type) GoType() reflect.Type { return t.goType }

// String returns the Go type's name, such as main.Venta.
func (t *Type) String() string { return t.goType.String() }

// CanParse says whether [Column.Parse] can ever succeed: it is false for Other,
// and for a Text that can only be written.
func (c *Column) CanParse() bool { return c.canParse }

// CanValue says whether [Column.Value] can ever succeed: it is false for Other,
// and for a Text that can only be read.
func (c *Column) CanValue() bool { return c.canValue }

// Elem is the type of the value: the field's without its pointer or sql.Null.
func (c *Column) Elem() reflect.Type { return c.elem }

// Fixed gives the distance of the value from the start of the row, for adapters
// that read a column of many rows in one loop. It is false for a column that can
// be null: see [Column.At].
func (c *Column) Fixed() (offset uintptr, ok bool) { return c.offset, c.null == notNull }

var (
	timeType            = reflect.TypeFor[time.Time]()
	durationType        = reflect.TypeFor[time.Duration]()
	textMarshalerType   = reflect.TypeFor[encoding.TextMarshaler]()
	textUnmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
	jsonMarshalerType   = reflect.TypeFor[json.Marshaler]()
	sqlPkg              = reflect.TypeFor[sql.NullString]().PkgPath()
)

func compile(rt reflect.Type) (*Type, error) {
	if rt == nil || rt.Kind() != reflect.Struct {
		if rt != nil && rt.Kind() == reflect.Pointer && rt.Elem().Kind() == reflect.Struct {
			return nil, fmt.Errorf("row type %v is a pointer: use %v itself", rt, rt.Elem())
		}
		return nil, fmt.Errorf("row type %v is not a struct, so it has no columns", rt)
	}
	c := compiler{root: rt, seen: make(map[string]string), seenOrigins: make(map[string]string)}
	c.fields(rt, 0, "")
	if len(c.faults) == 0 && len(c.columns)+len(c.origins) == 0 && rt.NumField() > 0 {
		c.faults = append(c.faults, fmt.Errorf("%v has no columns: all its fields are unexported or left out", rt))
	}
	if len(c.faults) > 0 {
		return nil, errors.Join(c.faults...)
	}
	t := &Type{Columns: c.columns, Origins: c.origins, goType: rt, byName: make(map[string]*Column, len(c.columns))}
	for i := range t.Columns {
		col := &t.Columns[i]
		t.byName[col.Name] = col
		if col.Key {
			t.keys = append(t.keys, col)
		}
		if col.Extra {
			t.extra = col
		}
	}
	return t, nil
}

type compiler struct {
	root    reflect.Type
	columns []Column
	origins []Column
	faults  []error

	seen, seenOrigins map[string]string // column name → path of its Go field
}

// fault names the Go field for the programmer and the column for whoever reads the data.
func (c *compiler) fault(path, column, format string, args ...any) {
	where := c.root.String() + "." + path
	if column != "" {
		where += fmt.Sprintf(" (column %s)", column)
	}
	c.faults = append(c.faults, fmt.Errorf("%s: %s", where, fmt.Sprintf(format, args...)))
}

func (c *compiler) fields(st reflect.Type, base uintptr, prefix string) {
	for i := range st.NumField() {
		f := st.Field(i)
		// An unexported embedded struct still promotes its exported fields.
		if !f.IsExported() && !f.Anonymous {
			continue
		}
		path := prefix + f.Name
		tag, err := parseTag(f)
		if err != nil {
			c.fault(path, tag.name, "%v", err)
			continue
		}
		if tag.skip {
			continue
		}
		if f.Anonymous && !tag.named {
			switch embedding(f.Type) {
			case embedFlat:
				if tag.key || tag.extra || tag.layout != "" || tag.precision != 0 {
					c.fault(path, "", "options on an embedded struct have no effect: tag its fields, or give it a name to make it one column")
					continue
				}
				c.fields(f.Type, base+f.Offset, path+".")
				continue
			case embedPtr:
				c.fault(path, "", "embeds a pointer to a struct, whose columns would be missing when it is nil: embed %v by value, give the field a name, or leave it out with `leat:\"-\"`", f.Type.Elem())
				continue
			}
		}
		if !f.IsExported() {
			continue
		}
		c.column(f, tag, base+f.Offset, path)
	}
}

type embed uint8

const (
	embedColumn embed = iota
	embedFlat
	embedPtr
)

// embedding says what becomes of an embedded field that has no name in its tag.
func embedding(t reflect.Type) embed {
	ptr := t.Kind() == reflect.Pointer
	if ptr {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || IsSQLNull(t) {
		return embedColumn
	}
	if k, _ := KindOf(t); k != Other {
		return embedColumn
	}
	if ptr {
		return embedPtr
	}
	return embedFlat
}

func (c *compiler) column(f reflect.StructField, tag tag, offset uintptr, path string) {
	col := Column{Name: tag.name, Key: tag.key, Type: f.Type, elem: f.Type, offset: offset}
	switch {
	case f.Type.Kind() == reflect.Pointer:
		col.null, col.elem = nullPtr, f.Type.Elem()
	case IsSQLNull(f.Type):
		v, valid := f.Type.Field(0), f.Type.Field(1)
		col.null, col.elem, col.valueOff, col.validOff = nullSQL, v.Type, v.Offset, valid.Offset
	}
	col.Null = col.null != notNull
	col.Kind, col.Bits = KindOf(col.elem)

	ptr := reflect.PointerTo(col.elem)
	switch col.Kind {
	case Text:
		col.canParse, col.canValue = ptr.Implements(textUnmarshalerType), ptr.Implements(textMarshalerType)
	case Other:
	default:
		col.canParse, col.canValue = true, true
	}
	// A type that wrote down its own JSON form means it, so that what jsonsink
	// writes is what encoding/json reads. Only time.Time gives way to the layout.
	col.ownJSON = col.Kind == Other || col.Kind == Text && !col.canValue ||
		ptr.Implements(jsonMarshalerType) && col.elem != timeType && tag.layout == ""

	if tag.extra {
		c.extra(&col, tag, path)
	}

	switch {
	case col.Kind == Time:
		if tag.layout != "" {
			col.Layout = tag.layout
			col.layout = layoutKindOf(tag.layout)
			if !layoutVaries(tag.layout) {
				c.fault(path, tag.name, "time=%s is no Go time layout: write how 2 January 2006, 15:04:05 would look, such as time=2006-01-02 15:04:05", tag.layout)
			}
		} else {
			col.Layout = time.RFC3339Nano
		}
	case tag.layout != "":
		c.fault(path, tag.name, "the option time= is for time.Time, not for %v", f.Type)
	}
	if tag.precision != 0 {
		col.Precision, col.Scale = tag.precision, tag.scale
		if col.Kind != Text && col.Kind != String {
			c.fault(path, tag.name, "the option decimal= is for strings and types with a text form, not for %v", f.Type)
		}
	}

	seen := c.seen
	if tag.origin {
		seen = c.seenOrigins
	}
	if first, ok := seen[tag.name]; ok {
		c.fault(path, tag.name, "the column is already the field %s: rename one with a `leat` tag", first)
		return
	}
	seen[tag.name] = path

	if tag.origin {
		if msg := checkOrigin(&col); msg != "" {
			c.fault(path, tag.name, "%s", msg)
		}
		c.origins = append(c.origins, col)
		return
	}
	col.jsonKey = append(appendString(nil, tag.name), ':')
	c.columns = append(c.columns, col)
}

// extra makes col the column that keeps what the row type has no column for.
func (c *compiler) extra(col *Column, tag tag, path string) {
	m := col.Type
	switch {
	case m.Kind() != reflect.Map || m.Key() != reflect.TypeFor[string]() ||
		m.Elem() != reflect.TypeFor[string]() && m.Elem() != reflect.TypeFor[any]() && m.Elem() != reflect.TypeFor[json.RawMessage]():
		c.fault(path, tag.name, "the option extra is for a map[string]string, map[string]any or map[string]json.RawMessage, not for %v", m)
		return
	case tag.key || tag.precision != 0:
		c.fault(path, tag.name, "a column with the option extra takes no other option")
	case slices.ContainsFunc(c.columns, func(o Column) bool { return o.Extra }):
		c.fault(path, tag.name, "a row type has one column with the option extra at most")
	}
	// To sinks it is a text, and to JSON an object, whatever the map's type.
	col.Extra, col.Kind, col.canParse, col.canValue, col.ownJSON = true, Text, false, true, true
}

// IsSQLNull knows sql.Null[T] and sql.NullString, sql.NullInt64 and so on by
// what they share: a value, then Valid.
func IsSQLNull(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t.PkgPath() == sqlPkg && t.NumField() == 2 && t.Field(1).Name == "Valid"
}

// KindOf gives kind and bits of a column whose values have this type; t is
// neither a pointer nor an sql.Null.
func KindOf(t reflect.Type) (kind Kind, bits int) {
	switch t {
	case timeType:
		return Time, 0
	case durationType:
		return Duration, 0
	}
	if ptr := reflect.PointerTo(t); ptr.Implements(textMarshalerType) || ptr.Implements(textUnmarshalerType) {
		return Text, 0
	}
	switch t.Kind() {
	case reflect.Bool:
		return Bool, 0
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return Int, t.Bits()
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return Uint, t.Bits()
	case reflect.Float32, reflect.Float64:
		return Float, t.Bits()
	case reflect.String:
		return String, 0
	case reflect.Slice:
		// Named bytes may have methods that encoding/json would use for each.
		if t.Elem() == reflect.TypeFor[byte]() {
			return Bytes, 0
		}
	case reflect.Struct:
		// type Fecha time.Time: the same memory without the methods.
		if t.ConvertibleTo(timeType) {
			return Time, 0
		}
	}
	return Other, 0
}
