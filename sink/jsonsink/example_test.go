package jsonsink_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/sink/jsonsink"
)

// Rows become lines of JSON, in a folder per day. Running the same rows again
// adds none: the manifest knows how far the sink has come.
func ExampleNew() {
	type Medida struct {
		Sensor string    `leat:"sensor"`
		Hora   time.Time `leat:"hora"`
		Grados *float64  `leat:"grados"` // may be null
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
		leat.To(leat.From(p, leattest.Rows(Medida{"norte", at, &grados}, Medida{"sur", at.Add(24 * time.Hour), nil})),
			jsonsink.New(jsonsink.Config[Medida]{
				Dir:         medidas,
				PartitionBy: []jsonsink.Partition[Medida]{jsonsink.ByDay("dia", func(m Medida) time.Time { return m.Hora })},
			}))
		if err := p.Run(context.Background()); err != nil {
			fmt.Println(err)
			return
		}
	}

	files, err := filepath.Glob(filepath.Join(medidas, "dia=*", "*.jsonl"))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, f := range files {
		lines, err := os.ReadFile(f)
		if err != nil {
			fmt.Println(err)
			return
		}
		name, _ := filepath.Rel(medidas, f)
		fmt.Printf("%s\n%s", filepath.ToSlash(name), lines)
	}
	// Output:
	// dia=2025-03-01/telemetria-2-0.jsonl
	// {"sensor":"norte","hora":"2025-03-01T12:00:00Z","grados":21.5}
	// dia=2025-03-02/telemetria-2-1.jsonl
	// {"sensor":"sur","hora":"2025-03-02T12:00:00Z","grados":null}
}
