package stage

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

	"github.com/go-playground/validator/v10"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/row"
)

// Validate lets rows pass that satisfy the go-playground/validator tags of T, a
// struct, and rejects the others with class [leat.Contract]:
//
//	type Venta struct {
//		Cantidad int64  `validate:"min=1"`
//		Estado   string `validate:"oneof=completada pendiente cancelada"`
//	}
//
// The error names columns, not Go fields, and all that is wrong with the row;
// statistics count the first column and rule:
//
//	cantidad: must be at least 1, is -3 (min=1); estado: must be one of completada, pendiente, cancelada, is "perdida" (oneof)
//
// It repeats values of the row, texts cut to 64 bytes, so it belongs where the
// rejected row itself may be.
//
// The sql.Null types are checked like pointers: null fails required, is skipped
// by omitempty and omitnil, and a value, zero or not, is checked as itself.
// Required on a plain number refuses 0: use a pointer or an sql.Null where 0 and
// nothing differ. Without a parameter gt, gte, lt and lte compare a time with the
// clock: the same row may pass today and fail in a replay tomorrow, so prefer
// gtfield and the like where results must not change (rule G12).
//
// A tag that can't work is a fault of [leat.Pipeline.Check], not of a row: an
// unknown rule, one that does not fit the field's type, another field that does
// not exist, no tags at all.
func Validate[T any]() leat.Stage[T, T] { return &validate[T]{name: "Validate"} }

// ValidateWith is Validate with a validator of the user's, for rules, aliases
// and types of their own:
//
//	v := validator.New(validator.WithRequiredStructEnabled())
//	v.RegisterValidation("nif", nif)
//	v.RegisterCustomTypeFunc(asFloat, decimal.Decimal{})
//	good := leat.Via(rows, "contract", stage.ValidateWith[Venta](v))
//
// The validator is used as it is: nothing is registered with it, so sql.Null
// needs a RegisterCustomTypeFunc too. Do not register anything after the pipeline
// has been checked or run. Functions registered with it must be pure and safe for
// concurrent use, and must not change the row, which they get by its address
// (Top is a *T). One that panics rejects its row with class [leat.Transform].
func ValidateWith[T any](v *validator.Validate) leat.Stage[T, T] {
	return &validate[T]{name: "ValidateWith", given: true, with: v}
}

type validate[T any] struct {
	name  string
	given bool // with is the user's
	with  *validator.Validate

	once     sync.Once
	contract *contract
}

// Validate implements leat.Validator.
func (s *validate[T]) Validate() error { return s.compiled().fault }

// Process implements leat.Stage.
func (s *validate[T]) Process(ctx context.Context, in *leat.Batch[T], out *leat.Batch[T]) error {
	c := s.compiled()
	if c.fault != nil {
		return c.fault
	}
	var zero T
	rows := in.Rows()
	return sift(in, out, func(kept rowSet, at *int) error {
		for i := *at; i < len(rows); i += 64 - i%64 { // from word to word of kept
			n := min(64-i%64, len(rows)-i)
			doubts := first(n)
			if c.direct != nil {
				doubts = c.direct.doubts(unsafe.Pointer(&rows[i]), unsafe.Sizeof(zero), n)
				if doubts == 0 && c.direct.rest == nil {
					kept.add(i, first(n))
					continue
				}
			}
			for k := range n {
				*at = i + k
				// The address: a copy in an interface would be an allocation per row.
				if err := c.judge(ctx, &rows[i+k], doubts>>k&1 != 0); err != nil {
					out.Reject(i+k, leat.Contract, err)
				} else {
					kept.add(i+k, 1)
				}
			}
		}
		return nil
	})
}

func (s *validate[T]) compiled() *contract {
	s.once.Do(func() {
		s.contract = compileContract(reflect.TypeFor[T](), s.given, s.with)
		if err := s.contract.fault; err != nil {
			s.contract.fault = fmt.Errorf("stage.%s: %w", s.name, err)
		}
	})
	return s.contract
}

// contract is a row type with its tags, checked, and a validator for it.
type contract struct {
	v       *validator.Validate
	direct  *direct // nil when v must see every row
	root    reflect.Type
	structs map[reflect.Type]map[string]field // by Go field name; all that the validator may come to
	fault   error
}

// field is a Go field as messages name it.
type field struct {
	name string
	flat bool // embedded: its fields are columns of the struct around it
	typ  reflect.Type
}

// judge is the error of one row, given by its address; nil when it passes. The row
// has passed the direct checks, unless there is doubt.
func (c *contract) judge(ctx context.Context, row any, doubt bool) error {
	v := c.v
	if !doubt {
		if v = c.direct.rest; v == nil {
			return nil
		}
	}
	if err := v.StructCtx(ctx, row); err != nil {
		return c.explain(err)
	}
	return nil
}

func compileContract(t reflect.Type, given bool, v *validator.Validate) *contract {
	c := &contract{v: v, root: t, structs: map[reflect.Type]map[string]field{}}
	switch {
	case given && v == nil:
		c.fault = errors.New("the validator is nil")
		return c
	case t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct:
		c.fault = fmt.Errorf("row type %v is a pointer: use %v itself", t, t.Elem())
		return c
	case t.Kind() != reflect.Struct || t.ConvertibleTo(timeType):
		c.fault = fmt.Errorf("row type %v is not a struct with fields to check", t)
		return c
	}
	p := prober{contract: c, own: !given, plain: validator.New()}
	p.walk(t)
	own := func() *validator.Validate {
		v := validator.New(validator.WithRequiredStructEnabled())
		for _, null := range p.nulls {
			v.RegisterCustomTypeFunc(nullValue, reflect.Zero(null).Interface())
		}
		return v
	}
	if !given {
		c.v = own()
	}
	for _, probe := range p.probes {
		probe()
	}
	switch {
	case len(p.faults) > 0:
	case !given && !p.tagged:
		p.faults = append(p.faults, fmt.Errorf("%v has no validate tags: every row would pass", t))
	default:
		p.parse()
	}
	c.fault = errors.Join(p.faults...)
	if !given && c.fault == nil { // of the rules of a validator that was given, leat knows nothing
		c.direct = compileDirect(t, own)
	}
	return c
}

var timeType = reflect.TypeFor[time.Time]()

// nullValue gives the validator an sql.Null as the pointer that it means.
func nullValue(null reflect.Value) any {
	value := null.Field(0)
	switch {
	case !null.Field(1).Bool():
		return reflect.Zero(reflect.PointerTo(value.Type())).Interface()
	case value.CanAddr():
		return value.Addr().Interface()
	}
	p := reflect.New(value.Type()) // an element of a map
	p.Elem().Set(value)
	return p.Interface()
}

// isSQLNull knows sql.Null[T], sql.NullString and so on by what they share.
func isSQLNull(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t.PkgPath() == "database/sql" && t.NumField() == 2 && t.Field(1).Name == "Valid"
}

// fieldOf finds what package row calls a field by compiling a struct that has
// nothing else, so that there is one place that reads the tags.
func fieldOf(f reflect.StructField) field {
	out := field{name: f.Name, typ: f.Type}
	if f.IsExported() {
		for _, tag := range []reflect.StructTag{f.Tag, ""} { // "": the name of a field that is left out
			one, err := row.OfType(reflect.StructOf([]reflect.StructField{{Name: f.Name, Type: f.Type, Tag: tag}}))
			if err != nil {
				continue
			}
			out.name = slices.Concat(one.Columns, one.Origins)[0].Name
			break
		}
	}
	out.flat = f.Anonymous && isStruct(deref(f.Type)) && !named(f.Tag)
	return out
}

// named tells whether a tag gives the column a name.
func named(tag reflect.StructTag) bool {
	for _, key := range []string{"leat", "json"} {
		if name, _, _ := strings.Cut(tag.Get(key), ","); name != "" && name != "-" {
			return true
		}
	}
	return false
}

// isStruct tells whether the validator goes on to the fields of t.
func isStruct(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && !t.ConvertibleTo(timeType) && !isSQLNull(t)
}

func deref(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

// prober looks for tags that can't work. The validator panics on them, some at
// the first row, some when a value gets as far as the rule.
type prober struct {
	*contract
	own    bool                // the validator is ours: sql.Null is registered
	plain  *validator.Validate // knows the built-in rules only
	tagged bool
	nulls  []reflect.Type
	probes []func() // to run when nulls are registered
	faults []error
}

// walk notes the struct t and all that the validator may reach from it.
func (p *prober) walk(t reflect.Type) {
	if p.structs[t] != nil {
		return
	}
	fields := make(map[string]field, t.NumField())
	p.structs[t] = fields
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.IsExported() && !f.Anonymous {
			continue
		}
		fields[f.Name] = fieldOf(f)
		tag := f.Tag.Get("validate")
		if tag == "-" {
			continue
		}
		p.tagged = p.tagged || tag != ""
		p.field(t, f, tag)
	}
}

// field follows one field through its rules, and through dive into its elements.
func (p *prober) field(parent reflect.Type, f reflect.StructField, tag string) {
	at := deref(f.Type)
	p.null(at)
	var rules []string
	if tag != "" {
		rules = strings.Split(tag, ",")
	}
	var around reflect.Type // what keys and endkeys are between
	for _, rule := range rules {
		switch rule {
		case "omitempty", "omitnil", "omitzero":
		case "structonly", "nostructlevel":
			return
		case "keys":
			if around == nil || around.Kind() != reflect.Map {
				p.refuse(parent, f, rule, "there is no map before it: write dive,keys,…,endkeys")
				return
			}
			at = deref(around.Key())
		case "endkeys":
			if around != nil {
				at = deref(around.Elem())
			}
		case "dive":
			switch at.Kind() {
			case reflect.Slice, reflect.Array, reflect.Map:
				around, at = at, deref(at.Elem())
				p.null(at)
			case reflect.Interface:
				return // known at run time only
			default:
				p.refuse(parent, f, rule, fmt.Sprintf("it needs a slice, an array or a map, not %v", at))
				return
			}
		default:
			for _, one := range strings.Split(rule, "|") {
				typ := at
				p.probes = append(p.probes, func() { p.rule(parent, f, typ, one) })
			}
		}
	}
	if isStruct(at) {
		p.walk(at)
	}
}

func (p *prober) null(t reflect.Type) {
	if isSQLNull(t) && !slices.Contains(p.nulls, t) {
		p.nulls = append(p.nulls, t)
	}
}

// rule tries one rule on a zero value of its type.
func (p *prober) rule(parent reflect.Type, f reflect.StructField, t reflect.Type, rule string) {
	// Omitempty keeps the rule from being run: this is about parsing alone.
	if msg := panicOf(func() { _ = p.v.Var("", "omitempty,"+rule) }); msg != "" {
		if strings.HasPrefix(msg, "Undefined validation function") {
			msg = "there is no such rule"
		}
		p.refuse(parent, f, rule, msg)
		return
	}
	name, param, _ := strings.Cut(rule, "=")
	if panicOf(func() { _ = p.plain.Var("", "omitempty,"+name) }) != "" || name == "validateFn" {
		return // the user's own: it may count on the type of the struct around it
	}
	for _, other := range otherFields(name, param) {
		first := other
		if i := strings.IndexAny(other, ".["); i >= 0 {
			first = other[:i]
		}
		if _, ok := parent.FieldByName(first); !ok {
			p.refuse(parent, f, rule, fmt.Sprintf("%v has no field %s", parent, first))
		}
	}
	if p.own && isSQLNull(t) {
		t = t.Field(0).Type
	}
	sample := reflect.StructField{Name: f.Name, Type: t, Tag: reflect.StructTag("validate:" + strconv.Quote(rule))}
	if !f.IsExported() {
		sample.Name = "Field"
	}
	msg := panicOf(func() { _ = p.v.Struct(reflect.New(reflect.StructOf([]reflect.StructField{sample})).Interface()) })
	switch {
	case strings.HasPrefix(msg, "Bad field type"):
		p.refuse(parent, f, rule, fmt.Sprintf("it does not fit a %v", t))
	case msg != "":
		p.refuse(parent, f, rule, msg)
	}
}

// parse makes the validator read the tags as they stand, which shows what the
// rules do not show one by one.
func (p *prober) parse() {
	for t := range p.structs {
		msg := panicOf(func() { _ = p.v.Struct(reflect.New(t).Interface()) })
		// A function of the user's that panics on a zero row, or does not expect to
		// start here, is not at fault.
		for _, ours := range []string{"Undefined validation", "Invalid validation tag", "'keys' tag", "'endkeys' tag"} {
			if strings.HasPrefix(msg, ours) {
				p.faults = append(p.faults, fmt.Errorf("%v: %s", t, msg))
			}
		}
	}
}

func (p *prober) refuse(parent reflect.Type, f reflect.StructField, rule, msg string) {
	p.faults = append(p.faults, fmt.Errorf("%v.%s (column %s): rule %q: %s", parent, f.Name, p.structs[parent][f.Name].name, rule, msg))
}

// panicOf is what f panics with; "" when it does not.
func panicOf(f func()) (msg string) {
	defer func() {
		if r := recover(); r != nil {
			msg = fmt.Sprint(r)
		}
	}()
	f()
	return ""
}

// otherFields lists the Go fields that a built-in rule refers to.
func otherFields(rule, param string) []string {
	switch {
	case strings.HasSuffix(rule, "csfield"): // a path from the top
	case strings.HasSuffix(rule, "field"), rule == "fieldcontains", rule == "fieldexcludes":
		return []string{param}
	case strings.HasPrefix(rule, "required_with"), strings.HasPrefix(rule, "excluded_with"):
		return strings.Fields(param)
	case rule == "required_if", rule == "required_unless", rule == "excluded_if", rule == "excluded_unless", rule == "skip_unless":
		var fields []string
		for i, word := range words(param) {
			if i%2 == 0 {
				fields = append(fields, word)
			}
		}
		return fields
	}
	return nil
}
