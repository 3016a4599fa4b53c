package stage_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/go-playground/validator/v10"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/stage"
)

type Base struct {
	Pais string `leat:"pais" validate:"omitempty,iso3166_1_alpha2"`
}

type linea struct {
	Articulo string `validate:"required"`
	Precio   *int   `json:"precio_linea" validate:"required,min=1"`
}

// pedido has a field for each kind of rule.
type pedido struct {
	Base
	Named    Base   `leat:"origen"`
	Cantidad int64  `leat:"cantidad" validate:"min=1,max=99"`
	Estado   string `leat:"estado" validate:"omitempty,oneof=completada pendiente 'en curso'"`
	Nombre   string `json:"nombre_cliente" validate:"omitempty,min=3,max=5"`
	Correo   string `leat:",key" validate:"omitempty,email"`
	Interno  string `leat:"-" validate:"omitempty,len=2"`
	Archivo  string `leat:"@file" validate:"omitempty,endswith=.csv"`

	Nota      *string         `validate:"omitnil,required"`
	Peso      sql.Null[int64] `validate:"omitnil,min=5"`
	Region    sql.NullString  `validate:"required_with=Zona"`
	Zona      string
	Precio    float64          `validate:"lt=100.5"`
	Descuento float64          `validate:"ltefield=Precio"`
	Espera    time.Duration    `validate:"max=1m"`
	Desde     time.Time        `leat:"desde"`
	Hasta     time.Time        `validate:"omitempty,gtfield=Desde"`
	Codigo    []byte           `validate:"omitempty,len=2"`
	Lineas    []linea          `validate:"max=30,dive"`
	Extra     map[string]linea `validate:"dive,keys,max=4,endkeys,required"`
	Etiquetas []string         `validate:"omitempty,unique,dive,alpha"`
	Color     string           `validate:"omitempty,iscolor"`
	Unidad    string           `validate:"required_if=Estado completada Zona Norte"`
	Doble     uint8            `validate:"omitempty,eq=2|eq=4"`
}

func valid() pedido {
	return pedido{Cantidad: 5, Unidad: "kg"}
}

func ptr[T any](v T) *T { return &v }

func TestValidateMessages(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ñ", 40)
	cases := []struct {
		name   string
		change func(*pedido)
		want   string // the message; "" when the row passes
		column string
		rule   string
	}{
		{name: "valid", change: func(*pedido) {}},
		{"min", func(p *pedido) { p.Cantidad = -3 }, "cantidad: must be at least 1, is -3 (min=1)", "cantidad", "min"},
		{"max", func(p *pedido) { p.Cantidad = 100 }, "cantidad: must be at most 99, is 100 (max=99)", "cantidad", "max"},
		{"oneof", func(p *pedido) { p.Estado = "perdida" },
			`estado: must be one of completada, pendiente, en curso, is "perdida" (oneof)`, "estado", "oneof"},
		{"json name, length in characters", func(p *pedido) { p.Nombre = "ñu" },
			`nombre_cliente: must have at least 3 characters, is "ñu" (min=3)`, "nombre_cliente", "min"},
		{"a long value is cut to 64 bytes", func(p *pedido) { p.Nombre = long },
			`nombre_cliente: must have at most 5 characters, is "` + long[:64] + `"… (80 bytes) (max=5)`, "nombre_cliente", "max"},
		{"a value stays on one line", func(p *pedido) { p.Correo = "a\nb\x00" },
			`correo: must be an e-mail address, is "a\nb\x00" (email)`, "correo", "email"},
		{"a field that is no column", func(p *pedido) { p.Interno = "abc" },
			`interno: must have exactly 2 characters, is "abc" (len=2)`, "interno", "len"},
		{"origin", func(p *pedido) { p.Archivo = "x.txt" }, `@file: must end with ".csv", is "x.txt" (endswith)`, "@file", "endswith"},
		{"an embedded struct is flat", func(p *pedido) { p.Pais = "Spain" },
			`pais: must be a country code of two letters, is "Spain" (iso3166_1_alpha2)`, "pais", "iso3166_1_alpha2"},
		{"inside a column", func(p *pedido) { p.Named.Pais = "Spain" },
			`origen.pais: must be a country code of two letters, is "Spain" (iso3166_1_alpha2)`, "origen", "iso3166_1_alpha2"},
		{"pointer to nothing but a value", func(p *pedido) { p.Nota = ptr("") }, "", "", ""},
		{"sql.Null null", func(p *pedido) { p.Peso = sql.Null[int64]{V: 1} }, "", "", ""},
		{"sql.Null zero is a value", func(p *pedido) { p.Peso = sql.Null[int64]{Valid: true} },
			"peso: must be at least 5, is 0 (min=5)", "peso", "min"},
		{"sql.NullString null", func(p *pedido) { p.Zona = "Sur" },
			"region: must not be empty when zona is given (required_with)", "region", "required_with"},
		{"sql.NullString empty is a value", func(p *pedido) { p.Zona, p.Region = "Sur", sql.NullString{Valid: true} }, "", "", ""},
		{"float", func(p *pedido) { p.Precio = 100.5 }, "precio: must be less than 100.5, is 100.5 (lt=100.5)", "precio", "lt"},
		{"another column", func(p *pedido) { p.Descuento = 0.5 }, "descuento: must not be greater than precio, is 0.5 (ltefield)", "descuento", "ltefield"},
		{"duration", func(p *pedido) { p.Espera = time.Hour }, "espera: must be at most 1m, is 1h0m0s (max=1m)", "espera", "max"},
		{"time", func(p *pedido) { p.Desde = time.Unix(1e9, 0); p.Hasta = time.Unix(1, 5).UTC() },
			"hasta: must be greater than desde, is 1970-01-01T00:00:01.000000005Z (gtfield)", "hasta", "gtfield"},
		{"bytes", func(p *pedido) { p.Codigo = []byte("abc") }, `codigo: must have exactly 2 bytes, is "abc" (len=2)`, "codigo", "len"},
		{"inside a slice", func(p *pedido) { p.Lineas = []linea{{"a", ptr(1)}, {"", ptr(1)}, {"c", nil}} },
			"lineas[1].articulo: must not be empty (required); lineas[2].precio_linea: must not be null (required)", "lineas", "required"},
		{"length of a slice", func(p *pedido) { p.Lineas = make([]linea, 31) },
			"lineas: must have at most 30 elements, has 31 elements (max=30)", "lineas", "max"},
		{"inside a map", func(p *pedido) { p.Extra = map[string]linea{"a.b]": {"", ptr(0)}} },
			`extra["a.b]"].articulo: must not be empty (required); extra["a.b]"].precio_linea: must be at least 1, is 0 (min=1)`, "extra", "required"},
		{"key of a map", func(p *pedido) { p.Extra = map[string]linea{"abcde": {"x", ptr(1)}} },
			`extra["abcde"]: must have at most 4 characters, is "abcde" (max=4)`, "extra", "max"},
		{"unique", func(p *pedido) { p.Etiquetas = []string{"a", "a"} },
			"etiquetas: must not hold anything twice, has 2 elements (unique)", "etiquetas", "unique"},
		{"dive into strings", func(p *pedido) { p.Etiquetas = []string{"a", "1"} },
			`etiquetas[1]: must be letters from A to Z, is "1" (alpha)`, "etiquetas", "alpha"},
		{"alias", func(p *pedido) { p.Color = "azul" },
			`color: must satisfy hexcolor or rgb or rgba or hsl or hsla or cmyk, is "azul" (iscolor)`, "color", "iscolor"},
		{"required_if", func(p *pedido) { p.Estado, p.Zona, p.Region.Valid, p.Unidad = "completada", "Norte", true, "" },
			"unidad: must not be empty when estado is completada and zona is Norte (required_if)", "unidad", "required_if"},
		{"or", func(p *pedido) { p.Doble = 3 }, "doble: must satisfy eq=2 or eq=4, is 3 (eq=2|eq=4)", "doble", "eq=2|eq=4"},
		{"all faults of a row", func(p *pedido) { p.Cantidad, p.Estado = -3, "perdida" },
			`cantidad: must be at least 1, is -3 (min=1); estado: must be one of completada, pendiente, en curso, is "perdida" (oneof)`, "cantidad", "min"},
	}
	rows := make([]pedido, len(cases))
	for i, c := range cases {
		rows[i] = valid()
		c.change(&rows[i])
	}
	got := pass(t, stage.Validate[pedido](), rows...)
	require.NoError(t, got.err)
	letters := map[leat.Offset]leat.DeadLetter{}
	for _, l := range got.letters {
		letters[l.Offset] = l
	}
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			l, rejected := letters[leat.Offset(i)]
			require.Equal(t, c.want != "", rejected, "%s", l.Error)
			if rejected {
				assert.Equal(t, leat.Contract, l.Class)
				assert.Equal(t, c.want, l.Error)
				assert.Equal(t, c.column, l.Column)
				assert.Equal(t, c.rule, l.Rule)
				assert.Empty(t, l.Stack)
			}
		})
	}
	assert.EqualValues(t, 2, got.stats.Rejected["Contract/cantidad/min"])
}

func TestValidateManyFaultsInOneRow(t *testing.T) {
	t.Parallel()
	bad := valid()
	bad.Extra = map[string]linea{}
	for i := range 500 {
		bad.Extra[fmt.Sprint(i)] = linea{"x", nil}
	}
	got := pass(t, stage.Validate[pedido](), bad)
	require.Len(t, got.letters, 1)
	assert.True(t, strings.HasSuffix(got.letters[0].Error, "; and 480 more"), got.letters[0].Error)
}

func TestRequiredSaysWhatNothingIs(t *testing.T) {
	t.Parallel()
	type todo struct {
		Texto  string        `validate:"required"`
		Numero int           `validate:"required"`
		Si     bool          `validate:"required"`
		Puntos *float64      `validate:"required"`
		Nulo   sql.Null[int] `validate:"required"`
		Cero   sql.Null[int] `validate:"required"`
		Hora   time.Time     `validate:"required"`
		Lista  []int         `validate:"required"`
	}
	got := pass(t, stage.Validate[todo](), todo{Cero: sql.Null[int]{Valid: true}})
	require.Len(t, got.letters, 1)
	assert.Equal(t, "texto: must not be empty (required); numero: must not be 0 (required); si: must not be false (required); "+
		"puntos: must not be null (required); nulo: must not be null (required); hora: must not be empty (required); lista: must not be empty (required)",
		got.letters[0].Error)
}

// A tag that can't work is found by Check, not by a row.
func TestValidateFaults(t *testing.T) {
	t.Parallel()
	type noTags struct{ A int }
	type unknown struct {
		A int `validate:"min=1"`
		B int `leat:"be" validate:"nosuch=3"`
		C int `validate:"omitempty,other"`
	}
	type misfit struct {
		A bool            `validate:"min=1"`
		B string          `validate:"required,min=abc"`
		C decimal.Decimal `validate:"gt=0"`
		D *float64        `validate:"omitempty,oneof=1 2"`
		E []int           `validate:"dive,required,oneof=a"`
		F sql.NullBool    `validate:"omitnil,max=3"`
	}
	type dives struct {
		A int            `validate:"dive,min=1"`
		B []int          `validate:"dive,keys,min=1,endkeys"`
		C map[string]int `validate:"keys,min=1,endkeys"`
	}
	type nested struct {
		A []*unknown         `validate:"dive"`
		B map[string]unknown `validate:"-"`
	}
	type fields struct {
		A int `validate:"gtfield=Nope"`
		B int `validate:"required_with=A Nope"`
		C int `validate:"required_if=A 1 Nope 2"`
		D int `validate:"required_if=A"`
		E int `validate:"eqfield=A"`
	}
	type commas struct {
		A int `validate:"min=1,"`
	}
	type endkeys struct {
		A map[string]int `validate:"dive,endkeys,required"`
	}
	type self struct { // a type that holds itself is walked once
		A    int    `validate:"min=1"`
		Next *self  `validate:"omitempty"`
		More []self `validate:"dive"`
	}
	type plainTime time.Time
	for _, c := range []struct {
		name string
		st   any
		want []string
	}{
		{"no tags", stage.Validate[noTags](), []string{"stage.Validate: stage_test.noTags has no validate tags"}},
		{"unknown rules, all of them", stage.Validate[unknown](), []string{
			`stage_test.unknown.B (column be): rule "nosuch=3": there is no such rule`,
			`stage_test.unknown.C (column c): rule "other": there is no such rule`}},
		{"rules that do not fit the type", stage.Validate[misfit](), []string{
			`misfit.A (column a): rule "min=1": it does not fit a bool`,
			`misfit.B (column b): rule "min=abc": strconv.ParseInt: parsing "abc": invalid syntax`,
			`misfit.C (column c): rule "gt=0": it does not fit a decimal.Decimal`,
			`misfit.D (column d): rule "oneof=1 2": it does not fit a float64`,
			`misfit.F (column f): rule "max=3": it does not fit a bool`}},
		{"dive", stage.Validate[dives](), []string{
			`dives.A (column a): rule "dive": it needs a slice, an array or a map, not int`,
			`dives.B (column b): rule "keys": there is no map before it`,
			`dives.C (column c): rule "keys": there is no map before it`}},
		{"inside", stage.Validate[nested](), []string{`unknown.B (column be): rule "nosuch=3"`}},
		{"other fields", stage.Validate[fields](), []string{
			`fields.A (column a): rule "gtfield=Nope": stage_test.fields has no field Nope`,
			`fields.B (column b): rule "required_with=A Nope": stage_test.fields has no field Nope`,
			`fields.C (column c): rule "required_if=A 1 Nope 2": stage_test.fields has no field Nope`,
			`fields.D (column d): rule "required_if=A": Bad param number`}},
		{"empty rule", stage.Validate[commas](), []string{`rule "": Invalid validation tag`}},
		{"endkeys alone", stage.Validate[endkeys](), []string{`'endkeys' tag encountered without a corresponding 'keys' tag`}},
		{"int", stage.Validate[int](), []string{"row type int is not a struct"}},
		{"pointer", stage.Validate[*pedido](), []string{"row type *stage_test.pedido is a pointer: use stage_test.pedido itself"}},
		{"time", stage.Validate[plainTime](), []string{"row type stage_test.plainTime is not a struct with fields"}},
		{"nil validator", stage.ValidateWith[pedido](nil), []string{"stage.ValidateWith: the validator is nil"}},
		{"unknown to the given one", stage.ValidateWith[unknown](validator.New()), []string{`stage.ValidateWith: stage_test.unknown.B (column be): rule "nosuch=3"`}},
		{"sql.Null not registered with the given one", stage.ValidateWith[misfit](validator.New()), []string{`misfit.F (column f): rule "max=3": it does not fit a sql.NullBool`}},
		{"holds itself", stage.Validate[self](), nil},
		{"pedido", stage.Validate[pedido](), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			err := c.st.(leat.Validator).Validate()
			if c.want == nil {
				require.NoError(t, err)
				return
			}
			for _, want := range c.want {
				require.ErrorContains(t, err, want)
			}
			if strings.Contains(c.name, "fields") {
				assert.Equal(t, 4, len(strings.Split(err.Error(), "\n")), "and nothing else: %v", err)
			}
			again := c.st.(leat.Validator).Validate()
			assert.Equal(t, err.Error(), again.Error(), "Validate may be called again")
		})
	}

	p := leat.New("test", leat.Config{})
	leat.To(leat.Via(leat.From(p, leattest.Rows[unknown]()), "contract", stage.Validate[unknown]()), leattest.Collect[unknown]())
	require.ErrorContains(t, p.Check(), "contract: stage.Validate: stage_test.unknown.B (column be)", "Check tells it")
}

type factura struct {
	NIF   string          `leat:"nif_cliente" validate:"nif"`
	Total decimal.Decimal `validate:"gt=0"`
	Neto  sql.NullInt64   `validate:"min=2"`
}

func customValidator(t *testing.T) *validator.Validate {
	v := validator.New(validator.WithRequiredStructEnabled())
	require.NoError(t, v.RegisterValidation("nif", func(fl validator.FieldLevel) bool {
		f := fl.Parent().Interface().(factura) // counts on the real type around the field
		return len(f.NIF) == 9
	}))
	v.RegisterCustomTypeFunc(func(f reflect.Value) any { return f.Interface().(decimal.Decimal).InexactFloat64() }, decimal.Decimal{})
	v.RegisterCustomTypeFunc(func(f reflect.Value) any { return f.Interface().(sql.NullInt64).Int64 }, sql.NullInt64{})
	v.RegisterStructValidation(func(sl validator.StructLevel) {
		f := sl.Current().Interface().(factura)
		if f.Total.LessThan(decimal.NewFromInt(f.Neto.Int64)) {
			sl.ReportError(f.Total, "Total", "Total", "suma", "")
		}
		if f.NIF == "explota00" {
			panic(errors.New("boom"))
		}
		if f.NIF == "inventado" {
			sl.ReportError(f.Total, "resumen", "resumen", "suma", "3")
		}
	}, factura{})
	return v
}

func TestValidateWith(t *testing.T) {
	t.Parallel()
	rows := []factura{
		{"12345678Z", decimal.RequireFromString("10.5"), sql.NullInt64{Int64: 2}},
		{"nada", decimal.RequireFromString("-1.5"), sql.NullInt64{Int64: 2}},
		{"12345678Z", decimal.RequireFromString("1"), sql.NullInt64{Int64: 3}},
		{"explota00", decimal.RequireFromString("10"), sql.NullInt64{Int64: 3}},
		{"inventado", decimal.RequireFromString("10"), sql.NullInt64{Int64: 3}},
	}
	got := pass(t, stage.ValidateWith[factura](customValidator(t)), rows...)
	require.NoError(t, got.err)
	assert.Equal(t, rows[:1], got.rows)
	require.Len(t, got.letters, 4)
	assert.Equal(t, `nif_cliente: must satisfy the rule nif, is "nada" (nif); total: must be more than 0, is -1.5 (gt=0); total: must satisfy the rule suma, is -1.5 (suma)`, got.letters[0].Error)
	assert.Equal(t, "nif", got.letters[0].Rule)
	assert.Equal(t, "total: must satisfy the rule suma, is 1 (suma)", got.letters[1].Error)
	assert.Equal(t, leat.Transform, got.letters[2].Class, "rule A9: a panic is no verdict on the data")
	assert.Equal(t, "panic: boom", got.letters[2].Error)
	assert.NotEmpty(t, got.letters[2].Stack)
	assert.Equal(t, "resumen: must satisfy the rule suma, is 10 (suma=3)", got.letters[3].Error)
}

func TestValidateWithNeedsNoTags(t *testing.T) {
	t.Parallel()
	v := validator.New()
	v.RegisterStructValidationMapRules(map[string]string{"Cantidad": "min=1"}, venta{})
	got := pass(t, stage.ValidateWith[venta](v), venta{Cantidad: 1}, venta{})
	require.NoError(t, got.err)
	require.Len(t, got.letters, 1)
	assert.Equal(t, "cantidad: must be at least 1, is 0 (min=1)", got.letters[0].Error)
}

func TestValidateContextReachesRules(t *testing.T) {
	t.Parallel()
	type key struct{}
	type fila struct {
		A int `validate:"ctx"`
	}
	v := validator.New()
	require.NoError(t, v.RegisterValidationCtx("ctx", func(ctx context.Context, fl validator.FieldLevel) bool {
		return ctx.Value(key{}) == int(fl.Field().Int())
	}))
	onEngine(t, []fila{{1}, {2}}, func(in *leat.Batch[fila], newOut func() *leat.Batch[fila]) {
		out := newOut()
		assert.NoError(t, stage.ValidateWith[fila](v).Process(context.WithValue(t.Context(), key{}, 2), in, out))
		assert.Equal(t, []fila{{2}}, out.Rows())
	})
}

func TestValidateGenericRow(t *testing.T) {
	t.Parallel()
	got := pass(t, stage.Validate[box[map[string]pedido]](), box[map[string]pedido]{})
	require.Len(t, got.letters, 1)
	assert.Equal(t, "total_neto: must be at least 1, is 0 (min=1)", got.letters[0].Error)
}

type box[T any] struct {
	TotalNeto int `validate:"min=1"`
	Rest      T
}

// dni has a rule of the validator's own that panics.
type dni string

func (d dni) Validate() error {
	switch d {
	case "panic":
		panic("boom")
	case "mal":
		return errors.New("no")
	}
	return nil
}

// Validate does not show every row to the validator, ValidateWith does: they agree
// on rows, order, letters and panics.
func TestValidateAgreesWithTheValidatorAlone(t *testing.T) {
	t.Parallel()
	type direct struct {
		A int    `validate:"gte=0"`
		B string `validate:"omitempty,oneof=x y"`
	}
	type mixed struct {
		A int    `validate:"gte=0"`
		B string `validate:"omitempty,oneof=x y"`
		C dni    `validate:"validateFn"`
		D int    `validate:"gtefield=A"`
	}
	for _, every := range []int{1, 2, 3, 7, 64, 100, 101, 1000} {
		t.Run(fmt.Sprint("one bad in ", every), func(t *testing.T) {
			t.Parallel()
			var directs []direct
			var mixeds []mixed
			for i := range 500 {
				m := mixed{A: i % 3, B: []string{"", "x", "y"}[i%3], D: 5}
				if i%every == every-1 {
					switch i / every % 4 {
					case 0:
						m.A = -1
					case 1:
						m.B = "z"
					case 2:
						m.C = "mal"
					case 3:
						m.C = "panic"
					}
					if i%2 == 0 {
						m.D = -2
					}
				}
				directs, mixeds = append(directs, direct{m.A, m.B}), append(mixeds, m)
			}
			same(t, stage.Validate[direct](), stage.ValidateWith[direct](plainValidator()), directs)
			same(t, stage.Validate[mixed](), stage.ValidateWith[mixed](plainValidator()), mixeds)
		})
	}
}

func same[T any](t *testing.T, one, other leat.Stage[T, T], rows []T) {
	t.Helper()
	got, want := pass(t, one, rows...), pass(t, other, rows...)
	require.NoError(t, got.err)
	assert.Equal(t, want.rows, got.rows)
	assert.Equal(t, want.at, got.at)
	require.Equal(t, len(want.letters), len(got.letters))
	for i, l := range got.letters {
		w := want.letters[i]
		assert.Equal(t, []any{w.Offset, w.Class, w.Error, w.Column, w.Rule, w.Stack == ""}, []any{l.Offset, l.Class, l.Error, l.Column, l.Rule, l.Stack == ""})
	}
}

func plainValidator() *validator.Validate {
	return validator.New(validator.WithRequiredStructEnabled())
}

// contrato is the contract of examples/ventas.
type contrato struct {
	VentaID        int64   `validate:"gte=0"`
	ClienteID      int64   `validate:"gt=0"`
	ProductoID     int64   `validate:"gt=0"`
	Cantidad       int64   `validate:"gte=1"`
	PrecioUnitario float64 `validate:"gte=0"`
	Total          float64 `validate:"gte=0"`
	FechaVenta     time.Time
	MetodoPago     string `validate:"oneof=tarjeta efectivo transferencia"`
	Estado         string `validate:"oneof=completada pendiente cancelada"`
	Archivo        string
}

// contratos are rows that pass, their texts in one text as a decoder leaves them.
func contratos(n int) []contrato {
	var text strings.Builder
	texts := func(i int, words ...string) string {
		word := words[i%len(words)]
		if text.Cap()-text.Len() < len(word) {
			text = strings.Builder{}
			text.Grow(1 << 20)
		}
		text.WriteString(word)
		return text.String()[text.Len()-len(word):]
	}
	rows := make([]contrato, n)
	for i := range rows {
		rows[i] = contrato{VentaID: int64(i), ClienteID: 1, ProductoID: 7, Cantidad: int64(1 + i%5), PrecioUnitario: 9.5, Total: 19,
			FechaVenta: time.Unix(int64(i), 0), MetodoPago: texts(i*7/3, "tarjeta", "efectivo", "transferencia"),
			Estado: texts(i*5/2, "completada", "pendiente", "cancelada")}
	}
	return rows
}

// Rule A1: a row that passes costs no allocation.
func TestValidateAllocationsPerBatch(t *testing.T) {
	const n = 4096
	onEngine(t, contratos(n), func(in *leat.Batch[contrato], out func() *leat.Batch[contrato]) {
		st := stage.Validate[contrato]()
		got := testing.AllocsPerRun(10, func() { assert.NoError(t, st.Process(t.Context(), in, out())) })
		assert.LessOrEqual(t, got, 8.0, "rule A1: Validate allocates %v times for a batch of %d rows", got, n)
	})
}

func BenchmarkValidate(b *testing.B) {
	bad := contratos(4096)
	for i := range bad {
		if i%4 == 0 {
			bad[i].Estado = "perdida"
		}
	}
	library := stage.ValidateWith[contrato](plainValidator())
	b.Run("direct", func(b *testing.B) { benchmark(b, stage.Validate[contrato](), contratos(4096)) })
	b.Run("library", func(b *testing.B) { benchmark(b, library, contratos(4096)) })
	b.Run("a quarter bad/direct", func(b *testing.B) { benchmark(b, stage.Validate[contrato](), bad) })
	b.Run("a quarter bad/library", func(b *testing.B) { benchmark(b, library, bad) })
}
