package sqlitesink

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/sqlitepage"
)

// short tells whether batches went the short way since it was last asked.
func short[T any](s *Sink[T]) bool {
	some := s.bulk.batches > 0
	s.bulk.batches = 0
	return some
}

// openLong is open of a sink that writes row by row: the oracle.
func openLong[T any](t testing.TB, c Config[T]) *Sink[T] {
	s := open(t, c)
	s.bulk.broken = true
	return s
}

type forma struct {
	ID     int64
	Nombre string
	Precio float64
	Nota   *string
}

func formas(from, n int) []forma {
	rows := make([]forma, n)
	for i := range rows {
		note := fmt.Sprint("nota ", from+i)
		rows[i] = forma{int64(from + i), fmt.Sprint("n", from+i), float64(from+i) / 4, &note}
	}
	return rows
}

// It is SQLite that decides which tables are plain enough; either way, the table holds
// what row by row puts there.
func TestShapes(t *testing.T) {
	t.Parallel()
	const plain = "CREATE TABLE ventas (id INTEGER, nombre TEXT, precio REAL, nota TEXT)"
	for name, c := range map[string]struct {
		setup []string
		short bool
	}{
		"leat's own":                         {nil, true},
		"plain":                              {[]string{plain}, true},
		"another order":                      {[]string{"CREATE TABLE ventas (nota TEXT, precio REAL, id INTEGER, nombre TEXT)"}, true},
		"other words for the types":          {[]string{"CREATE TABLE ventas (id BIGINT NOT NULL, nombre VARCHAR(20), precio DOUBLE, nota CLOB)"}, true},
		"names in capitals":                  {[]string{"CREATE TABLE Ventas (ID INTEGER, NOMBRE TEXT, PRECIO REAL, NOTA TEXT)"}, true},
		"INTEGER PRIMARY KEY":                {[]string{"CREATE TABLE ventas (id INTEGER PRIMARY KEY, nombre TEXT, precio REAL, nota TEXT)"}, true},
		"the key is the last column":         {[]string{"CREATE TABLE ventas (nombre TEXT, precio REAL, nota TEXT, id INTEGER, PRIMARY KEY (id))"}, true},
		"a key that replaces":                {[]string{"CREATE TABLE ventas (id INTEGER PRIMARY KEY ON CONFLICT REPLACE, nombre TEXT, precio REAL, nota TEXT)"}, true},
		"a foreign key that nobody checks":   {[]string{"CREATE TABLE p (a TEXT)", "CREATE TABLE ventas (id INTEGER, nombre TEXT REFERENCES p (a), precio REAL, nota TEXT)"}, true},
		"a column was added":                 {[]string{"CREATE TABLE ventas (id INTEGER, nombre TEXT, precio REAL)", "ALTER TABLE ventas ADD COLUMN nota TEXT"}, true},
		"AUTOINCREMENT":                      {[]string{"CREATE TABLE ventas (id INTEGER PRIMARY KEY AUTOINCREMENT, nombre TEXT, precio REAL, nota TEXT)"}, false},
		"INT PRIMARY KEY":                    {[]string{"CREATE TABLE ventas (id INT PRIMARY KEY, nombre TEXT, precio REAL, nota TEXT)"}, false},
		"INTEGER PRIMARY KEY DESC":           {[]string{"CREATE TABLE ventas (id INTEGER PRIMARY KEY DESC, nombre TEXT, precio REAL, nota TEXT)"}, false},
		"a key that is no number":            {[]string{"CREATE TABLE ventas (id INTEGER, nombre TEXT PRIMARY KEY, precio REAL, nota TEXT)"}, false},
		"a key of two columns":               {[]string{"CREATE TABLE ventas (id INTEGER, nombre TEXT, precio REAL, nota TEXT, PRIMARY KEY (id, nombre))"}, false},
		"WITHOUT ROWID":                      {[]string{"CREATE TABLE ventas (id INTEGER PRIMARY KEY, nombre TEXT, precio REAL, nota TEXT) WITHOUT ROWID"}, false},
		"STRICT":                             {[]string{plain + " STRICT"}, false},
		"CHECK":                              {[]string{"CREATE TABLE ventas (id INTEGER CHECK (id >= 0), nombre TEXT, precio REAL, nota TEXT)"}, false},
		"UNIQUE":                             {[]string{"CREATE TABLE ventas (id INTEGER UNIQUE, nombre TEXT, precio REAL, nota TEXT)"}, false},
		"NOT NULL where the row may":         {[]string{"CREATE TABLE ventas (id INTEGER, nombre TEXT, precio REAL, nota TEXT NOT NULL)"}, false},
		"a default":                          {[]string{"CREATE TABLE ventas (id INTEGER, nombre TEXT DEFAULT 'x', precio REAL, nota TEXT)"}, false},
		"a collation":                        {[]string{"CREATE TABLE ventas (id INTEGER, nombre TEXT COLLATE NOCASE, precio REAL, nota TEXT)"}, false},
		"another affinity":                   {[]string{"CREATE TABLE ventas (id INTEGER, nombre TEXT, precio NUMERIC, nota TEXT)"}, false},
		"integers in a TEXT column":          {[]string{"CREATE TABLE ventas (id TEXT, nombre TEXT, precio REAL, nota TEXT)"}, false},
		"no types":                           {[]string{"CREATE TABLE ventas (id, nombre, precio, nota)"}, false},
		"a column more":                      {[]string{"CREATE TABLE ventas (id INTEGER, nombre TEXT, precio REAL, nota TEXT, mas TEXT)"}, false},
		"a generated column":                 {[]string{"CREATE TABLE ventas (id INTEGER, nombre TEXT, precio REAL, nota TEXT, doble AS (id * 2))"}, false},
		"a stored one":                       {[]string{"CREATE TABLE ventas (id INTEGER, nombre TEXT, precio REAL, nota TEXT, doble AS (id * 2) STORED)"}, false},
		"an index":                           {[]string{plain, "CREATE INDEX i ON ventas (nombre)"}, false},
		"an index of some rows":              {[]string{plain, "CREATE INDEX i ON ventas (nombre) WHERE id > 50"}, false},
		"a trigger":                          {[]string{plain, "CREATE TABLE log (a)", "CREATE TRIGGER tr AFTER INSERT ON ventas BEGIN INSERT INTO log VALUES (new.id); END"}, false},
		"UTF-16":                             {[]string{"PRAGMA encoding = 'UTF-16le'", plain}, false},
		"the name of the table in the image": {[]string{plain, "CREATE TABLE leat_rows (a)"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			write := func(open func(testing.TB, Config[forma]) *Sink[forma], want bool) (path string) {
				path = dbPath(t)
				run(t, path, c.setup...)
				s := open(t, Config[forma]{Path: path})
				for i := range 3 {
					require.NoError(t, s.write(t.Context(), formas(100*i, 100)))
					require.Equal(t, want, short(s), "%s", s.bulk.slow)
					commit(t, s, upTo(int64(i+1)))
				}
				require.Equal(t, [][]string{{"text ok"}}, ask(t, path, "PRAGMA integrity_check"))
				return path
			}
			got, want := write(open[forma], c.short), write(openLong[forma], false)
			for _, q := range []string{"SELECT * FROM ventas ORDER BY id", "SELECT name, sql FROM sqlite_schema ORDER BY 1"} {
				require.Equal(t, ask(t, want, q), ask(t, got, q))
			}
			require.Equal(t, "int 300", count(t, got, "ventas"))
			if c.setup != nil && strings.Contains(strings.Join(c.setup, ""), "TABLE log") {
				require.Equal(t, "int 300", count(t, got, "log"))
			}
		})
	}
}

// texts are those that may go wrong.
var texts = []string{"", "a", "hola\x00mundo", "\xff\xfe no UTF-8", "ñandú", strings.Repeat("x", 56), strings.Repeat("x", 57), strings.Repeat("x", 58),
	strings.Repeat("y", 8184), strings.Repeat("y", 8185), strings.Repeat("y", 8186), "12", "1.5"}

var integers = []int64{0, 1, 2, -1, 127, 128, -128, -129, 255, 32767, 32768, -32768, -32769, 1<<23 - 1, 1 << 23, -1 << 23, -1<<23 - 1,
	1<<31 - 1, 1 << 31, -1 << 31, -1<<31 - 1, 1<<47 - 1, 1 << 47, -1 << 47, -1<<47 - 1, 1<<53 + 1, 1<<55 - 1, 1 << 55, 1 << 56, math.MaxInt64, math.MinInt64}

var times = []time.Time{{}, time.Unix(0, 0), time.Unix(-1, 999999999), time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC),
	time.Date(2024, 2, 29, 23, 59, 59, 120000000, time.FixedZone("", -7200)), time.Date(2025, 3, 1, 0, 0, 0, 1000, time.UTC), time.Date(1582, 10, 15, 12, 0, 0, 0, time.UTC)}

// anyTodo gives a row of anything; n bounds its texts, as a whole it may be about twice as long.
func anyTodo(r *rand.Rand, n int) (v todo) {
	text := func() string {
		switch r.IntN(4) {
		case 0:
			return texts[r.IntN(len(texts))]
		case 1:
			b := make([]byte, r.IntN(n+1))
			for i := range b {
				b[i] = byte(r.Uint32())
			}
			return string(b)
		}
		return strings.Repeat("z", r.IntN(100))
	}
	integer := func() int64 {
		if r.IntN(2) == 0 {
			return integers[r.IntN(len(integers))]
		}
		return r.Int64() >> r.IntN(64) * (1 - 2*r.Int64N(2))
	}
	float := func() float64 {
		switch f := math.Float64frombits(r.Uint64()); {
		case r.IntN(2) == 0:
			return float64(integer())
		case r.IntN(8) == 0:
			return []float64{math.Copysign(0, -1), math.Inf(1), math.Inf(-1), 0.5, 1 << 47, -1 << 47, 1<<47 - 1, math.MaxFloat64, math.SmallestNonzeroFloat64}[r.IntN(9)]
		case !math.IsNaN(f):
			return f
		}
		return 1.5
	}
	at := func() time.Time {
		if r.IntN(2) == 0 {
			return times[r.IntN(len(times))]
		}
		return time.Unix(r.Int64N(200_000_000_000)-50_000_000_000, r.Int64N(1_000_000_000))
	}
	v = todo{B: r.IntN(2) == 0, I8: int8(integer()), I: integer(), U8: uint8(integer()), U: uint64(integer()) >> 1, F32: float32(float()), F: float(),
		S: text(), T: at(), D: at(), Dur: time.Duration(integer()), By: []byte(text()), Dec: decimal.New(integer(), -3), G: grita(text())}
	if r.IntN(2) == 0 {
		s, b, when, dec := text(), []byte(text()), at(), decimal.New(integer(), 2)
		v.PS, v.PBy, v.PT, v.PDec = &s, &b, &when, &dec
		v.NI, v.NS = sql.Null[int64]{V: integer(), Valid: true}, sql.NullString{String: text(), Valid: r.IntN(2) == 0}
	}
	return v
}

// dump is all there is to know of the rows.
func dump(t testing.TB, path string) [][]string {
	return ask(t, path, `SELECT rowid, *, typeof(b), typeof(f32), typeof(f), hex(s), hex(by), hex(g), hex(ps), length(s) FROM ventas`)
}

// samePages compares all pages but those that hold the time of day: the first, and that
// of the positions.
func samePages(t testing.TB, a, b string) {
	t.Helper()
	read := func(path string) []byte {
		run(t, path, "PRAGMA wal_checkpoint(TRUNCATE)")
		file, err := os.ReadFile(path)
		require.NoError(t, err)
		size := int(binary.BigEndian.Uint16(file[16:]))
		var root int
		_, err = fmt.Sscanf(ask(t, path, "SELECT rootpage FROM sqlite_schema WHERE name = 'leat_positions'")[0][0], "int %d", &root)
		require.NoError(t, err)
		clear(file[:100])
		clear(file[(root-1)*size : root*size])
		return file
	}
	x, y := read(a), read(b)
	require.Len(t, x, len(y))
	// require.Equal would print megabytes.
	require.True(t, bytes.Equal(x, y), "the pages differ")
}

// FuzzPages writes the same rows both ways: the databases must hold the same bytes.
//
//fuzz:slow
func FuzzPages(f *testing.F) {
	f.Add(uint64(1), uint16(40), uint16(0))
	f.Add(uint64(2), uint16(500), uint16(200))
	f.Add(uint64(3), uint16(60), uint16(40000))
	f.Add(uint64(4), uint16(300), uint16(30000))
	f.Fuzz(func(t *testing.T, seed uint64, n, size uint16) {
		r := rand.New(rand.NewPCG(seed, 0))
		rows := make([]todo, bulkFrom+int(n)%1000)
		for i := range rows {
			rows[i] = anyTodo(r, int(size))
		}
		got, want := dbPath(t), dbPath(t)
		for path, open := range map[string]func(testing.TB, Config[todo]) *Sink[todo]{got: open[todo], want: openLong[todo]} {
			s := open(t, Config[todo]{Path: path})
			require.NoError(t, s.write(t.Context(), rows))
			require.NoError(t, s.write(t.Context(), rows[:bulkFrom]))
			commit(t, s, upTo(1))
			require.NoError(t, s.Close())
		}
		require.Equal(t, dump(t, want), dump(t, got))
		require.Equal(t, [][]string{{"text ok"}}, ask(t, got, "PRAGMA integrity_check"))
		samePages(t, want, got)
	})
}

// What SQLite stores of a value is the same to the bit, whichever way it came.
func TestSameBytes(t *testing.T) {
	t.Parallel()
	var rows []todo
	add := func(change func(*todo)) {
		var v todo
		change(&v)
		rows = append(rows, v)
	}
	for _, v := range integers {
		add(func(r *todo) {
			r.I, r.F, r.I8, r.U8, r.Dur = v, float64(v), int8(v), uint8(v), time.Duration(v)
			r.U, r.F32, r.NI = uint64(max(v, 0)), float32(v), sql.Null[int64]{V: v, Valid: true}
		})
	}
	for _, v := range []float64{0, math.Copysign(0, -1), 1, -1, 0.5, math.Inf(1), math.Inf(-1), 1e300, math.SmallestNonzeroFloat64, 1<<47 - 0.5, -1<<47 - 1, 1 << 62, 1 << 63, -1 << 63} {
		add(func(r *todo) { r.F, r.F32 = v, float32(v) })
	}
	for _, v := range texts {
		add(func(r *todo) {
			r.S, r.By, r.G, r.PS, r.NS = v, []byte(v), grita(v), &v, sql.NullString{Valid: true, String: v}
		})
	}
	for _, v := range times {
		add(func(r *todo) { r.T, r.D, r.PT = v, v, &v })
	}
	got, want := dbPath(t), dbPath(t)
	s, long := open(t, Config[todo]{Path: got}), openLong(t, Config[todo]{Path: want})
	for range 3 {
		for _, s := range []*Sink[todo]{s, long} {
			require.NoError(t, s.write(t.Context(), rows))
		}
		require.True(t, short(s), s.bulk.slow)
	}
	commit(t, s, upTo(1))
	commit(t, long, upTo(1))
	require.NoError(t, s.Close())
	require.NoError(t, long.Close())
	require.Equal(t, dump(t, want), dump(t, got))
	samePages(t, want, got)
}

// A database of an older SQLite has no types for 0 and 1: the short way would write
// what its format does not allow. VACUUM brings it up to date.
func TestOldFileFormat(t *testing.T) {
	t.Parallel()
	type bits struct {
		A int64
		B bool
	}
	rows := make([]bits, 1000)
	for i := range rows {
		rows[i] = bits{int64(i % 3), i%2 == 0}
	}
	write := func(open func(testing.TB, Config[bits]) *Sink[bits]) string {
		path := dbPath(t)
		run(t, path, "CREATE TABLE ventas (a INTEGER, b INTEGER)")
		file, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, byte(4), file[47])
		file[47] = 1
		require.NoError(t, os.WriteFile(path, file, 0o600))
		s := open(t, Config[bits]{Path: path})
		require.NoError(t, s.write(t.Context(), rows))
		require.False(t, short(s))
		commit(t, s, upTo(1))
		require.NoError(t, s.Close())
		return path
	}
	got := write(open[bits])
	samePages(t, write(openLong[bits]), got)

	run(t, got, "VACUUM")
	s := open(t, Config[bits]{Path: got})
	require.NoError(t, s.write(t.Context(), rows))
	require.True(t, short(s), s.bulk.slow)
}

func TestShortWay(t *testing.T) {
	t.Parallel()
	t.Run("one leaf, several, several images", func(t *testing.T) {
		t.Parallel()
		got, want := dbPath(t), dbPath(t)
		s, long := open(t, Config[suelta]{Path: got}), openLong(t, Config[suelta]{Path: want})
		next := int64(0)
		for _, n := range []int{16, 20_000, 17, 2000, 300_000, 16} {
			rows := make([]suelta, n)
			for i := range rows {
				rows[i] = suelta{next, strings.Repeat("x", int(next%30))}
				next++
			}
			require.NoError(t, s.write(t.Context(), rows))
			require.True(t, short(s), s.bulk.slow)
			require.NoError(t, long.write(t.Context(), rows))
		}
		commit(t, s, upTo(next))
		commit(t, long, upTo(next))
		require.NoError(t, s.Close())
		require.NoError(t, long.Close())
		samePages(t, want, got)
		require.Equal(t, [][]string{{"text ok"}}, ask(t, got, "PRAGMA integrity_check"))
	})
	t.Run("few rows are not worth it", func(t *testing.T) {
		t.Parallel()
		s := open(t, Config[forma]{Path: dbPath(t)})
		require.NoError(t, s.write(t.Context(), formas(0, bulkFrom-1)))
		assert.Nil(t, s.bulk.image)
	})
	t.Run("a row too long for a page, then others", func(t *testing.T) {
		t.Parallel()
		path := dbPath(t)
		s := open(t, Config[suelta]{Path: path})
		rows := make([]suelta, 20)
		for i := range rows {
			rows[i] = suelta{int64(i), "x"}
		}
		for _, c := range []struct {
			size  int
			short bool
		}{{65_000, true}, {65_400, true}, {65_536, false}, {200_000, false}, {1, true}} {
			rows[7].Nombre = strings.Repeat("y", c.size)
			require.NoError(t, s.write(t.Context(), rows))
			assert.Equal(t, c.short, short(s), "%d bytes", c.size)
		}
		commit(t, s, upTo(1))
		assert.Equal(t, "int 100", count(t, path, "ventas"))
		assert.Equal(t, [][]string{{"text ok"}}, ask(t, path, "PRAGMA integrity_check"))
		assert.Equal(t, [][]string{{"int 65000"}, {"int 65400"}, {"int 65536"}, {"int 200000"}, {"int 1"}}, ask(t, path, "SELECT length(nombre) FROM ventas WHERE id = 7"))
	})
	t.Run("B5: bad rows are named as ever, and their neighbours come again", func(t *testing.T) {
		t.Parallel()
		path := dbPath(t)
		s := open(t, Config[todo]{Path: path})
		rows := make([]todo, 100)
		for i, bad := range []todo{{F: math.NaN()}, {F32: float32(math.NaN())}, {U: math.MaxUint64}, {G: "error"}, {G: "panic"},
			{T: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}, {T: time.Date(-1, 12, 31, 0, 0, 0, 0, time.UTC)}, {D: time.Date(12345, 1, 1, 0, 0, 0, 0, time.UTC)}} {
			require.NoError(t, s.write(t.Context(), rows))
			require.True(t, short(s))
			rows[20+i], rows[50] = bad, bad
			assert.Equal(t, []int{20 + i, 50}, refusedRows(t, s.write(t.Context(), rows)))
			rows[20+i], rows[50] = todo{}, todo{}
		}
		require.NoError(t, s.write(t.Context(), rows))
		require.True(t, short(s))
		commit(t, s, upTo(1))
		assert.Equal(t, "int 900", count(t, path, "ventas"))
	})
	t.Run("an ended context leaves what was written before", func(t *testing.T) {
		t.Parallel()
		path := dbPath(t)
		s := open(t, Config[forma]{Path: path})
		require.NoError(t, s.write(t.Context(), formas(0, 100)))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := s.write(ctx, formas(100, 100))
		require.ErrorIs(t, err, context.Canceled)
		assert.NotErrorIs(t, err, leat.ErrAborted)
		commit(t, s, upTo(1))
		assert.Equal(t, "int 100", count(t, path, "ventas"))
	})
	t.Run("a full disk", func(t *testing.T) {
		t.Parallel()
		path := dbPath(t)
		s := open(t, Config[venta]{Path: path})
		rows := make([]venta, 3000)
		for i := range rows {
			rows[i] = venta{int64(i), strings.Repeat("x", 100)}
		}
		require.NoError(t, s.write(t.Context(), rows[:1000]))
		require.True(t, short(s))
		commit(t, s, upTo(1000))
		require.NoError(t, s.db.exec("PRAGMA max_page_count=40"))
		err := s.write(t.Context(), rows[1000:])
		require.ErrorIs(t, err, leat.ErrAborted, "E8: the open rows are gone")
		assert.True(t, leat.IsTransient(err))
		require.NoError(t, s.Close())
		assert.Equal(t, "int 1000", count(t, path, "ventas"))
	})
	t.Run("a full disk, at which SQLite ends the transaction by itself", func(t *testing.T) {
		t.Parallel()
		path := dbPath(t)
		s := open(t, Config[suelta]{Path: path})
		rows := make([]suelta, 10_000)
		for i := range rows {
			rows[i] = suelta{int64(i), strings.Repeat("x", 100)}
		}
		require.NoError(t, s.write(t.Context(), rows[:1000]))
		commit(t, s, upTo(1000))
		require.NoError(t, s.write(t.Context(), rows[1000:1100]))
		require.True(t, short(s))
		require.NoError(t, s.db.exec("PRAGMA max_page_count=40"))
		err := s.write(t.Context(), rows[1100:])
		require.ErrorIs(t, err, leat.ErrAborted, "E8: the open rows are gone")
		assert.True(t, leat.IsTransient(err))
		require.ErrorIs(t, s.write(t.Context(), rows[:16]), leat.ErrAborted, "E8: until the rewind nothing is taken")
		require.NoError(t, s.Close())
		assert.Equal(t, "int 1000", count(t, path, "ventas"))
	})
	t.Run("a value longer than SQLite's limit", func(t *testing.T) {
		t.Parallel()
		s := open(t, Config[suelta]{Path: dbPath(t)})
		rows := make([]suelta, 100)
		require.NoError(t, s.write(t.Context(), rows))
		s.db.conn.Limit(0, 1000) // SQLITE_LIMIT_LENGTH
		rows[70].Nombre = strings.Repeat("x", 2000)
		assert.Equal(t, []int{70}, refusedRows(t, s.write(t.Context(), rows)))
	})
}

// With a key that is the rowid, rows that come in its order and are new go the short
// way. All others are upserted.
func TestShortWayByKey(t *testing.T) {
	t.Parallel()
	batch := func(from, step, n int, name string) []venta {
		rows := make([]venta, n)
		for i := range rows {
			rows[i] = venta{int64(from + i*step), name}
		}
		return rows
	}
	path := dbPath(t)
	s := open(t, Config[venta]{Path: path})
	for _, c := range []struct {
		name  string
		rows  []venta
		short bool
	}{
		{"below 0 and above", batch(-50, 2, 50, "a"), true},
		{"between those", batch(-49, 2, 50, "b"), true},
		{"the largest", batch(math.MaxInt64-99, 1, 100, "c"), true},
		{"the smallest", batch(math.MinInt64, 1, 100, "d"), true},
		{"one twice", append(batch(100, 1, 20, "e"), batch(119, 1, 20, "f")...), false},
		{"falling", batch(299, -1, 100, "g"), false},
		{"some are there", batch(250, 1, 100, "h"), false},
		{"after a conflict, one batch goes the long way", batch(1000, 1, 100, "i"), false},
		{"new ones again", batch(2000, 1, 100, "j"), true},
		{"all are there", batch(2000, 1, 100, "k"), false},
		{"one more", batch(3000, 1, 100, "l"), false},
		{"and again", batch(3100, 1, 100, "m"), true},
	} {
		require.NoError(t, s.write(t.Context(), c.rows), c.name)
		assert.Equal(t, c.short, short(s), c.name)
	}
	commit(t, s, upTo(1))
	require.Equal(t, [][]string{{"text ok"}}, ask(t, path, "PRAGMA integrity_check"))
	assert.Equal(t, [][]string{
		{"text a", "int 50"}, {"text b", "int 50"}, {"text c", "int 100"}, {"text d", "int 100"}, {"text e", "int 19"}, {"text f", "int 20"},
		{"text g", "int 50"}, {"text h", "int 100"}, {"text i", "int 100"}, {"text j", "int 0"}, {"text k", "int 100"}, {"text l", "int 100"}, {"text m", "int 100"},
	}, ask(t, path, `WITH n(v) AS (VALUES ('a'),('b'),('c'),('d'),('e'),('f'),('g'),('h'),('i'),('j'),('k'),('l'),('m'))
		SELECT v, (SELECT count(*) FROM ventas WHERE nombre = v) FROM n`))
}

// What the table itself wants done at a conflict is done, as it is row by row.
func TestConflictsOfTheTable(t *testing.T) {
	t.Parallel()
	for clause, c := range map[string]struct {
		refused []int
		aborted bool
		count   string
	}{
		"ON CONFLICT REPLACE":  {nil, false, "int 150"},
		"ON CONFLICT IGNORE":   {nil, false, "int 150"},
		"ON CONFLICT ROLLBACK": {[]int{0}, true, "int 0"},
		"":                     {[]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, false, "int 100"},
	} {
		t.Run(clause, func(t *testing.T) {
			t.Parallel()
			path := dbPath(t)
			run(t, path, "CREATE TABLE ventas (id INTEGER PRIMARY KEY "+clause+", nombre TEXT, precio REAL, nota TEXT)")
			s := open(t, Config[forma]{Path: path})
			require.NoError(t, s.write(t.Context(), formas(0, 100)))
			require.True(t, short(s))
			err := s.write(t.Context(), formas(90, 60))
			assert.False(t, short(s))
			if c.refused == nil {
				require.NoError(t, err)
			} else {
				assert.Equal(t, c.refused, refusedRows(t, err))
			}
			if c.aborted {
				require.ErrorIs(t, err, leat.ErrAborted)
			} else {
				commit(t, s, upTo(1))
			}
			assert.Equal(t, c.count, count(t, path, "ventas"))
		})
	}
}

// While conflicts last, the short way is tried less and less.
func TestPauseAfterConflicts(t *testing.T) {
	t.Parallel()
	s := open(t, Config[venta]{Path: dbPath(t)})
	rows := make([]venta, 100)
	for i := range rows {
		rows[i].ID = int64(i)
	}
	require.NoError(t, s.write(t.Context(), rows))
	tried := 0
	for range 2000 {
		before := s.bulk.pause
		require.NoError(t, s.write(t.Context(), rows[:bulkFrom]))
		if before == 0 {
			tried++
		}
	}
	assert.Less(t, tried, 50)
	assert.Equal(t, bulkPause, s.bulk.after)
}

// SQLite that keeps old pages in its cache would write old rows again: it is found out
// at the first time, nothing of it stays, and it is not given another chance.
func TestStaleCache(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	var log bytes.Buffer
	s := New(Config[forma]{Path: path, Table: "ventas"})
	e := env()
	e.Logger = slog.New(slog.NewTextHandler(&log, nil))
	require.NoError(t, s.Open(t.Context(), e))
	_, err := s.Restore(t.Context(), []string{"p"})
	require.NoError(t, err)
	s.bulk.stale = true
	for i := range 10 {
		require.NoError(t, s.write(t.Context(), formas(100*i, 100)))
		assert.Equal(t, i > 0, s.bulk.broken, "batch %d", i)
		if i == 5 {
			commit(t, s, upTo(600))
		}
	}
	commit(t, s, upTo(1000))
	assert.Equal(t, 1, strings.Count(log.String(), "SQLite did not read the rows"), "it is said once")
	require.NoError(t, s.Close())
	want := dbPath(t)
	long := openLong(t, Config[forma]{Path: want})
	require.NoError(t, long.write(t.Context(), formas(0, 1000)))
	commit(t, long, upTo(1000))
	assert.Equal(t, ask(t, want, "SELECT rowid, * FROM ventas"), ask(t, path, "SELECT rowid, * FROM ventas"))

	require.NoError(t, s.Open(t.Context(), e), "the next life trusts it again")
	_, err = s.Restore(t.Context(), []string{"p"})
	require.NoError(t, err)
	require.NoError(t, s.write(t.Context(), formas(1000, 100)))
	assert.True(t, short(s))
	require.NoError(t, s.Close())
}

// What another connection does to the table between two commits counts at once.
func TestSchemaChanges(t *testing.T) {
	t.Parallel()
	type par struct{ A, B string }
	pares := func(n int) []par {
		rows := make([]par, n)
		for i := range rows {
			rows[i] = par{fmt.Sprint("a", i), fmt.Sprint("b", i)}
		}
		return rows
	}
	for name, c := range map[string]struct {
		change []string
		short  bool
		check  string // gives 200 rows
	}{
		"another table":          {[]string{"CREATE TABLE otra (a)"}, true, "SELECT count(*) FROM ventas"},
		"an index":               {[]string{"CREATE INDEX i ON ventas (a)"}, false, "SELECT count(*) FROM ventas INDEXED BY i WHERE a > ''"},
		"a trigger":              {[]string{"CREATE TABLE log (a)", "INSERT INTO log SELECT a FROM ventas", "CREATE TRIGGER t AFTER INSERT ON ventas BEGIN INSERT INTO log VALUES (new.a); END"}, false, "SELECT count(*) FROM log"},
		"an index, gone again":   {[]string{"CREATE INDEX i ON ventas (a)", "DROP INDEX i"}, true, "SELECT count(*) FROM ventas"},
		"a column more":          {[]string{"ALTER TABLE ventas ADD COLUMN c TEXT"}, false, "SELECT count(*) FROM ventas"},
		"two columns swap names": {[]string{"ALTER TABLE ventas RENAME a TO x", "ALTER TABLE ventas RENAME b TO a", "ALTER TABLE ventas RENAME x TO b", "UPDATE ventas SET (a, b) = (b, a)"}, false, "SELECT count(*) FROM ventas WHERE a LIKE 'a%' AND b LIKE 'b%'"},
		"the table is made anew": {[]string{"CREATE TABLE nueva (b TEXT, a TEXT)", "INSERT INTO nueva SELECT b, a FROM ventas", "DROP TABLE ventas", "ALTER TABLE nueva RENAME TO ventas"}, false, "SELECT count(*) FROM ventas WHERE a LIKE 'a%' AND b LIKE 'b%'"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := dbPath(t)
			s := open(t, Config[par]{Path: path})
			require.NoError(t, s.write(t.Context(), pares(100)))
			require.True(t, short(s))
			commit(t, s, upTo(1))
			run(t, path, c.change...)
			require.NoError(t, s.write(t.Context(), pares(100)))
			assert.Equal(t, c.short, short(s))
			commit(t, s, upTo(2))
			assert.Equal(t, [][]string{{"int 200"}}, ask(t, path, c.check))
			assert.Equal(t, [][]string{{"text ok"}}, ask(t, path, "PRAGMA integrity_check"))
		})
	}
}

// A table that somebody drops is missed, also when it has the name of the one in the image.
func TestTableIsDropped(t *testing.T) {
	t.Parallel()
	for _, table := range []string{"ventas", sqlitepage.Table} {
		path := dbPath(t)
		s := open(t, Config[forma]{Path: path, Table: table})
		require.NoError(t, s.write(t.Context(), formas(0, 100)))
		require.True(t, short(s))
		commit(t, s, upTo(1))
		run(t, path, "DROP TABLE "+table)
		err := s.write(t.Context(), formas(100, 100))
		require.ErrorIs(t, err, leat.ErrAborted)
		require.ErrorContains(t, err, "no such table")
		require.NoError(t, s.Close())
		require.ErrorContains(t, s.Open(t.Context(), env()), "the table "+table+" is gone")
	}
}

// A reader sees the rows of a commit, and never the table that they were copied from.
func TestReadersSeeCommitsOnly(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	s := open(t, Config[forma]{Path: path})
	for i := range 20 {
		require.NoError(t, s.write(t.Context(), formas(500*i, 500)))
		require.True(t, short(s))
		assert.Equal(t, fmt.Sprint("int ", 500*i), count(t, path, "ventas"))
		commit(t, s, upTo(int64(i+1)))
	}
	assert.Equal(t, [][]string{{"text leat_positions"}, {"text ventas"}}, ask(t, path, "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY 1"))
}

func TestPageSize(t *testing.T) {
	t.Parallel()
	size := func(path string) string { return ask(t, path, "PRAGMA page_size")[0][0] }
	path := dbPath(t)
	open(t, Config[forma]{Path: path})
	assert.Equal(t, "int 16384", size(path), "rows without a key")
	path = dbPath(t)
	open(t, Config[venta]{Path: path})
	assert.Equal(t, "int 4096", size(path), "rows by key")
	path = dbPath(t)
	run(t, path, "PRAGMA page_size=1024", "CREATE TABLE otra (a)")
	open(t, Config[forma]{Path: path})
	assert.Equal(t, "int 1024", size(path), "a database that exists keeps its own")
}
