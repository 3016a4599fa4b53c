package csvsource_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/source/csvsource"
)

func ExampleDetect() {
	d, err := csvsource.Detect(strings.NewReader("Ventas de noviembre\n\nid;precio;nota\n1;1.234,50;\"dos; o tres\"\n2;3,25;\n"))
	if err != nil {
		fmt.Println(err)
	}
	fmt.Printf("delimiter %q, decimal %q, thousands %q\n", d.Delimiter, d.Decimal, d.Thousands)
	fmt.Println("columns", d.Columns, "behind", d.SkipLines, "lines")
	fmt.Println("header:", d.HasHeader)
	fmt.Println(d.Why[1])
	// Output:
	// delimiter ';', decimal ',', thousands '.'
	// columns [id precio nota] behind 2 lines
	// header: true
	// the first 2 lines have another form than the rest
}

// What Detect has found becomes a part of the Config, and is then the same for all files.
func ExampleConfig_With() {
	type Sale struct {
		ID     int64
		Precio float64
		Nota   string
	}
	work, err := os.MkdirTemp("", "leat")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(work)
	incoming := filepath.Join(work, "incoming")
	_ = os.Mkdir(incoming, 0o755)
	monday := filepath.Join(incoming, "monday.csv") // in Windows-1252
	_ = os.WriteFile(monday, []byte("id;precio;nota\n1;1.234,50;caf\xe9\n2;3,25;5 \x80 menos\n3;7,75;t\xe9\n"), 0o644)

	d, err := csvsource.DetectFile(monday)
	if err != nil {
		fmt.Println(err)
	}
	c := csvsource.Config[Sale]{Dir: incoming}.With(d)
	sink := leattest.Collect[Sale]()
	p := leat.New("sales", leat.Config{StateDir: filepath.Join(work, "state"), Logger: slog.New(slog.DiscardHandler)})
	leat.To(leat.From(p, csvsource.New(c)), sink)
	if err := p.Run(context.Background()); err != nil {
		fmt.Println(err)
	}
	for _, s := range sink.Committed() {
		fmt.Println(s.ID, s.Precio, s.Nota)
	}
	// Output:
	// 1 1234.5 café
	// 2 3.25 5 € menos
	// 3 7.75 té
}

// A lenient source takes what a strict one rejects, and keeps columns that it does not know.
func ExampleConfig_lenient() {
	type Item struct {
		ID    int64
		Name  string
		Price *float64
		Rest  map[string]string `leat:"rest,extra"`
	}
	work, err := os.MkdirTemp("", "leat")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(work)
	incoming := filepath.Join(work, "incoming")
	_ = os.Mkdir(incoming, 0o755)
	_ = os.WriteFile(filepath.Join(incoming, "items.csv"), []byte(`id,name,price,color
1,5" disk,9.50,red
2,"the "big" one",N/A
3,"forgotten,1.25,blue,,
`), 0o644)

	sink := leattest.Collect[Item]()
	p := leat.New("items", leat.Config{StateDir: filepath.Join(work, "state"), Logger: slog.New(slog.DiscardHandler)})
	leat.To(leat.From(p, csvsource.New(csvsource.Config[Item]{
		Dir: incoming, Lenient: true, Ragged: csvsource.PadRagged | csvsource.CutRagged, Null: []string{"N/A"},
	})), sink)
	if err := p.Run(context.Background()); err != nil {
		fmt.Println(err)
	}
	for _, s := range sink.Committed() {
		fmt.Println(s.ID, s.Name, s.Price != nil, s.Rest)
	}
	// Output:
	// 1 5" disk true map[color:red]
	// 2 the "big" one false map[]
	// 3 "forgotten true map[color:blue]
}
