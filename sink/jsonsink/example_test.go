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

// Rows become lines of JSON. Running the same rows again adds none: the file's
// sidecar knows how far it has come.
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
	file := filepath.Join(dir, "medidas.jsonl")

	for range 2 {
		p := leat.New("telemetria", leat.Config{StateDir: filepath.Join(dir, "state")})
		leat.To(leat.From(p, leattest.Rows(Medida{"norte", at, &grados}, Medida{"sur", at.Add(time.Minute), nil})),
			jsonsink.New(jsonsink.Config[Medida]{Path: file}))
		if err := p.Run(context.Background()); err != nil {
			fmt.Println(err)
			return
		}
	}

	lines, err := os.ReadFile(file)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(string(lines))
	// Output:
	// {"sensor":"norte","hora":"2025-03-01T12:00:00Z","grados":21.5}
	// {"sensor":"sur","hora":"2025-03-01T12:01:00Z","grados":null}
}
