package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/examples/internal/cli"
	"github.com/leatgo/leat/sink/parquetsink"
	"github.com/leatgo/leat/source/files"
)

// Producto is what the files do not say about a producto_id.
type Producto struct{ Nombre, Categoria string }

var productos = map[int64]Producto{
	1: {"Laptop", "Electrónica"},
	2: {"Mouse", "Accesorios"},
	3: {"Teclado", "Accesorios"},
	4: {"Monitor", "Electrónica"},
	5: {"Webcam", "Accesorios"},
	6: {"Auriculares", "Accesorios"},
}

// result is what a run leaves to tell.
type result struct {
	options
	made        int // files generated
	took        time.Duration
	interrupted bool
	stats       leat.Stats
	files       files.Stats
	ledger      []files.Entry
}

// summary is the line of -json: this run alone.
type summary struct {
	Files      int              `json:"files"` // finished: ok or failed
	In         int64            `json:"in"`    // = Loaded + Rejected
	Loaded     int64            `json:"loaded"`
	Rejected   int64            `json:"rejected"`
	RejectedBy map[string]int64 `json:"rejected_by"` // class/column/rule
	Seconds    float64          `json:"seconds"`
	RowsPerS   float64          `json:"rows_per_s"`
}

func (r *result) summary() summary {
	run := r.stats.Run
	s := summary{
		Files: r.files.OK + r.files.Failed,
		In:    run.In, Loaded: run.Out["ventas"], Rejected: sum(run.Rejected), RejectedBy: run.Rejected,
		Seconds: float64(r.took.Microseconds()) / 1e6,
	}
	if s.RejectedBy == nil {
		s.RejectedBy = map[string]int64{}
	}
	if s.Seconds > 0 {
		s.RowsPerS = math.Round(float64(s.In) / s.Seconds)
	}
	return s
}

func sum(by map[string]int64) (n int64) {
	for _, v := range by {
		n += v
	}
	return n
}

// print writes the report, and with -json the summary as its last line.
func (r *result) print(to io.Writer) error {
	w := bufio.NewWriter(to)
	s := r.summary()
	r.printRun(w, s)
	if err := r.printTable(w); err != nil {
		return err
	}
	r.printLedger(w)
	if err := r.printFolders(w); err != nil {
		return err
	}
	if r.json {
		if err := json.NewEncoder(w).Encode(s); err != nil {
			return err
		}
	}
	return w.Flush()
}

func (r *result) printRun(w io.Writer, s summary) {
	if r.made > 0 {
		fmt.Fprintf(w, "Generated %d files of %s rows in %s.\n", r.made, cli.Count(int64(r.rows)), r.incoming)
	}
	switch {
	case r.interrupted:
		fmt.Fprintln(w, "Stopped by a signal: what was read is loaded. The same command goes on from here.")
	case s.In > 0 || s.Files+r.files.Skipped > 0:
		fmt.Fprintf(w, "Done: %d files, %s rows in %.2f s, %s rows/s.\n", s.Files, cli.Count(s.In), s.Seconds, cli.Count(int64(s.RowsPerS)))
		if r.files.Skipped > 0 {
			fmt.Fprintf(w, "Skipped: %d files that were read before.\n", r.files.Skipped)
		}
	case len(r.ledger) == 0:
		fmt.Fprintf(w, "There is no file in %s.\n", r.incoming)
	default:
		fmt.Fprintf(w, "Nothing new: all %d files were done before, no row was loaded.\n", len(r.ledger))
		if r.ownData {
			fmt.Fprintf(w, "To see it work again, remove %s.\n", filepath.Dir(r.incoming))
		}
	}

	var total summary // since the first run
	for _, n := range r.stats.Nodes {
		if n.Name == "ventas" && n.Kind == "sink" {
			total.In, total.Loaded, total.Rejected = n.In, n.Out, n.Rejected
		}
	}
	cli.Title(w, "Rows")
	t := cli.NewTable(w, "-", "this run", "in all")
	t.Row("rows in", cli.Count(s.In), cli.Count(total.In))
	t.Row("loaded", cli.Count(s.Loaded), cli.Count(total.Loaded))
	t.Row("rejected", cli.Count(s.Rejected), cli.Count(total.Rejected))
	t.Flush()

	if len(r.stats.Rejected) == 0 {
		return
	}
	cli.Title(w, "Rejected by reason")
	t = cli.NewTable(w, "-class", "-column", "-rule", "this run", "in all")
	for _, why := range slices.Sorted(maps.Keys(r.stats.Rejected)) {
		class, rest, _ := strings.Cut(why, "/")
		column, rule, _ := strings.Cut(rest, "/")
		t.Row(class, column, rule, cli.Count(s.RejectedBy[why]), cli.Count(r.stats.Rejected[why]))
	}
	t.Flush()
}

// printTable asks the table ventas, and the sink por_archivo for what the table
// does not know.
func (r *result) printTable(w io.Writer) (err error) {
	if _, err := os.Stat(r.database()); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	db, err := sqlite.OpenConn(r.database(), sqlite.OpenReadWrite) // a reader alone would leave -wal and -shm behind
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()

	empty := true
	err = each(db, "SELECT 1 FROM ventas LIMIT 1", func(*sqlite.Stmt) { empty = false })
	if err != nil || empty {
		return err
	}
	cli.Title(w, "Last 20 rows by date")
	t := cli.NewTable(w, "-fecha_venta", "venta_id", "cliente_id", "-producto", "cantidad", "precio_unitario", "total", "-metodo_pago", "-estado")
	err = each(db, `SELECT fecha_venta, venta_id, cliente_id, producto_id, cantidad, precio_unitario, total, metodo_pago, estado
		FROM ventas ORDER BY fecha_venta DESC, rowid DESC LIMIT 20`, func(q *sqlite.Stmt) {
		t.Row(q.ColumnText(0), q.ColumnText(1), q.ColumnText(2), productOf(q.ColumnInt64(3)).Nombre, q.ColumnText(4),
			cli.Money(q.ColumnFloat(5)), cli.Money(q.ColumnFloat(6)), q.ColumnText(7), q.ColumnText(8))
	})
	if err != nil {
		return err
	}
	t.Flush()

	cli.Title(w, "Sales by product")
	t = cli.NewTable(w, "-producto", "-categoria", "sales", "units", "mean price", "revenue")
	n := 0
	err = each(db, `SELECT producto_id, count(*), sum(cantidad), avg(precio_unitario), sum(total) AS revenue
		FROM ventas GROUP BY producto_id ORDER BY revenue DESC, producto_id`, func(q *sqlite.Stmt) {
		if n++; n > 20 {
			return
		}
		p := productOf(q.ColumnInt64(0))
		t.Row(p.Nombre, p.Categoria, cli.Count(q.ColumnInt64(1)), cli.Count(q.ColumnInt64(2)), cli.Money(q.ColumnFloat(3)), cli.Money(q.ColumnFloat(4)))
	})
	if err != nil {
		return err
	}
	t.Flush()
	if n > 20 {
		fmt.Fprintf(w, "  and %s products more\n", cli.Count(int64(n-20)))
	}

	s, err := readSums(r.sums())
	if err != nil {
		return err
	}
	cli.Title(w, "Metrics per file and of the whole table")
	t = cli.NewTable(w, "-file", "rows", "sum of total", "mean ticket", "distinct customers")
	for _, f := range s.Archivos {
		t.Row(f.Archivo, cli.Count(f.Filas), cli.Money(f.Total), cli.Money(f.Total/float64(f.Filas)), cli.Count(int64(f.Clientes)))
	}
	err = each(db, `SELECT count(*), coalesce(sum(total), 0), coalesce(avg(total), 0), count(DISTINCT cliente_id) FROM ventas`, func(q *sqlite.Stmt) {
		t.Row("all", cli.Count(q.ColumnInt64(0)), cli.Money(q.ColumnFloat(1)), cli.Money(q.ColumnFloat(2)), cli.Count(q.ColumnInt64(3)))
	})
	t.Flush()
	return err
}

func each(db *sqlite.Conn, query string, row func(*sqlite.Stmt)) error {
	return sqlitex.ExecuteTransient(db, query, &sqlitex.ExecOptions{ResultFunc: func(q *sqlite.Stmt) error {
		row(q)
		return nil
	}})
}

func productOf(id int64) Producto {
	if p, ok := productos[id]; ok {
		return p
	}
	return Producto{"producto " + strconv.FormatInt(id, 10), "-"}
}

func (r *result) printLedger(w io.Writer) {
	if len(r.ledger) == 0 {
		return
	}
	cli.Title(w, "Ledger")
	t := cli.NewTable(w, "-file", "-status", "rows", "unreadable", "bytes", "attempts", "-finished", "seconds", "-now in", "-error")
	by := map[string]int{}
	for _, e := range r.ledger {
		by[e.Status]++
		when := "-"
		if !e.Finished.IsZero() {
			when = e.Finished.Format(time.DateTime)
		}
		t.Row(e.Name, e.Status, cli.Count(e.Rows), cli.Count(e.Rejected), cli.Count(e.Size), cli.Count(int64(e.Attempt)), when,
			strconv.FormatFloat(e.Duration().Seconds(), 'f', 3, 64), cmp.Or(e.MovedTo, "-"), e.Error)
	}
	t.Flush()
	cli.Title(w, "Ledger by status")
	t = cli.NewTable(w, "-", "")
	for _, status := range slices.Sorted(maps.Keys(by)) {
		t.Row(status, cli.Count(int64(by[status])))
	}
	t.Flush()
}

func (r *result) printFolders(w io.Writer) error {
	cli.Title(w, "Folders")
	t := cli.NewTable(w, "-", "files", "-")
	for _, dir := range r.all() {
		found, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		n := 0
		for _, f := range found {
			if f.Type().IsRegular() && !strings.HasPrefix(f.Name(), ".") {
				n++
			}
		}
		t.Row(filepath.Base(dir), cli.Count(int64(n)), dir)
	}
	t.Flush()

	cli.Title(w, "Outputs")
	t = cli.NewTable(w, "-", "-")
	t.Row("table ventas", r.database())
	files, err := parquetsink.Files(r.lake())
	if err != nil {
		return err
	}
	var rows, bytes int64
	for _, f := range files {
		rows += f.Rows
		bytes += f.Bytes
	}
	t.Row("Parquet lake", fmt.Sprintf("%s (%s files, %s rows, %s bytes)", r.lake(), cli.Count(int64(len(files))), cli.Count(rows), cli.Count(bytes)))
	t.Row("dead letters", r.deadLetters())
	t.Row("state", r.state())
	if r.log != "" {
		t.Row("log", r.log)
	}
	t.Flush()
	return nil
}
