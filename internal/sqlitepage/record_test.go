package sqlitepage

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/leatgo/leat/internal/row"
)

// sameRecords lets SQLite copy the records of the image, and write its own from their
// values: the pages must be equal. They must fit into one of 64 KiB.
func sameRecords(t testing.TB, m *Image, defs string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "v.db")
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite, sqlite.OpenCreate, sqlite.OpenURI)
	require.NoError(t, err)
	require.NoError(t, m.Attach(conn, "x"))
	for _, q := range []string{
		fmt.Sprintf("PRAGMA page_size=%d", pageSize), "CREATE TABLE a " + defs, "CREATE TABLE b " + defs,
		"INSERT INTO a SELECT * FROM x." + Table,
		"INSERT INTO b SELECT * FROM x." + Table + " WHERE true", // which is no longer a transfer
	} {
		require.NoError(t, sqlitex.ExecuteTransient(conn, q, nil), q)
	}
	require.NoError(t, conn.Close())
	file, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Len(t, file, 3*pageSize)
	// In a new page, SQLite lays cells from the end, as is done here.
	require.True(t, string(file[pageSize:2*pageSize]) == string(file[2*pageSize:]), "the records differ")
}

type numeros struct {
	I8  int8
	I16 int16
	I32 int32
	I   int64
	U8  uint8
	U16 uint16
	U32 uint32
	U   uint64
	B   bool
	F32 float32
	F   float64
}

const defsNumeros = "(i8 INTEGER, i16 INTEGER, i32 INTEGER, i INTEGER, u8 INTEGER, u16 INTEGER, u32 INTEGER, u INTEGER, b INTEGER, f32 REAL, f REAL)"

func TestNumbers(t *testing.T) {
	t.Parallel()
	m := newImage[numeros](t, "CREATE TABLE leat_rows "+defsNumeros, -1)
	var rows []numeros
	var want [][]string
	add := func(r numeros) {
		rows = append(rows, r)
		b := "0"
		if r.B {
			b = "1"
		}
		want = append(want, []string{fmt.Sprint(r.I8), fmt.Sprint(r.I16), fmt.Sprint(r.I32), fmt.Sprint(r.I), fmt.Sprint(r.U8), fmt.Sprint(r.U16), fmt.Sprint(r.U32), fmt.Sprint(r.U), b})
	}
	for shift := range 64 {
		for _, v := range []int64{1<<shift - 1, 1 << shift, -1 << shift, -1<<shift - 1} {
			f := float64(v)
			add(numeros{int8(v), int16(v), int32(v), v, uint8(v), uint16(v), uint32(v), uint64(v) &^ (1 << 63), v < 0, float32(f), f})
			add(numeros{F: f + 0.5, F32: float32(f) / 3})
		}
	}
	for _, f := range []float64{math.Copysign(0, -1), math.Inf(1), math.Inf(-1), math.MaxFloat64, math.SmallestNonzeroFloat64} {
		add(numeros{F: f, F32: float32(f)})
	}
	_, fine := fill(m, rows)
	require.True(t, fine)
	assert.Equal(t, want, ask(t, attach(t, m), "SELECT i8, i16, i32, i, u8, u16, u32, u, b FROM x.leat_rows"))
	sameRecords(t, m, defsNumeros)

	for _, r := range []numeros{{F: math.NaN()}, {F32: float32(math.NaN())}, {U: 1 << 63}} {
		_, fine := fill(m, []numeros{{}, r})
		assert.False(t, fine, "%+v", r)
	}
}

// The header of a record counts itself, in one byte or two.
func TestManyColumns(t *testing.T) {
	t.Parallel()
	type uno struct{ S string }
	for _, n := range []int{1, 2, 63, 64, 125, 126, 127, 128, 129, 1000, maxColumns} {
		cols := make([]*row.Column, n) // n times the same
		defs := make([]string, n)
		for i := range cols {
			cols[i], defs[i] = columns[uno](t)[0], fmt.Sprintf("c%d TEXT", i)
		}
		def := "(" + strings.Join(defs, ", ") + ")"
		m, err := New("CREATE TABLE leat_rows "+def, cols, -1, unsafe.Sizeof(uno{}))
		require.NoError(t, err)
		for _, size := range []int{0, 10, 57, 58} {
			if n*size > 30_000 {
				continue
			}
			rows := []uno{{strings.Repeat("x", size)}}
			_, fine := fill(m, rows)
			require.True(t, fine)
			assert.Equal(t, [][]string{{rows[0].S, rows[0].S}}, ask(t, attach(t, m), fmt.Sprintf("SELECT c0, c%d FROM x.leat_rows", n-1)), "%d columns", n)
			sameRecords(t, m, def)
		}
		m.Close()
	}
}
