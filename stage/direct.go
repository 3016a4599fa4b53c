package stage

import (
	"math"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/go-playground/validator/v10"
)

// direct decides of most rows that they pass, many times faster than the
// validator, which goes by reflection. It never says what is wrong: a row of
// which it has doubts goes to the validator, so verdict and message stay the
// validator's own. Hence its one duty, which FuzzDirect and its kin prove: what it
// passes, the validator passes.
//
// It knows the common rules on plain fields. The others it leaves to rest.
type direct struct {
	fields []located

	// rest is a validator that skips what fields have checked. It has to find
	// nothing wrong either; nil when nothing is left for it.
	rest *validator.Validate
}

// located is a check of the field at an offset of the row.
type located struct {
	offset uintptr
	check  check
}

// check looks at n values, at most 64, of which the first is at p and each other
// is stride bytes behind the one before it: all rows of a block at once, for a
// call per row and field would cost more than the check. Bit i of what it returns
// tells that value i fails; bits from n on are 0. A nil check fails none.
type check func(p unsafe.Pointer, stride uintptr, n int) (fails uint64)

// doubts tells which of n rows, at most 64, do not surely pass.
func (d *direct) doubts(rows unsafe.Pointer, stride uintptr, n int) (fails uint64) {
	for _, f := range d.fields {
		fails |= f.check(unsafe.Add(rows, f.offset), stride, n)
	}
	return fails
}

// compileDirect makes the direct checks of the struct t, for a validator that has
// the built-in rules and nullValue for all sql.Null, or nil when the validator
// must see every row as a whole. It is for tags without faults.
func compileDirect(t reflect.Type, newValidator func() *validator.Validate) *direct {
	d := new(direct)
	skip := map[string]string{}
	var left []reflect.Type
	for i := range t.NumField() {
		f := t.Field(i)
		if skipped(f) {
			continue
		}
		fields, ok := compileField(f)
		if !ok {
			left = append(left, f.Type)
			continue
		}
		d.fields = append(d.fields, fields...)
		skip[f.Name] = "-"
	}
	if len(left) > 0 {
		for _, l := range left { // a t inside t would lose its checks too
			if mayHold(l, t, map[reflect.Type]bool{}) {
				return nil
			}
		}
		d.rest = newValidator()
		d.rest.RegisterStructValidationMapRules(skip, reflect.Zero(t).Interface())
	}
	if len(d.fields) == 0 {
		return nil
	}
	return d
}

// skipped tells whether the validator never looks at f.
func skipped(f reflect.StructField) bool {
	return !f.IsExported() && !f.Anonymous || f.Tag.Get("validate") == "-"
}

// compileField makes the checks of one field, or of the fields of the struct that
// it is; false when the field is the validator's.
func compileField(f reflect.StructField) ([]located, bool) {
	tag, t := f.Tag.Get("validate"), f.Type
	switch {
	case tag == "" && passive(t):
		return nil, true
	case valuer(t) || !f.IsExported() && !isStruct(t):
		return nil, false
	case isStruct(t):
		var all []located
		for i := range t.NumField() {
			if skipped(t.Field(i)) {
				continue
			}
			inner, ok := compileField(t.Field(i))
			if !ok {
				return nil, false
			}
			for _, l := range inner {
				all = append(all, located{f.Offset + l.offset, l.check})
			}
		}
		return all, tag == ""
	}
	rules := strings.Split(tag, ",")
	nilFails := rules[0] != "omitempty" && rules[0] != "omitnil" && rules[0] != "omitzero"
	var c check
	var ok bool
	switch {
	case isSQLNull(t):
		if c, ok = compileRules(rules, t.Field(0).Type, true); ok {
			c = ofNull(c, t.Field(1).Offset, nilFails)
		}
	case t.Kind() == reflect.Pointer:
		if c, ok = compileRules(rules, t.Elem(), true); ok {
			c = ofPointer(c, nilFails)
		}
	default:
		c, ok = compileRules(rules, t, false)
	}
	if !ok || c == nil {
		return nil, ok
	}
	return []located{{f.Offset, c}}, true
}

// passive tells whether the validator does nothing with a t that has no tag.
func passive(t reflect.Type) bool {
	switch {
	case valuer(t) || t.Kind() == reflect.Interface:
		return false
	case t.Kind() == reflect.Pointer:
		return passive(t.Elem())
	case isSQLNull(t):
		return passive(t.Field(0).Type)
	}
	return !isStruct(t)
}

// valuer tells whether the validator may ask a t, or what it points to, for
// another value to check.
func valuer(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[validator.Valuer]())
}

// mayHold tells whether the validator may come upon a value of type row inside a t.
func mayHold(t, row reflect.Type, seen map[reflect.Type]bool) bool {
	if seen[t] {
		return false
	}
	seen[t] = true
	if t == row || t.Kind() == reflect.Interface || valuer(t) {
		return true
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return mayHold(t.Elem(), row, seen)
	case reflect.Map:
		return mayHold(t.Key(), row, seen) || mayHold(t.Elem(), row, seen)
	case reflect.Struct:
		for i := range t.NumField() {
			if f := t.Field(i); !skipped(f) && mayHold(f.Type, row, seen) {
				return true
			}
		}
	}
	return false
}

// compileRules makes a check of the rules of one field, in their order. Nullable
// says that the field is a pointer or an sql.Null, of which values get here, nil
// does not: then nothing is empty, though omitzero knows zeros. It answers false
// when one of the rules is the validator's.
func compileRules(rules []string, t reflect.Type, nullable bool) (check, bool) {
	k, ok := kindOf(t)
	if !ok || valuer(t) {
		return nil, false
	}
	var c check
	for i := len(rules) - 1; i >= 0; i-- {
		switch rule := rules[i]; {
		case rule == "omitnil", nullable && (rule == "omitempty" || rule == "required"):
		case rule == "omitempty", rule == "omitzero":
			c = unless(k.zero, c)
		case rule == "required":
			c = both(not(k.zero), c)
		case strings.Contains(rule, "|"):
			return nil, false
		default:
			name, param, _ := strings.Cut(rule, "=")
			one := k.rule(name, commaAndPipe.Replace(param))
			if one == nil {
				return nil, false
			}
			c = both(one, c)
		}
	}
	return c, true
}

// commaAndPipe knows how a tag writes the characters that have a meaning in it.
var commaAndPipe = strings.NewReplacer("0x2C", ",", "0x7C", "|")

// kind is what the checks of one kind of value are made with.
type kind struct {
	zero check                          // fails what is not zero
	rule func(name, param string) check // nil for a rule that is the validator's
}

func kindOf(t reflect.Type) (kind, bool) {
	switch t.Kind() {
	case reflect.String:
		return kind{among(""), textRule}, true
	case reflect.Bool:
		return kind{among(false), boolRule}, true
	case reflect.Int:
		return signed[int](t), true
	case reflect.Int8:
		return signed[int8](t), true
	case reflect.Int16:
		return signed[int16](t), true
	case reflect.Int32:
		return signed[int32](t), true
	case reflect.Int64:
		return signed[int64](t), true
	case reflect.Uint:
		return unsigned[uint](), true
	case reflect.Uint8:
		return unsigned[uint8](), true
	case reflect.Uint16:
		return unsigned[uint16](), true
	case reflect.Uint32:
		return unsigned[uint32](), true
	case reflect.Uint64:
		return unsigned[uint64](), true
	case reflect.Float32:
		return float[float32](32), true
	case reflect.Float64:
		return float[float64](64), true
	case reflect.Struct:
		if t.ConvertibleTo(timeType) {
			return kind{among(time.Time{}), func(string, string) check { return nil }}, true
		}
	}
	return kind{}, false
}

func textRule(name, param string) check {
	switch name {
	case "eq":
		return among(param)
	case "ne":
		return not(among(param))
	case "oneof":
		return among(words(param)...)
	}
	n, err := strconv.ParseInt(param, 0, 64)
	if err != nil {
		return nil
	}
	least, most, ok := bounds(name, n, math.MinInt64, math.MaxInt64, before, after)
	if !ok {
		return nil
	}
	return runes(least, most)
}

func boolRule(name, param string) check {
	b, err := strconv.ParseBool(param)
	switch {
	case err != nil:
		return nil
	case name == "eq":
		return among(b)
	case name == "ne":
		return not(among(b))
	}
	return nil
}

func signed[V int | int8 | int16 | int32 | int64](t reflect.Type) kind {
	return kind{among[V](0), func(name, param string) check {
		if name == "oneof" {
			var vals []V
			for _, w := range words(param) { // of the texts that a number may have the validator takes the shortest
				if v, err := strconv.ParseInt(w, 10, 64); err == nil && int64(V(v)) == v && strconv.FormatInt(v, 10) == w {
					vals = append(vals, V(v))
				}
			}
			return among(vals...)
		}
		n, err := strconv.ParseInt(param, 0, 64)
		if t == reflect.TypeFor[time.Duration]() {
			if d, notDuration := time.ParseDuration(param); notDuration == nil {
				n, err = int64(d), nil
			}
		}
		if err != nil {
			return nil
		}
		return comparison[V](name, n, math.MinInt64, math.MaxInt64, before, after)
	}}
}

func unsigned[V uint | uint8 | uint16 | uint32 | uint64]() kind {
	return kind{among[V](0), func(name, param string) check {
		if name == "oneof" {
			var vals []V
			for _, w := range words(param) {
				if v, err := strconv.ParseUint(w, 10, 64); err == nil && uint64(V(v)) == v && strconv.FormatUint(v, 10) == w {
					vals = append(vals, V(v))
				}
			}
			return among(vals...)
		}
		n, err := strconv.ParseUint(param, 0, 64)
		if err != nil {
			return nil
		}
		return comparison[V](name, n, 0, math.MaxUint64, before, after)
	}}
}

func float[V float32 | float64](bits int) kind {
	return kind{among[V](0), func(name, param string) check {
		n, err := strconv.ParseFloat(param, bits)
		if err != nil {
			return nil
		}
		return comparison[V](name, n, math.Inf(-1), math.Inf(1),
			func(n float64) float64 { return math.Nextafter(n, math.Inf(-1)) },
			func(n float64) float64 { return math.Nextafter(n, math.Inf(1)) })
	}}
}

type number interface {
	int | int8 | int16 | int32 | int64 | uint | uint8 | uint16 | uint32 | uint64 | float32 | float64
}

// wide are the types in which the validator compares numbers.
type wide interface{ int64 | uint64 | float64 }

func before[W int64 | uint64](n W) W { return n - 1 }
func after[W int64 | uint64](n W) W  { return n + 1 }

// comparison makes the check of a rule about one number.
func comparison[V number, W wide](name string, n, min, max W, before, after func(W) W) check {
	least, most, ok := bounds(name, n, min, max, before, after)
	switch {
	case name == "eq":
		return within[V](n, n)
	case name == "ne":
		return not(within[V](n, n))
	case ok:
		return within[V](least, most)
	}
	return nil
}

// bounds turns a rule into the least and the most that it allows; least is more
// than most, or one of them not a number, when it allows nothing.
func bounds[W wide](name string, n, min, max W, before, after func(W) W) (least, most W, ok bool) {
	switch name {
	case "min", "gte":
		return n, max, true
	case "max", "lte":
		return min, n, true
	case "gt":
		if n == max {
			return max, min, true
		}
		return after(n), max, true
	case "lt":
		if n == min {
			return max, min, true
		}
		return min, before(n), true
	case "len":
		return n, n, true
	}
	return 0, 0, false
}

// within fails numbers that are not from least to most; not-a-number is not.
func within[V number, W wide](least, most W) check {
	return func(p unsafe.Pointer, stride uintptr, n int) (fails uint64) {
		least, most := least, most
		at := uintptr(0) // not a pointer that moves: after the last value it would point past the rows
		for i := range n {
			if v := W(*(*V)(unsafe.Add(p, at))); !(least <= v && v <= most) {
				fails |= 1 << (i & 63)
			}
			at += stride
		}
		return fails
	}
}

// among fails values that equal none of vals.
func among[V comparable](vals ...V) check {
	return func(p unsafe.Pointer, stride uintptr, n int) (fails uint64) {
		at := uintptr(0)
	values:
		for i := range n {
			v := *(*V)(unsafe.Add(p, at))
			at += stride
			for k := range vals {
				if v == vals[k] {
					continue values
				}
			}
			fails |= 1 << (i & 63)
		}
		return fails
	}
}

// runes fails texts of fewer than least or more than most characters.
func runes(least, most int64) check {
	return func(p unsafe.Pointer, stride uintptr, n int) (fails uint64) {
		at := uintptr(0)
		for i := range n {
			s := *(*string)(unsafe.Add(p, at))
			at += stride
			// Most texts need not be counted: a character has one to four bytes.
			long := int64(len(s))
			if least <= (long+utf8.UTFMax-1)/utf8.UTFMax && long <= most {
				continue
			}
			if long = int64(utf8.RuneCountInString(s)); long < least || long > most {
				fails |= 1 << (i & 63)
			}
		}
		return fails
	}
}

// both fails what one of the two fails.
func both(a, b check) check {
	if b == nil {
		return a
	}
	return func(p unsafe.Pointer, stride uintptr, n int) uint64 {
		return a(p, stride, n) | b(p, stride, n)
	}
}

// not fails what c does not fail.
func not(c check) check {
	return func(p unsafe.Pointer, stride uintptr, n int) uint64 {
		return first(n) &^ c(p, stride, n)
	}
}

// unless fails what c fails, but nothing that is zero.
func unless(zero, c check) check {
	if c == nil {
		return nil
	}
	return func(p unsafe.Pointer, stride uintptr, n int) uint64 {
		return zero(p, stride, n) & c(p, stride, n)
	}
}

// ofNull checks the values of an sql.Null by c; valid is the offset of its Valid.
func ofNull(c check, valid uintptr, nullFails bool) check {
	isValid := among(true)
	return func(p unsafe.Pointer, stride uintptr, n int) (fails uint64) {
		null := isValid(unsafe.Add(p, valid), stride, n)
		if c != nil {
			fails = c(p, stride, n) &^ null
		}
		if nullFails {
			fails |= null
		}
		return fails
	}
}

// ofPointer checks by c what pointers point to.
func ofPointer(c check, nilFails bool) check {
	return func(p unsafe.Pointer, stride uintptr, n int) (fails uint64) {
		at := uintptr(0)
		for i := range n {
			v := *(*unsafe.Pointer)(unsafe.Add(p, at))
			at += stride
			switch {
			case v == nil && nilFails:
				fails |= 1 << (i & 63)
			case v != nil && c != nil:
				fails |= c(v, 0, 1) << (i & 63)
			}
		}
		return fails
	}
}

// first is n bits, at most 64, that are set.
func first(n int) uint64 { return ^uint64(0) >> (64 - n) }

// words splits a list as the validator does: at blanks, but not inside 'single quotes'.
func words(s string) []string {
	out := word.FindAllString(s, -1)
	for i := range out {
		out[i] = strings.ReplaceAll(out[i], "'", "")
	}
	return out
}

var word = regexp.MustCompile(`'[^']*'|\S+`)
