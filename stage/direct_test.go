package stage

import (
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-playground/validator/v10"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
)

type (
	texto   string
	entero  int16
	real32  float32
	logico  bool
	hora    time.Time
	plazo   time.Duration
	dentro  struct{ A, B int }
	conTags struct {
		A int `validate:"min=1"`
	}
	propio   int                // is another value to the validator
	apuntado int8               // its pointer is another value
	envuelto struct{ A, B int } // a struct that is another value
)

func (p propio) ValidatorValue() any    { return conTags{int(p)} }
func (p *apuntado) ValidatorValue() any { return int(*p) + 1 }
func (e envuelto) ValidatorValue() any  { return conTags{e.B} }

// plainTypes are those that have direct checks; oddTypes never have.
var (
	plainTypes = withNulls(
		reflect.TypeFor[string](), reflect.TypeFor[bool](),
		reflect.TypeFor[int](), reflect.TypeFor[int8](), reflect.TypeFor[int16](), reflect.TypeFor[int32](), reflect.TypeFor[int64](),
		reflect.TypeFor[uint](), reflect.TypeFor[uint8](), reflect.TypeFor[uint16](), reflect.TypeFor[uint32](), reflect.TypeFor[uint64](),
		reflect.TypeFor[float32](), reflect.TypeFor[float64](),
		reflect.TypeFor[texto](), reflect.TypeFor[entero](), reflect.TypeFor[real32](), reflect.TypeFor[logico](), reflect.TypeFor[plazo](),
		reflect.TypeFor[time.Duration](), reflect.TypeFor[time.Time](), reflect.TypeFor[hora](),
	)
	oddTypes = []reflect.Type{
		reflect.TypeFor[uintptr](), reflect.TypeFor[complex128](), reflect.TypeFor[**int](), reflect.TypeFor[[]byte](), reflect.TypeFor[[]string](),
		reflect.TypeFor[[2]int](), reflect.TypeFor[map[string]int](), reflect.TypeFor[any](), reflect.TypeFor[dentro](), reflect.TypeFor[*dentro](),
		reflect.TypeFor[conTags](), reflect.TypeFor[*conTags](), reflect.TypeFor[[]conTags](), reflect.TypeFor[propio](), reflect.TypeFor[*propio](),
		reflect.TypeFor[apuntado](), reflect.TypeFor[*apuntado](), reflect.TypeFor[envuelto](), reflect.TypeFor[*envuelto](), reflect.TypeFor[sql.Null[*int]](), reflect.TypeFor[sql.Null[conTags]](),
		reflect.TypeFor[sql.Null[any]](), reflect.TypeFor[sql.Null[propio]](), reflect.TypeFor[sql.Null[apuntado]](), reflect.TypeFor[*sql.NullInt64](), reflect.TypeFor[chan int](),
	}
	allTypes = slices.Concat(plainTypes, oddTypes)
)

// withNulls adds the pointers to the types, and the sql.Null of some.
func withNulls(types ...reflect.Type) []reflect.Type {
	for _, t := range types {
		types = append(types, reflect.PointerTo(t))
	}
	return append(types,
		reflect.TypeFor[sql.NullString](), reflect.TypeFor[sql.NullInt64](), reflect.TypeFor[sql.NullInt32](), reflect.TypeFor[sql.NullInt16](),
		reflect.TypeFor[sql.NullByte](), reflect.TypeFor[sql.NullFloat64](), reflect.TypeFor[sql.NullBool](), reflect.TypeFor[sql.NullTime](),
		reflect.TypeFor[sql.Null[int8]](), reflect.TypeFor[sql.Null[uint64]](), reflect.TypeFor[sql.Null[float32]](), reflect.TypeFor[sql.Null[texto]](),
		reflect.TypeFor[sql.Null[time.Duration]](), reflect.TypeFor[sql.Null[hora]](),
	)
}

var (
	paramRules  = []string{"gt", "gte", "lt", "lte", "min", "max", "len", "eq", "ne", "oneof"}
	otherRules  = []string{"required", "omitempty", "omitnil", "omitzero", "isdefault", "email", "dive", "structonly", "eqfield=Resto", "required_with=Resto", "eq=1|eq=2", "len=3|ne=5", "iscolor"}
	someNumbers = []string{"0", "1", "-1", "2", "3", "5", "-0", "+3", "127", "128", "-128", "-129", "255", "256", "32767", "65536", "2147483648", "0x10", "0X1f", "010", "0b11", "0o7", "1_000",
		"9223372036854775807", "9223372036854775808", "-9223372036854775808", "18446744073709551615", "18446744073709551616",
		"1.5", "0.1", "-0.0", "1e3", "1e-50", "3.4028235e38", "3.4028236e38", "1.7976931348623157e308", "NaN", "Inf", "-inf", "0x1p-2", "1h", "1m30s", "-1s", "1ns"}
	someWords = []string{"true", "false", "T", "f", "TRUE", "a", "ñ", "completada", "a b", "'a b' c", "a 'b", "''", "' '", "x\ty", "0x2C", "a0x7Cb", "007", "+1", "-0", "1.0", "", "日本", "\xff"}
	someTexts = []string{"", "a", "b", "ñ", "ññ", "日本", "日本語", "\xff", "\xff\xfe\xfd", "a\xffñ", "\xe6\x97", "🙂🙂", "completada", "a b", "b c", ",", "a|b", "'", " ", "x", "y", "0", "1",
		strings.Repeat("a", 127), strings.Repeat("ñ", 128), strings.Repeat("🙂", 64), strings.Repeat("\x80", 256), "a@b.es", "#fff"}
)

// someTag makes a tag out of the lists.
func someTag(r *rand.Rand) string {
	pick := func(list []string) string { return list[r.IntN(len(list))] }
	var rules []string
	if r.IntN(2) == 0 {
		rules = append(rules, pick([]string{"required", "omitempty", "omitnil", "omitzero"}))
	}
	for range r.IntN(3) {
		rule := pick(paramRules)
		switch {
		case r.IntN(5) == 0:
			rule = pick(otherRules)
		case rule == "oneof":
			rule += "=" + pick(someNumbers) + " " + pick(someWords) + " " + pick(someNumbers)
		case r.IntN(4) == 0:
			rule += "=" + pick(someWords)
		default:
			rule += "=" + pick(someNumbers)
		}
		rules = append(rules, rule)
	}
	return strings.Join(rules, ",")
}

// values are values of type t at the limits of the tag and of t.
func values(t reflect.Type, tag string, more ...reflect.Value) []reflect.Value {
	out := []reflect.Value{reflect.Zero(t)}
	numbers := append(strings.FieldsFunc(tag, func(r rune) bool { return strings.ContainsRune("=, '|", r) }), someNumbers...)
	add := func(set func(v reflect.Value)) {
		v := reflect.New(t).Elem()
		set(v)
		out = append(out, v)
	}
	switch {
	case isSQLNull(t):
		for _, inner := range values(t.Field(0).Type, tag) {
			add(func(v reflect.Value) { v.Field(0).Set(inner); v.Field(1).SetBool(true) })
			add(func(v reflect.Value) { v.Field(0).Set(inner) })
		}
		return append(out, more...)
	case t.Kind() == reflect.Struct && t.ConvertibleTo(timeType):
		for _, at := range []time.Time{time.Unix(0, 0), time.Time{}.In(time.UTC), time.Time{}.Local(), time.Time{}.Add(1), time.Unix(1e10, 0)} {
			add(func(v reflect.Value) { v.Set(reflect.ValueOf(at).Convert(t)) })
		}
		return append(out, more...)
	}
	switch t.Kind() {
	case reflect.Pointer:
		for _, inner := range values(t.Elem(), tag) {
			add(func(v reflect.Value) { v.Set(reflect.New(t.Elem())); v.Elem().Set(inner) })
		}
	case reflect.String:
		for _, s := range slices.Concat(someTexts, numbers) {
			add(func(v reflect.Value) { v.SetString(s) })
		}
		for _, n := range numbers {
			if n, err := strconv.ParseUint(n, 0, 10); err == nil {
				for _, n := range []uint64{n - 1, n, n + 1} {
					add(func(v reflect.Value) { v.SetString(strings.Repeat("ñ", int(n&1023))) })
				}
			}
		}
	case reflect.Bool:
		add(func(v reflect.Value) { v.SetBool(true) })
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		for _, s := range numbers {
			n, err := strconv.ParseInt(s, 0, 64)
			if err != nil {
				d, _ := time.ParseDuration(s)
				n = int64(d)
			}
			for _, n := range []int64{n - 1, n, n + 1} {
				add(func(v reflect.Value) { v.SetInt(n) })
			}
		}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		for _, s := range numbers {
			n, _ := strconv.ParseUint(s, 0, 64)
			for _, n := range []uint64{n - 1, n, n + 1} {
				add(func(v reflect.Value) { v.SetUint(n) })
			}
		}
	case reflect.Float32, reflect.Float64:
		for _, s := range append(numbers, "5e-324", "1e-45", "-Inf", "NaN") {
			n, _ := strconv.ParseFloat(s, t.Bits())
			for _, n := range []float64{n, -n, math.Nextafter(n, math.Inf(1)), math.Nextafter(n, math.Inf(-1)),
				float64(math.Nextafter32(float32(n), float32(math.Inf(1)))), float64(math.Nextafter32(float32(n), float32(math.Inf(-1))))} {
				add(func(v reflect.Value) { v.SetFloat(n) })
			}
		}
	case reflect.Slice:
		for n := range 3 {
			add(func(v reflect.Value) { v.Set(reflect.MakeSlice(t, n, n)) })
		}
	case reflect.Map:
		add(func(v reflect.Value) { v.Set(reflect.MakeMap(t)) })
	case reflect.Interface:
		for _, in := range []any{0, 1, "", "a", conTags{}, &conTags{}, dentro{}, propio(1)} {
			add(func(v reflect.Value) { v.Set(reflect.ValueOf(in)) })
		}
	}
	return append(out, more...)
}

// rowOf is a row type with a field F of the type and tag. Beside is "" or the tag
// of a text beside it, Resto.
func rowOf(t reflect.Type, tag, beside string) reflect.Type {
	quoted := func(tag string) reflect.StructTag { return reflect.StructTag("validate:" + strconv.Quote(tag)) }
	return reflect.StructOf([]reflect.StructField{
		{Name: "Antes", Type: reflect.TypeFor[int8](), Tag: `validate:"gte=-1"`},
		{Name: "F", Type: t, Tag: quoted(tag)},
		{Name: "Resto", Type: reflect.TypeFor[string](), Tag: quoted(beside)},
	})
}

// differ compares the verdicts and messages of direct checks and validator on rows
// of rowOf that hold the values. It tells whether the tag works at all.
func differ(t *testing.T, typ reflect.Type, tag, beside string, more ...reflect.Value) bool {
	t.Helper()
	row := rowOf(typ, tag, beside)
	c := compileContract(row, false, nil)
	if c.fault != nil {
		return false
	}
	vals := values(typ, tag, more...)
	rows := reflect.MakeSlice(reflect.SliceOf(row), len(vals), len(vals))
	for i, v := range vals {
		rows.Index(i).Field(1).Set(v)
		rows.Index(i).Field(2).SetString([]string{"a@b.es", "", "nada"}[i/3%3])
		if i%31 == 30 {
			rows.Index(i).Field(0).SetInt(-2)
		}
	}
	agree(t, c, rows)
	return true
}

// agree compares on a slice of rows.
func agree(t *testing.T, c *contract, rows reflect.Value) {
	t.Helper()
	for i := 0; i < rows.Len(); i += 64 {
		n := min(64, rows.Len()-i)
		doubts := first(n)
		if c.direct != nil {
			doubts = c.direct.doubts(rows.Index(i).Addr().UnsafePointer(), rows.Type().Elem().Size(), n)
			require.Zero(t, doubts&^first(n), "a doubt about a row that is not there")
		}
		for k := range n {
			row := rows.Index(i + k).Addr().Interface()
			doubt := doubts>>k&1 != 0
			got := verdict(func() error { return c.judge(t.Context(), row, doubt) })
			want := verdict(func() error { return c.judge(t.Context(), row, true) }) // the validator alone
			// Of fields that both judge: what the direct checks doubt, the validator refuses,
			// or the many rows that pass would be slow.
			if got != want || c.direct != nil && doubt && want == "" {
				t.Fatalf("%v\nrow %+v: doubt %v\ngot  %q\nwant %q", c.root, rows.Index(i+k), doubt, got, want)
			}
		}
	}
}

// verdict is all that a row's error tells, or its panic.
func verdict(judge func() error) string {
	err := attempt(judge)
	var fault *leat.FieldError
	if errors.As(err, &fault) {
		return fmt.Sprintf("%s/%s: %s", fault.Column, fault.Rule, fault.Msg)
	}
	return fmt.Sprint(err)
}

// Each rule with each parameter on each type, on its own and after others.
func TestDirectRules(t *testing.T) {
	t.Parallel()
	library := validator.New(validator.WithRequiredStructEnabled())
	for _, typ := range plainTypes {
		if isSQLNull(typ) {
			library.RegisterCustomTypeFunc(nullValue, reflect.Zero(typ).Interface())
		}
	}
	for _, typ := range plainTypes {
		t.Run(typ.String(), func(t *testing.T) {
			t.Parallel()
			vals := values(typ, strings.Join(someWords, " "))
			column := reflect.MakeSlice(reflect.SliceOf(typ), len(vals), len(vals))
			for i, v := range vals {
				column.Index(i).Set(v)
			}
			try := func(tag string) (works bool) {
				if panicOf(func() { _ = library.Var(vals[len(vals)-1].Interface(), tag) }) != "" {
					return false // no tag for this type
				}
				fields, ok := compileField(reflect.StructField{Name: "F", Type: typ, Tag: reflect.StructTag("validate:" + strconv.Quote(tag))})
				if !ok {
					return true
				}
				for i := 0; i < len(vals); i += 64 {
					fails := (&direct{fields: fields}).doubts(column.Index(i).Addr().UnsafePointer(), typ.Size(), min(64, len(vals)-i))
					for k := range min(64, len(vals)-i) {
						want := library.Var(vals[i+k].Interface(), tag) != nil
						require.Equal(t, want, fails>>k&1 != 0, "%v with %q: %#v", typ, tag, vals[i+k])
					}
				}
				return true
			}
			r := rand.New(rand.NewPCG(7, 7))
			for _, rule := range paramRules {
				for _, param := range slices.Concat(someNumbers, someWords) {
					for _, before := range []string{"", "omitempty,", "omitnil,", "omitzero,", "required,", "ne=5,"} {
						if (before == "" || r.IntN(12) == 0) && !try(before+rule+"="+param) {
							break
						}
					}
				}
			}
			for _, tag := range []string{"eq=1|eq=2", "omitempty,eq=a|eq=b", "required,len=3|ne=5", "gt=0,eq=1|lt=5"} {
				try(tag)
			}
			for _, tag := range []string{"required", "omitempty", "omitnil", "omitzero", "omitempty,required", "omitnil,required", "omitzero,required", "required,omitempty"} {
				require.True(t, try(tag))
			}
		})
	}
}

func TestDirectAgreesWithValidator(t *testing.T) {
	t.Parallel()
	const each = 20
	r := rand.New(rand.NewPCG(5, 8))
	for _, typ := range allTypes {
		worked := 0
		for range 100 * each {
			beside := []string{"", "", "omitempty,email", "omitempty,max=4", "omitempty,nefield=Antes"}[r.IntN(5)]
			if worked == each {
				break
			}
			if differ(t, typ, someTag(r), beside) {
				worked++
			}
		}
		assert.NotZero(t, worked, "%v: no tag works", typ)
	}
}

// FuzzDirect compares with any tag and any value.
func FuzzDirect(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for i, typ := range allTypes {
		for range 3 {
			f.Add(uint8(i), someTag(r), uint8(r.IntN(3)), []byte(typ.String()))
		}
	}
	f.Fuzz(func(t *testing.T, typ uint8, tag string, beside uint8, raw []byte) {
		at := allTypes[int(typ)%len(allTypes)]
		differ(t, at, tag, []string{"", "omitempty,email", "omitempty,min=3,nefield=Antes"}[beside%3], fromBytes(at, raw))
	})
}

// fromBytes makes a value of type t, as far as it is plain, of any bytes.
func fromBytes(t reflect.Type, raw []byte) reflect.Value {
	v := reflect.New(t).Elem()
	number := binary.LittleEndian.Uint64(append(slices.Clone(raw), make([]byte, 8)...))
	switch {
	case isSQLNull(t):
		v.Field(0).Set(fromBytes(t.Field(0).Type, raw))
		v.Field(1).SetBool(len(raw)%3 > 0)
	case t.Kind() == reflect.Pointer && len(raw)%3 > 0:
		v.Set(reflect.New(t.Elem()))
		v.Elem().Set(fromBytes(t.Elem(), raw))
	case t.Kind() == reflect.String:
		v.SetString(string(raw))
	case t.Kind() == reflect.Bool:
		v.SetBool(len(raw)%2 == 1)
	case v.CanInt():
		v.SetInt(int64(number))
	case v.CanUint():
		v.SetUint(number)
	case v.CanFloat():
		v.SetFloat(math.Float64frombits(number))
		if n, err := strconv.ParseFloat(string(raw), t.Bits()); err == nil {
			v.SetFloat(n)
		}
	}
	return v
}

type Pais struct {
	Codigo string `validate:"required,len=2"`
	Zona   *int8  `validate:"omitempty,gte=1,lte=9"`
}

type moneda struct {
	Divisa string `validate:"oneof=EUR USD"`
}

type cifrado int

func (cifrado) ValidatorValue() any { return 1 }

// Which contracts need the validator for what passes, and which fields.
func TestDirectCovers(t *testing.T) {
	t.Parallel()
	type itself struct {
		A    int      `validate:"min=1"`
		More []itself `validate:"dive"`
	}
	type other struct {
		A    int            `validate:"min=1"`
		More map[string]any `validate:"dive"`
	}
	for _, c := range []struct {
		name   string
		row    any
		direct int  // direct checks
		rest   bool // the validator looks at the rest
	}{
		{"all direct", struct {
			A int `validate:"min=1,max=5"`
			B *string
			C time.Time `validate:"required"`
			D sql.NullString
			E sql.Null[int] `validate:"omitnil,gt=0"`
			F []string
		}{}, 3, false},
		{"structs are flat", struct {
			Pais
			moneda
			Otro Pais
			D    dentro
		}{}, 7 - 2, false},
		{"a rule of the validator's", struct {
			A int    `validate:"min=1"`
			B string `validate:"email"`
		}{}, 1, true},
		{"a struct with one is the validator's, once", struct {
			A    int `validate:"min=1"`
			Base struct {
				B int    `validate:"min=1"`
				C string `validate:"email"`
			}
			Otra conTags
		}{}, 2, true},
		{"a list of structs", struct {
			A int       `validate:"min=1"`
			B []conTags `validate:"dive"`
		}{}, 1, true},
		{"only rules of the validator's", struct {
			B string `validate:"email"`
		}{}, 0, false},
		{"itself inside", itself{}, 0, false},
		{"anything inside", other{}, 0, false},
		{"anything inside that is skipped", struct {
			A int `validate:"min=1"`
			B any `validate:"-"`
			b any
		}{}, 1, false},
		{"another value inside", struct {
			A int     `validate:"min=1"`
			B cifrado `validate:"min=1"`
		}{}, 0, false},
		{"a struct that is another value", struct {
			A int `validate:"min=1"`
			B envuelto
		}{}, 0, false},
		{"fields far inside", struct {
			A string
			B struct {
				C string
				D struct {
					E string
					F int `validate:"min=1"`
				}
			}
		}{}, 1, false},
		{"a rule that never fails", struct {
			A int `validate:"omitempty"`
		}{}, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := compileContract(reflect.TypeOf(c.row), false, nil)
			require.NoError(t, got.fault)
			if c.direct == 0 {
				require.Nil(t, got.direct)
				return
			}
			require.NotNil(t, got.direct)
			require.Len(t, got.direct.fields, c.direct)
			require.Equal(t, c.rest, got.direct.rest != nil)
		})
	}
	for _, typ := range plainTypes {
		c := compileContract(rowOf(typ, "required", ""), false, nil)
		require.NoError(t, c.fault)
		assert.True(t, c.direct != nil && c.direct.rest == nil, "required on a %v is not direct", typ)
	}
	assert.Nil(t, (&validate[conTags]{given: true, with: validator.New()}).compiled().direct, "a validator that was given may have other rules")
}

// Fields of structs inside the row are found where they are.
func TestDirectInside(t *testing.T) {
	t.Parallel()
	type row struct {
		Antes [3]byte
		Pais
		moneda
		Otro struct {
			Nota string
			Pais Pais            `leat:"de"`
			A, B sql.Null[int16] `validate:"omitempty,lt=0"`
		}
		Fin string `validate:"ne=mal"`
	}
	bad, zero := int8(10), sql.Null[int16]{Valid: true}
	rows := make([]row, 150)
	changes := []func(*row){
		func(r *row) { r.Codigo = "" }, func(r *row) { r.Zona = &bad }, func(r *row) { r.Divisa = "GBP" }, func(r *row) { r.Otro.Pais.Codigo = "E" },
		func(r *row) { r.Otro.Pais.Zona = &bad }, func(r *row) { r.Otro.A = zero }, func(r *row) { r.Otro.B = zero }, func(r *row) { r.Fin = "mal" }, func(*row) {},
	}
	for i := range rows {
		r := &rows[i]
		r.Codigo, r.Divisa, r.Otro.Pais.Codigo = "ES", "EUR", "FR"
		changes[i%len(changes)](r)
	}
	c := compileContract(reflect.TypeFor[row](), false, nil)
	require.NoError(t, c.fault)
	require.Nil(t, c.direct.rest)
	require.Len(t, c.direct.fields, 8)
	agree(t, c, reflect.ValueOf(rows))
}

func TestRowSetRuns(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	for _, n := range []int{0, 1, 63, 64, 65, 127, 128, 200} {
		for _, share := range []float64{0, 0.1, 0.5, 0.98, 1} {
			set := make(rowSet, (n+63)/64)
			var want, got []int
			for i := range n {
				if r.Float64() < share {
					set.add(i, 1)
					want = append(want, i)
				}
			}
			end := -1
			for from, to := set.run(0); from < to; from, to = set.run(to) {
				require.Greater(t, from, end, "runs that touch are one")
				for i := from; i < to; i++ {
					got = append(got, i)
				}
				end = to
			}
			require.Equal(t, want, got, "%d rows, a share of %v", n, share)
			require.Equal(t, len(want), set.len())
		}
	}
}
