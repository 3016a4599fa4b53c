package stage_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/go-playground/validator/v10"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/stage"
)

// config keeps the state of an example in a folder of its own and its dead
// letters on the standard output.
func config(name string) leat.Config {
	return leat.Config{StateDir: exampleDir + "/" + name, DeadLetters: printer{}}
}

// printer is a dead-letter log for people.
type printer struct{}

func (printer) Open(context.Context, leat.Env) error { return nil }
func (printer) Sync(context.Context) error           { return nil }
func (printer) Close() error                         { return nil }
func (printer) Append(_ context.Context, letters []leat.DeadLetter) error {
	for _, l := range letters {
		fmt.Printf("row %d rejected (%s): %s\n", l.Offset, l.Class, l.Error)
	}
	return nil
}

var exampleDir string

func TestMain(m *testing.M) {
	var err error
	if exampleDir, err = os.MkdirTemp("", "leat-stage-*"); err != nil {
		panic(err)
	}
	code := m.Run()
	_ = os.RemoveAll(exampleDir)
	os.Exit(code)
}

// An error rejects its row; the others go on.
func ExampleMap() {
	parse := func(s string) (int, error) { return strconv.Atoi(s) }

	src, sink := leattest.Rows("1", "two", "3"), leattest.Collect[int]()
	p := leat.New("example", config("map"))
	leat.To(leat.Via(leat.From(p, src), "parse", stage.Map(parse)), sink)
	if err := p.Run(context.Background()); err != nil {
		fmt.Println(err)
	}
	fmt.Println(sink.Committed())
	// Output:
	// row 1 rejected (Transform): strconv.Atoi: parsing "two": invalid syntax
	// [1 3]
}

func ExampleFilter() {
	even := func(n int) bool { return n%2 == 0 }

	src, sink := leattest.Rows(1, 2, 3, 4), leattest.Collect[int]()
	p := leat.New("example", config("filter"))
	leat.To(leat.Via(leat.From(p, src), "even", stage.Filter(even)), sink)
	if err := p.Run(context.Background()); err != nil {
		fmt.Println(err)
	}
	fmt.Println(sink.Committed())
	// Output: [2 4]
}

// Only some events are payments, and it takes parsing to know which.
func ExampleFilterMap() {
	payment := func(event string) (int, bool, error) {
		kind, amount, _ := strings.Cut(event, " ")
		if kind != "paid" {
			return 0, false, nil
		}
		n, err := strconv.Atoi(amount)
		return n, true, err
	}

	src, sink := leattest.Rows("visit /", "paid 12", "paid lots", "visit /bye"), leattest.Collect[int]()
	p := leat.New("example", config("filtermap"))
	leat.To(leat.Via(leat.From(p, src), "payments", stage.FilterMap(payment)), sink)
	if err := p.Run(context.Background()); err != nil {
		fmt.Println(err)
	}
	fmt.Println(sink.Committed())
	// Output:
	// row 2 rejected (Transform): strconv.Atoi: parsing "lots": invalid syntax
	// [12]
}

// One order has many lines.
func ExampleFlatMap() {
	type order struct {
		ID    int
		Lines []string
	}
	type line struct {
		Order int
		Item  string
	}
	lines := func(o order) ([]line, error) {
		out := make([]line, len(o.Lines))
		for i, item := range o.Lines {
			out[i] = line{o.ID, item}
		}
		return out, nil
	}

	src := leattest.Rows(order{1, []string{"pan", "vino"}}, order{2, nil}, order{3, []string{"sal"}})
	sink := leattest.Collect[line]()
	p := leat.New("example", config("flatmap"))
	leat.To(leat.Via(leat.From(p, src), "lines", stage.FlatMap(lines)), sink)
	if err := p.Run(context.Background()); err != nil {
		fmt.Println(err)
	}
	fmt.Println(sink.Committed())
	// Output: [{1 pan} {1 vino} {3 sal}]
}

// A FieldError tells the statistics column and rule.
func ExampleCheck() {
	type invoice struct{ Net, Tax, Total int }
	adds := func(i invoice) error {
		if i.Net+i.Tax != i.Total {
			return &leat.FieldError{Column: "total", Rule: "sum", Msg: "total: must be net plus tax"}
		}
		return nil
	}

	src, sink := leattest.Rows(invoice{100, 21, 121}, invoice{100, 21, 120}), leattest.Collect[invoice]()
	p := leat.New("example", config("check"))
	leat.To(leat.Via(leat.From(p, src), "sums", stage.Check(adds)), sink)
	if err := p.Run(context.Background()); err != nil {
		fmt.Println(err)
	}
	fmt.Println(sink.Committed())
	fmt.Println(p.Stats().Rejected)
	// Output:
	// row 1 rejected (Contract): total: must be net plus tax
	// [{100 21 121}]
	// map[Contract/total/sum:1]
}

// Two calls run at once; rows keep their order.
func ExampleCall() {
	ask := func(_ context.Context, city string) (string, error) {
		switch city { // as an HTTP API would answer
		case "Lugo":
			return city + " 12°", nil
		case "Soria":
			return city + " 7°", nil
		}
		return "", errors.New("404 no such city")
	}

	src, sink := leattest.Rows("Lugo", "Atlantis", "Soria"), leattest.Collect[string]()
	p := leat.New("example", config("call"))
	leat.To(leat.Via(leat.From(p, src), "weather", stage.Call(2, ask)), sink)
	if err := p.Run(context.Background()); err != nil {
		fmt.Println(err)
	}
	fmt.Println(sink.Committed())
	// Output:
	// row 1 rejected (Transform): 404 no such city
	// [Lugo 12° Soria 7°]
}

// One query finds the names for all rows of a batch.
func ExampleCallBatch() {
	names := map[int]string{1: "Ana", 3: "Luis"} // as a database would know them
	lookup := func(_ context.Context, ids []int) ([]string, error) {
		found := make([]string, len(ids))
		var missing leat.RowErrors
		for i, id := range ids {
			name, ok := names[id]
			if !ok {
				missing.Rows = append(missing.Rows, leat.RowError{Row: i, Err: fmt.Errorf("no customer %d", id)})
			}
			found[i] = name
		}
		if len(missing.Rows) > 0 {
			return found, &missing
		}
		return found, nil
	}

	src, sink := leattest.Rows(1, 2, 3), leattest.Collect[string]()
	p := leat.New("example", config("callbatch"))
	leat.To(leat.Via(leat.From(p, src), "names", stage.CallBatch(lookup)), sink)
	if err := p.Run(context.Background()); err != nil {
		fmt.Println(err)
	}
	fmt.Println(sink.Committed())
	// Output:
	// row 1 rejected (Transform): no customer 2
	// [Ana Luis]
}

func ExampleValidate() {
	type Venta struct {
		VentaID  int64  `validate:"gt=0"`
		Cantidad int64  `validate:"min=1"`
		Estado   string `validate:"oneof=completada pendiente cancelada"`
	}

	src := leattest.Rows(Venta{1, 2, "completada"}, Venta{2, -3, "perdida"}, Venta{3, 0, "pendiente"})
	sink := leattest.Collect[Venta]()
	p := leat.New("example", config("validate"))
	leat.To(leat.Via(leat.From(p, src), "contract", stage.Validate[Venta]()), sink)
	if err := p.Run(context.Background()); err != nil {
		fmt.Println(err)
	}
	fmt.Println(sink.Committed())
	fmt.Println(p.Stats().Rejected)
	// Output:
	// row 1 rejected (Contract): cantidad: must be at least 1, is -3 (min=1); estado: must be one of completada, pendiente, cancelada, is "perdida" (oneof)
	// row 2 rejected (Contract): cantidad: must be at least 1, is 0 (min=1)
	// [{1 2 completada}]
	// map[Contract/cantidad/min:2]
}

// A contract with a rule of one's own.
func ExampleValidateWith() {
	type Cliente struct {
		Nombre string `validate:"required"`
		NIF    string `leat:"nif" validate:"nif"`
	}
	v := validator.New(validator.WithRequiredStructEnabled())
	err := v.RegisterValidation("nif", func(fl validator.FieldLevel) bool {
		nif := fl.Field().String()
		if len(nif) != 9 {
			return false
		}
		n, err := strconv.Atoi(nif[:8])
		return err == nil && nif[8] == "TRWAGMYFPDXBNJZSQVHLCKE"[n%23]
	})
	if err != nil {
		fmt.Println(err)
	}

	src := leattest.Rows(Cliente{"Ana", "12345678Z"}, Cliente{"", "12345678A"})
	sink := leattest.Collect[Cliente]()
	p := leat.New("example", config("validatewith"))
	leat.To(leat.Via(leat.From(p, src), "contract", stage.ValidateWith[Cliente](v)), sink)
	if err := p.Run(context.Background()); err != nil {
		fmt.Println(err)
	}
	fmt.Println(sink.Committed())
	// Output:
	// row 1 rejected (Contract): nombre: must not be empty (required); nif: must satisfy the rule nif, is "12345678A" (nif)
	// [{Ana 12345678Z}]
}
