// Command ventas does one of the jobs that compare times: CSV, JSON lines or Parquet
// through the contract of examples/ventas and its enrichment, into Parquet, SQLite or both.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/pprof"
	"time"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/sink/parquetsink"
	"github.com/leatgo/leat/sink/sqlitesink"
	"github.com/leatgo/leat/source/csvsource"
	"github.com/leatgo/leat/source/jsonsource"
	"github.com/leatgo/leat/source/parquetsource"
	"github.com/leatgo/leat/stage"
)

//go:generate go run wide_gen.go
//go:generate gofmt -w wide.go

// Venta is one line of the file with its contract.
type Venta struct {
	VentaID        int64     `leat:"venta_id" validate:"gte=0"`
	ClienteID      int64     `leat:"cliente_id" validate:"gt=0"`
	ProductoID     int64     `leat:"producto_id" validate:"gt=0"`
	Cantidad       int64     `leat:"cantidad" validate:"gte=1"`
	PrecioUnitario float64   `leat:"precio_unitario" validate:"gte=0"`
	Total          float64   `leat:"total" validate:"gte=0"`
	FechaVenta     time.Time `leat:"fecha_venta,time=2006-01-02 15:04:05"`
	MetodoPago     string    `leat:"metodo_pago" validate:"oneof=tarjeta efectivo transferencia"`
	Estado         string    `leat:"estado" validate:"oneof=completada pendiente cancelada"`
}

// Mas is what the sinks get beyond the file.
type Mas struct {
	Anio           int32   `leat:"anio"`
	Mes            string  `leat:"mes"`
	TicketUnitario float64 `leat:"ticket_unitario"`
}

// Rica is a sale with more.
type Rica struct {
	Venta
	Mas
}

// AnchaRica is a wide sale with more.
type AnchaRica struct {
	Ancha
	Mas
}

func enrich(v *Venta) Mas {
	return Mas{int32(v.FechaVenta.Year()), v.FechaVenta.Format("2006-01"), v.Total / float64(v.Cantidad)}
}

type options struct {
	job, from, in, out string
	full               bool
}

func main() {
	var o options
	flag.StringVar(&o.job, "job", "parquet", "parquet, hive, sqlite or both")
	flag.StringVar(&o.from, "from", "csv", "csv, json or parquet")
	flag.StringVar(&o.in, "in", "", "folder with the files")
	flag.StringVar(&o.out, "out", "", "folder for all output")
	flag.BoolVar(&o.full, "full", false, "SQLite with synchronous=FULL")
	wide := flag.Bool("wide", false, "the files have ten times the columns")
	cpu := flag.String("cpuprofile", "", "file for a CPU profile")
	flag.Parse()
	stop := func() {}
	if *cpu != "" {
		f, err := os.Create(*cpu)
		if err == nil {
			err = pprof.StartCPUProfile(f)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		stop = pprof.StopCPUProfile
	}
	var err error
	if *wide {
		err = run(o, func(v Ancha) (AnchaRica, error) { return AnchaRica{v, enrich(&v.Venta)}, nil }, func(r AnchaRica) string { return r.Mes })
	} else {
		err = run(o, func(v Venta) (Rica, error) { return Rica{v, enrich(&v)}, nil }, func(r Rica) string { return r.Mes })
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run[In, Out any](o options, rich func(In) (Out, error), mes func(Out) string) error {
	p := leat.New("bench", leat.Config{
		StateDir: filepath.Join(o.out, "state"), Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	var sinks []leat.Sink[Out]
	if o.job == "parquet" || o.job == "hive" || o.job == "both" {
		c := parquetsink.Config[Out]{Dir: filepath.Join(o.out, "lake")}
		if o.job == "hive" {
			c.PartitionBy = []parquetsink.Partition[Out]{{Name: "mes", Value: mes}}
		}
		sinks = append(sinks, parquetsink.New(c))
	}
	if o.job == "sqlite" || o.job == "both" {
		c := sqlitesink.Config[Out]{Path: filepath.Join(o.out, "o.db"), Table: "ventas", Synchronous: sqlitesink.Normal}
		if o.full {
			c.Synchronous = sqlitesink.Full
		}
		sinks = append(sinks, sqlitesink.New(c))
	}
	var src leat.Source[In]
	switch o.from {
	case "json":
		src = jsonsource.New(jsonsource.Config[In]{Dir: o.in})
	case "parquet":
		src = parquetsource.New(parquetsource.Config[In]{Dir: o.in})
	default:
		src = csvsource.New(csvsource.Config[In]{Dir: o.in})
	}
	rows := leat.From(p, src)
	good := leat.Via(rows, "contract", stage.Validate[In]())
	leat.To(leat.Via(good, "enrich", stage.Map(rich)), sinks...)
	return p.Run(context.Background())
}
