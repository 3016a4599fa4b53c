package csvsink_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/sink/csvsink"
)

// Rows become a CSV file. Running the same rows again adds none: the manifest
// knows how far the sink has come.
func ExampleNew() {
	type Medida struct {
		Sensor string    `leat:"sensor"`
		Hora   time.Time `leat:"hora,time=2006-01-02 15:04"`
		Grados *float64  `leat:"grados"` // may be null
		Nota   string    `leat:"nota"`
	}
	at := time.Date(2025, 3, 1, 12, 0, 0, 0, time.UTC)
	grados := 21.5
	dir, err := os.MkdirTemp("", "leat")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	medidas := filepath.Join(dir, "medidas")

	for range 2 {
		p := leat.New("telemetria", leat.Config{StateDir: filepath.Join(dir, "state")})
		leat.To(leat.From(p, leattest.Rows(
			Medida{"norte", at, &grados, `sol, "calor"`},
			Medida{"sur", at.Add(time.Minute), nil, ""},
		)), csvsink.New(csvsink.Config[Medida]{Dir: medidas}))
		if err := p.Run(context.Background()); err != nil {
			fmt.Println(err)
			return
		}
	}

	text, err := os.ReadFile(filepath.Join(medidas, "telemetria-2-0.csv"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(string(text))
	// Output:
	// sensor,hora,grados,nota
	// norte,2025-03-01 12:00,21.5,"sol, ""calor"""
	// sur,2025-03-01 12:01,,""
}

// A folder for each day of the rows' times.
func ExampleByDay() {
	type Medida struct {
		Hora  time.Time `leat:"hora"`
		Valor int       `leat:"valor"`
	}
	at := time.Date(2025, 3, 1, 12, 0, 0, 0, time.UTC)
	dir, err := os.MkdirTemp("", "leat")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	p := leat.New("telemetria", leat.Config{StateDir: filepath.Join(dir, "state")})
	leat.To(leat.From(p, leattest.Rows(Medida{at, 1}, Medida{at.Add(24 * time.Hour), 2}, Medida{at, 3})),
		csvsink.New(csvsink.Config[Medida]{
			Dir:         filepath.Join(dir, "medidas"),
			PartitionBy: []csvsink.Partition[Medida]{csvsink.ByDay("dia", func(m Medida) time.Time { return m.Hora })},
		}))
	if err := p.Run(context.Background()); err != nil {
		fmt.Println(err)
		return
	}
	folders, err := filepath.Glob(filepath.Join(dir, "medidas", "dia=*"))
	for _, folder := range folders {
		fmt.Println(filepath.Base(folder))
	}
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// dia=2025-03-01
	// dia=2025-03-02
}
