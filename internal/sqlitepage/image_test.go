package sqlitepage

import (
	"io"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/leatgo/leat/internal/row"
)

type fila struct {
	ID    int64
	Text  string
	At    time.Time `leat:"at,time=2006-01-02 15:04:05"`
	Day   time.Time `leat:"day,time=2006-01-02"`
	When  time.Time
	Other time.Time `leat:"other,time=Jan _2 15:04:05.000"`
}

const create = "CREATE TABLE leat_rows (id INTEGER, text TEXT, at TEXT, day TEXT, \"when\" TEXT, other TEXT)"

func columns[T any](t testing.TB) []*row.Column {
	typ, err := row.Of[T]()
	require.NoError(t, err)
	out := make([]*row.Column, len(typ.Columns))
	for i := range out {
		out[i] = &typ.Columns[i]
	}
	return out
}

func newImage[T any](t testing.TB, create string, key int) *Image {
	m, err := New(create, columns[T](t), key, unsafe.Sizeof(*new(T)))
	require.NoError(t, err)
	t.Cleanup(m.Close)
	return m
}

func fill[T any](m *Image, rows []T) (int, bool) {
	return m.Fill(unsafe.Pointer(unsafe.SliceData(rows)), len(rows))
}

// attach opens a database that has the image attached as x.
func attach(t testing.TB, m *Image) *sqlite.Conn {
	conn, err := sqlite.OpenConn(filepath.Join(t.TempDir(), "v.db"), sqlite.OpenReadWrite, sqlite.OpenCreate, sqlite.OpenURI)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	require.NoError(t, m.Attach(conn, "x"))
	return conn
}

func ask(t testing.TB, conn *sqlite.Conn, query string) (rows [][]string) {
	require.NoError(t, sqlitex.ExecuteTransient(conn, query, &sqlitex.ExecOptions{ResultFunc: func(stmt *sqlite.Stmt) error {
		var r []string
		for i := range stmt.ColumnCount() {
			r = append(r, stmt.ColumnText(i))
		}
		rows = append(rows, r)
		return nil
	}}))
	return rows
}

// SQLite finds a sound database in whatever is filled in, and reads each page once.
func TestSoundDatabase(t *testing.T) {
	t.Parallel()
	m := newImage[fila](t, create, -1)
	for name, c := range map[string]struct{ rows, size int }{
		"one row": {1, 0}, "one leaf": {100, 10}, "two leaves": {1000, 10}, "many leaves": {2000, 1000},
		"a row a leaf": {20, 40_000}, "a leaf exactly": {1, 65_000},
	} {
		rows := make([]fila, c.rows)
		for i := range rows {
			rows[i] = fila{ID: int64(i), Text: strings.Repeat("x", c.size)}
		}
		n, fine := fill(m, rows)
		require.True(t, fine, name)
		require.Equal(t, c.rows, n, name)
		conn := attach(t, m)
		require.False(t, m.Seen())
		assert.Len(t, ask(t, conn, "SELECT id, text, at FROM x.leat_rows"), c.rows, name)
		assert.True(t, m.Seen(), name)
		assert.NotContains(t, ask(t, conn, "PRAGMA x.integrity_check")[0][0], "Tree", name)
		assert.Len(t, ask(t, conn, "SELECT 1 FROM x.leat_rows WHERE rowid = "+ask(t, conn, "SELECT max(rowid) FROM x.leat_rows")[0][0]), 1, name)
	}
}

// What SQLite had in its cache is not what is here now, and what it reads twice may have
// been something else the first time.
func TestSeen(t *testing.T) {
	t.Parallel()
	m := newImage[fila](t, create, -1)
	f := &file{image: m}
	read := func(pages ...int64) {
		for _, i := range pages {
			_, err := f.Seek(i*pageSize, io.SeekStart)
			require.NoError(t, err)
			_, err = io.ReadFull(f, make([]byte, pageSize))
			require.NoError(t, err)
		}
	}
	for _, c := range []struct {
		rows  int
		pages []int64
		want  bool
	}{
		{1, nil, false}, {1, []int64{1}, true}, {1, []int64{0, 1}, true}, {1, []int64{1, 1}, false}, {1, []int64{0}, false},
		{3, []int64{1, 2, 3, 4}, true}, {3, []int64{1, 2, 3}, false}, {3, []int64{2, 3, 4}, false}, {3, []int64{1, 2, 3, 3}, false},
	} {
		rows := make([]fila, c.rows)
		for i := range rows {
			rows[i].Text = strings.Repeat("x", 60_000)
		}
		_, fine := fill(m, rows)
		require.True(t, fine)
		read(c.pages...)
		assert.Equal(t, c.want, m.Seen(), c)
	}
	_, err := f.Seek(maxPages*pageSize, io.SeekStart)
	require.NoError(t, err)
	_, err = f.Read(make([]byte, 1))
	assert.Equal(t, io.EOF, err)
}

// A full image takes what there is room for, and the next one goes on from there.
func TestFull(t *testing.T) {
	t.Parallel()
	m := newImage[fila](t, create, -1)
	rows := make([]fila, 200)
	for i := range rows {
		rows[i] = fila{ID: int64(i), Text: strings.Repeat("x", 40_000)}
	}
	n, fine := fill(m, rows)
	require.True(t, fine)
	require.Equal(t, maxPages-firstLeaf, n)
	conn := attach(t, m)
	assert.Len(t, ask(t, conn, "SELECT text FROM x.leat_rows"), n)
	assert.True(t, m.Seen())
}

// A time has the text that the column gives it, which the long way writes.
func TestTimes(t *testing.T) {
	t.Parallel()
	m := newImage[fila](t, create, -1)
	cols := columns[fila](t)
	var rows []fila
	for _, at := range []time.Time{
		{}, time.Unix(0, 0), time.Unix(-1, 0), time.Unix(-1, 999_999_999), time.Unix(86_399, 1), time.Unix(86_400, 10),
		time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC),
		time.Date(2024, 2, 29, 12, 0, 0, 120_000_000, time.FixedZone("", -13*3600)), time.Date(1900, 3, 1, 0, 0, 0, 5, time.FixedZone("", 13*3600)), time.Now(),
	} {
		rows = append(rows, fila{At: at, Day: at, When: at, Other: at})
	}
	n, fine := fill(m, rows)
	require.True(t, fine)
	require.Equal(t, len(rows), n)
	for i, got := range ask(t, attach(t, m), `SELECT at, day, "when", other FROM x.leat_rows`) {
		var want []string
		for _, c := range cols[2:] {
			want = append(want, string(c.AppendTime(nil, rows[i].At)))
		}
		assert.Equal(t, want, got)
	}
	for _, at := range []time.Time{time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(-1, 12, 31, 23, 59, 59, 999_999_999, time.UTC), time.Unix(math.MaxInt64, 0), time.Unix(math.MinInt64, 0)} {
		for i, r := range []fila{{At: at}, {Day: at}, {When: at}, {Other: at}} {
			_, fine := fill(m, []fila{{}, r})
			assert.False(t, fine, "%v, %d", at, i)
		}
	}
}

func TestKeysAscend(t *testing.T) {
	t.Parallel()
	type par struct{ A, ID int32 }
	m := newImage[par](t, "CREATE TABLE leat_rows (a INTEGER NOT NULL, id INTEGER PRIMARY KEY)", 1)
	for _, c := range []struct {
		ids  []int32
		want bool
	}{
		{[]int32{5}, true}, {[]int32{-3, -2, 0, 7, 1 << 30}, true}, {[]int32{math.MinInt32, math.MaxInt32}, true},
		{[]int32{1, 1}, false}, {[]int32{2, 1}, false}, {[]int32{0, -1}, false},
	} {
		rows := make([]par, len(c.ids))
		for i, id := range c.ids {
			rows[i] = par{int32(i), id}
		}
		_, fine := fill(m, rows)
		assert.Equal(t, c.want, fine, c.ids)
		if fine {
			assert.Len(t, ask(t, attach(t, m), "SELECT id FROM x.leat_rows"), len(c.ids))
		}
	}
	rows := make([]par, 50_000) // also from leaf to leaf
	for i := range rows {
		rows[i].ID = int32(i)
	}
	_, fine := fill(m, rows)
	assert.True(t, fine)
	rows[49_999].ID = 3
	_, fine = fill(m, rows)
	assert.False(t, fine)
}

func TestNoImage(t *testing.T) {
	t.Parallel()
	type lista struct{ L []int }
	type nula struct{ ID *int64 }
	type texto struct{ S string }
	for name, err := range map[string]error{
		"no columns":       second(New(create, nil, -1, 8)),
		"no SQL type":      second(New(create, columns[lista](t), -1, 24)),
		"a key with NULL":  second(New(create, columns[nula](t), 0, 8)),
		"a key of text":    second(New(create, columns[texto](t), 0, 16)),
		"no such SQL":      second(New("CREATE", columns[texto](t), -1, 16)),
		"two tables":       second(New("CREATE TABLE leat_rows (s TEXT UNIQUE)", columns[texto](t), -1, 16)),
		"too many columns": second(New(create, make([]*row.Column, maxColumns+1), -1, 16)),
	} {
		assert.Error(t, err, name)
	}
}

func second(_ *Image, err error) error { return err }

func TestVarint(t *testing.T) {
	t.Parallel()
	for shift := range 64 {
		for _, v := range []uint64{1 << shift, 1<<shift - 1, 1<<shift | 1, math.MaxUint64 >> shift} {
			var p page
			at := putVarint(&p, 20, v)
			got, n := uint64(0), 0
			for n < 8 && p[at+n]&0x80 != 0 {
				got = got<<7 | uint64(p[at+n]&0x7f)
				n++
			}
			if n == 8 {
				got = got<<8 | uint64(p[at+n])
			} else {
				got = got<<7 | uint64(p[at+n])
			}
			require.Equal(t, v, got)
			require.Equal(t, 20, at+n+1, "%x", v)
		}
	}
}

type doce struct {
	A, B, C, D int64
	E, F       float64
	G          time.Time `leat:"g,time=2006-01-02 15:04:05"`
	H, I       string
	J          int64
	K          string
	L          float64
}

func doces(n int) []doce {
	rows := make([]doce, n)
	at := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	for j := range rows {
		p := float64(j*37%50000)/100 + 1
		rows[j] = doce{int64(j), int64(j*7919%50000 + 1), int64(j%977 + 1), int64(j%5 + 1), p, p * float64(j%5+1), at.Add(time.Duration(j) * 20 * time.Second),
			"transferencia", "completada", 2025, "2025-01", p}
	}
	return rows
}

const createDoce = "CREATE TABLE leat_rows (a, b, c, d, e, f, g, h, i, j, k, l)"

// A1: nothing is allocated once the pages are there.
func TestAllocs(t *testing.T) {
	m, rows := newImage[doce](t, createDoce, -1), doces(5000)
	assert.Zero(t, testing.AllocsPerRun(5, func() {
		if _, fine := fill(m, rows); !fine {
			t.Error("not filled")
		}
	}))
}

func BenchmarkFill(b *testing.B) {
	m, rows := newImage[doce](b, createDoce, -1), doces(5000)
	for b.Loop() {
		fill(m, rows)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(rows)), "ns/row")
}

type largo int

func (l largo) MarshalText() ([]byte, error) { return make([]byte, l), nil }

// A text that no leaf can hold leaves nothing of its size behind.
func TestLongTextIsNotKept(t *testing.T) {
	t.Parallel()
	type fila struct{ L largo }
	m := newImage[fila](t, "CREATE TABLE leat_rows (l TEXT NOT NULL)", -1)
	for _, n := range []largo{60_000, pageSize, pageSize + 1, 10 << 20} {
		_, fine := fill(m, []fila{{1}, {n}})
		assert.Equal(t, n < pageSize, fine, n)
		assert.LessOrEqual(t, cap(m.text), 4*pageSize, n)
	}
}
