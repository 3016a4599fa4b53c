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
	"unicode/utf8"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/leatgo/leat"
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
		fmt.Fprintf(w, "Generated %d files of %s rows in %s.\n", r.made, count(int64(r.rows)), r.incoming)
	}
	switch {
	case r.interrupted:
		fmt.Fprintln(w, "Stopped by a signal: what was read is loaded. The same command goes on from here.")
	case s.In > 0 || s.Files+r.files.Skipped > 0:
		fmt.Fprintf(w, "Done: %d files, %s rows in %.2f s, %s rows/s.\n", s.Files, count(s.In), s.Seconds, count(int64(s.RowsPerS)))
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
	title(w, "Rows")
	t := newTable(w, "-", "this run", "in all")
	t.row("rows in", count(s.In), count(total.In))
	t.row("loaded", count(s.Loaded), count(total.Loaded))
	t.row("rejected", count(s.Rejected), count(total.Rejected))
	t.flush()

	if len(r.stats.Rejected) == 0 {
		return
	}
	title(w, "Rejected by reason")
	t = newTable(w, "-class", "-column", "-rule", "this run", "in all")
	for _, why := range slices.Sorted(maps.Keys(r.stats.Rejected)) {
		class, rest, _ := strings.Cut(why, "/")
		column, rule, _ := strings.Cut(rest, "/")
		t.row(class, column, rule, count(s.RejectedBy[why]), count(r.stats.Rejected[why]))
	}
	t.flush()
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
	title(w, "Last 20 rows by date")
	t := newTable(w, "-fecha_venta", "venta_id", "cliente_id", "-producto", "cantidad", "precio_unitario", "total", "-metodo_pago", "-estado")
	err = each(db, `SELECT fecha_venta, venta_id, cliente_id, producto_id, cantidad, precio_unitario, total, metodo_pago, estado
		FROM ventas ORDER BY fecha_venta DESC, rowid DESC LIMIT 20`, func(q *sqlite.Stmt) {
		t.row(q.ColumnText(0), q.ColumnText(1), q.ColumnText(2), productOf(q.ColumnInt64(3)).Nombre, q.ColumnText(4),
			money(q.ColumnFloat(5)), money(q.ColumnFloat(6)), q.ColumnText(7), q.ColumnText(8))
	})
	if err != nil {
		return err
	}
	t.flush()

	title(w, "Sales by product")
	t = newTable(w, "-producto", "-categoria", "sales", "units", "mean price", "revenue")
	n := 0
	err = each(db, `SELECT producto_id, count(*), sum(cantidad), avg(precio_unitario), sum(total) AS revenue
		FROM ventas GROUP BY producto_id ORDER BY revenue DESC, producto_id`, func(q *sqlite.Stmt) {
		if n++; n > 20 {
			return
		}
		p := productOf(q.ColumnInt64(0))
		t.row(p.Nombre, p.Categoria, count(q.ColumnInt64(1)), count(q.ColumnInt64(2)), money(q.ColumnFloat(3)), money(q.ColumnFloat(4)))
	})
	if err != nil {
		return err
	}
	t.flush()
	if n > 20 {
		fmt.Fprintf(w, "  and %s products more\n", count(int64(n-20)))
	}

	s, err := readSums(r.sums())
	if err != nil {
		return err
	}
	title(w, "Metrics per file and of the whole table")
	t = newTable(w, "-file", "rows", "sum of total", "mean ticket", "distinct customers")
	for _, f := range s.Archivos {
		t.row(f.Archivo, count(f.Filas), money(f.Total), money(f.Total/float64(f.Filas)), count(int64(f.Clientes)))
	}
	err = each(db, `SELECT count(*), coalesce(sum(total), 0), coalesce(avg(total), 0), count(DISTINCT cliente_id) FROM ventas`, func(q *sqlite.Stmt) {
		t.row("all", count(q.ColumnInt64(0)), money(q.ColumnFloat(1)), money(q.ColumnFloat(2)), count(q.ColumnInt64(3)))
	})
	t.flush()
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
	title(w, "Ledger")
	t := newTable(w, "-file", "-status", "rows", "unreadable", "bytes", "attempts", "-finished", "seconds", "-now in", "-error")
	by := map[string]int{}
	for _, e := range r.ledger {
		by[e.Status]++
		when := "-"
		if !e.Finished.IsZero() {
			when = e.Finished.Format(time.DateTime)
		}
		t.row(e.Name, e.Status, count(e.Rows), count(e.Rejected), count(e.Size), count(int64(e.Attempt)), when,
			strconv.FormatFloat(e.Duration().Seconds(), 'f', 3, 64), cmp.Or(e.MovedTo, "-"), e.Error)
	}
	t.flush()
	title(w, "Ledger by status")
	t = newTable(w, "-", "")
	for _, status := range slices.Sorted(maps.Keys(by)) {
		t.row(status, count(int64(by[status])))
	}
	t.flush()
}

func (r *result) printFolders(w io.Writer) error {
	title(w, "Folders")
	t := newTable(w, "-", "files", "-")
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
		t.row(filepath.Base(dir), count(int64(n)), dir)
	}
	t.flush()

	title(w, "Outputs")
	t = newTable(w, "-", "-")
	t.row("table ventas", r.database())
	files, err := parquetsink.Files(r.lake())
	if err != nil {
		return err
	}
	var rows, bytes int64
	for _, f := range files {
		rows += f.Rows
		bytes += f.Bytes
	}
	t.row("Parquet lake", fmt.Sprintf("%s (%s files, %s rows, %s bytes)", r.lake(), count(int64(len(files))), count(rows), count(bytes)))
	t.row("dead letters", r.deadLetters())
	t.row("state", r.state())
	if r.log != "" {
		t.row("log", r.log)
	}
	t.flush()
	return nil
}

func title(w io.Writer, s string) { fmt.Fprintf(w, "\n%s\n", s) }

// table aligns its columns: text to the left, numbers to the right, which
// text/tabwriter can do for all columns or none.
type table struct {
	w     io.Writer
	left  []bool
	width []int
	rows  [][]string
}

// newTable begins with the titles of the columns. A - marks a column of text;
// without any title there is no line of titles.
func newTable(w io.Writer, titles ...string) *table {
	t := &table{w: w, left: make([]bool, len(titles)), width: make([]int, len(titles))}
	for i, s := range titles {
		titles[i], t.left[i] = strings.CutPrefix(s, "-")
	}
	if strings.Join(titles, "") != "" {
		t.row(titles...)
	}
	return t
}

func (t *table) row(cells ...string) {
	for i, c := range cells {
		t.width[i] = max(t.width[i], utf8.RuneCountInString(c))
	}
	t.rows = append(t.rows, cells)
}

func (t *table) flush() {
	var b strings.Builder
	for _, cells := range t.rows {
		b.Reset()
		for i, c := range cells {
			pad := strings.Repeat(" ", t.width[i]-utf8.RuneCountInString(c))
			if t.left[i] {
				b.WriteString("  " + c + pad)
			} else {
				b.WriteString("  " + pad + c)
			}
		}
		fmt.Fprintln(t.w, strings.TrimRight(b.String(), " "))
	}
}

// count writes 1234567 as 1,234,567.
func count(n int64) string { return groups(strconv.FormatInt(n, 10)) }

// money writes two decimals.
func money(f float64) string {
	whole, cents, _ := strings.Cut(strconv.FormatFloat(f, 'f', 2, 64), ".")
	return groups(whole) + "." + cents
}

func groups(digits string) string {
	digits, minus := strings.CutPrefix(digits, "-")
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	if minus {
		return "-" + digits
	}
	return digits
}
