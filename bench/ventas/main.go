// Command ventas runs one of the jobs that the comparisons time: a CSV file through the
// contract of examples/ventas and its enrichment, into Parquet, SQLite or both.
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
	"github.com/leatgo/leat/stage"
)

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

// Rica is a sale with what the sinks get beyond the file.
type Rica struct {
	Venta
	Anio           int32   `leat:"anio"`
	Mes            string  `leat:"mes"`
	TicketUnitario float64 `leat:"ticket_unitario"`
}

func enrich(v Venta) (Rica, error) {
	return Rica{v, int32(v.FechaVenta.Year()), v.FechaVenta.Format("2006-01"), v.Total / float64(v.Cantidad)}, nil
}

func main() {
	job := flag.String("job", "parquet", "parquet, hive, sqlite or both")
	in := flag.String("in", "", "folder with the CSV file")
	out := flag.String("out", "", "folder for all output")
	full := flag.Bool("full", false, "SQLite with synchronous=FULL")
	cpu := flag.String("cpuprofile", "", "file for a CPU profile")
	flag.Parse()
	if *cpu != "" {
		f, err := os.Create(*cpu)
		if err != nil {
			panic(err)
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			panic(err)
		}
		defer pprof.StopCPUProfile()
	}
	if err := run(*job, *in, *out, *full); err != nil {
		fmt.Fprintln(os.Stderr, err)
		pprof.StopCPUProfile()
		os.Exit(1)
	}
}

func run(job, in, out string, full bool) error {
	p := leat.New("bench", leat.Config{
		StateDir: filepath.Join(out, "state"), Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	src := csvsource.New(csvsource.Config[Venta]{Dir: in, Settle: -1})
	var sinks []leat.Sink[Rica]
	if job == "parquet" || job == "hive" || job == "both" {
		c := parquetsink.Config[Rica]{Dir: filepath.Join(out, "lake")}
		if job == "hive" {
			c.PartitionBy = []parquetsink.Partition[Rica]{{Name: "mes", Value: func(r Rica) string { return r.Mes }}}
		}
		sinks = append(sinks, parquetsink.New(c))
	}
	if job == "sqlite" || job == "both" {
		c := sqlitesink.Config[Rica]{Path: filepath.Join(out, "o.db"), Table: "ventas", Synchronous: sqlitesink.Normal}
		if full {
			c.Synchronous = sqlitesink.Full
		}
		sinks = append(sinks, sqlitesink.New(c))
	}
	rows := leat.From(p, src)
	good := leat.Via(rows, "contract", stage.Validate[Venta]())
	leat.To(leat.Via(good, "enrich", stage.Map(enrich)), sinks...)
	return p.Run(context.Background())
}
