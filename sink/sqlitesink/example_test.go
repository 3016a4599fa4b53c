package sqlitesink_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/shopspring/decimal"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/sink/sqlitesink"
)

// Sales are loaded into a table that is made from the row type. Running the
// same rows again adds none: the database knows how far it has come.
func ExampleNew() {
	type Venta struct {
		ID     int64           `leat:"venta_id,key"`
		Fecha  time.Time       `leat:"fecha,time=2006-01-02"`
		Precio decimal.Decimal `leat:"precio"` // TEXT, every digit kept
		Nota   *string         `leat:"nota"`   // may be NULL
	}
	day := time.Date(2025, 3, 1, 0, 0, 0, 0, time.UTC)
	rows := []Venta{
		{ID: 1, Fecha: day, Precio: decimal.RequireFromString("1999.99")},
		{ID: 2, Fecha: day.AddDate(0, 0, 1), Precio: decimal.RequireFromString("0.30")},
	}
	dir, err := os.MkdirTemp("", "leat")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	database := filepath.Join(dir, "ventas.db")

	for range 2 {
		p := leat.New("ventas", leat.Config{StateDir: filepath.Join(dir, "state")})
		leat.To(leat.From(p, leattest.Rows(rows...)),
			sqlitesink.New(sqlitesink.Config[Venta]{Path: database, Table: "ventas"}))
		if err := p.Run(context.Background()); err != nil {
			fmt.Println(err)
			return
		}
	}

	conn, err := sqlite.OpenConn(database, sqlite.OpenReadOnly)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()
	err = sqlitex.ExecuteTransient(conn, "SELECT venta_id, fecha, precio FROM ventas ORDER BY venta_id", &sqlitex.ExecOptions{
		ResultFunc: func(stmt *sqlite.Stmt) error {
			fmt.Println(stmt.ColumnInt64(0), stmt.ColumnText(1), stmt.ColumnText(2))
			return nil
		},
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// 1 2025-03-01 1999.99
	// 2 2025-03-02 0.3
}
