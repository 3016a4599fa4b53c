package sqlitesink

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
)

func TestOpenTable(t *testing.T) {
	t.Parallel()
	ask := func(t *testing.T, path, q string) [][]string { t.Helper(); return ask(t, path, q) }

	t.Run("a missing table is created from the row type", func(t *testing.T) {
		t.Parallel()
		path := dbPath(t)
		open(t, Config[venta]{Path: path})
		assert.Equal(t, [][]string{{"text id", "text INTEGER", "int 1", "int 1"}, {"text nombre", "text TEXT", "int 1", "int 0"}},
			ask(t, path, `SELECT name, type, "notnull", pk FROM pragma_table_info('ventas')`))
		assert.Equal(t, [][]string{{"text wal"}}, ask(t, path, "PRAGMA journal_mode"))
	})
	t.Run("without a key there is no primary key", func(t *testing.T) {
		t.Parallel()
		path := dbPath(t)
		open(t, Config[suelta]{Path: path})
		assert.Empty(t, ask(t, path, `SELECT name FROM pragma_table_info('ventas') WHERE pk`))
	})
	t.Run("MustExist makes a missing table an error", func(t *testing.T) {
		t.Parallel()
		err := New(Config[venta]{Path: dbPath(t), Table: "ventas", MustExist: true}).Open(t.Context(), env())
		require.ErrorContains(t, err, "does not exist")
		assert.False(t, leat.IsTransient(err))
	})
	t.Run("columns that the table lacks are listed", func(t *testing.T) {
		t.Parallel()
		path := dbPath(t)
		run(t, path, `CREATE TABLE ventas (otra TEXT)`)
		err := New(Config[suelta]{Path: path, Table: "ventas"}).Open(t.Context(), env())
		require.ErrorContains(t, err, `"id" INTEGER, "nombre" TEXT`)
		require.ErrorContains(t, err, "AddColumns")
		assert.False(t, leat.IsTransient(err))
	})
	t.Run("AddColumns adds them, nullable", func(t *testing.T) {
		t.Parallel()
		path := dbPath(t)
		run(t, path, `CREATE TABLE ventas (ID INTEGER)`, `INSERT INTO ventas VALUES (7)`)
		s := open(t, Config[suelta]{Path: path, AddColumns: true})
		require.NoError(t, s.write(t.Context(), []suelta{{8, "ocho"}}))
		commit(t, s, upTo(1))
		assert.Equal(t, [][]string{{"int 7", "null"}, {"int 8", "text ocho"}}, ask(t, path, "SELECT id, nombre FROM ventas"))
	})
	t.Run("AddColumns never adds a key", func(t *testing.T) {
		t.Parallel()
		path := dbPath(t)
		run(t, path, `CREATE TABLE ventas (nombre TEXT)`)
		err := New(Config[venta]{Path: path, Table: "ventas", AddColumns: true}).Open(t.Context(), env())
		require.ErrorContains(t, err, "lacks the key column id")
	})
	t.Run("upsert needs a unique index, and says which", func(t *testing.T) {
		t.Parallel()
		path := dbPath(t)
		run(t, path, `CREATE TABLE ventas (id INTEGER, nombre TEXT)`)
		s := New(Config[venta]{Path: path, Table: "ventas"})
		err := s.Open(t.Context(), env())
		require.ErrorContains(t, err, `CREATE UNIQUE INDEX "ventas_key" ON "ventas" ("id")`)
		run(t, path, `CREATE UNIQUE INDEX "ventas_key" ON "ventas" ("id")`)
		require.NoError(t, s.Open(t.Context(), env()))
		require.NoError(t, s.Close())
	})
	t.Run("a table column that the rows can't fill is an error at once", func(t *testing.T) {
		t.Parallel()
		path := dbPath(t)
		run(t, path, `CREATE TABLE ventas (n INTEGER PRIMARY KEY, id INTEGER, nombre TEXT, pais TEXT NOT NULL, alta TEXT NOT NULL DEFAULT 'hoy', doble INTEGER NOT NULL AS (id*2))`)
		err := New(Config[suelta]{Path: path, Table: "ventas"}).Open(t.Context(), env())
		require.ErrorContains(t, err, "no default: pais")
	})
	t.Run("columns of the table that the rows lack get their default", func(t *testing.T) {
		t.Parallel()
		path := dbPath(t)
		run(t, path, `CREATE TABLE ventas (n INTEGER PRIMARY KEY, id INTEGER, nombre TEXT, pais TEXT, alta TEXT NOT NULL DEFAULT 'hoy', doble INTEGER AS (id*2))`)
		s := open(t, Config[suelta]{Path: path})
		require.NoError(t, s.write(t.Context(), []suelta{{4, "x"}}))
		commit(t, s, upTo(1))
		assert.Equal(t, [][]string{{"int 1", "int 4", "text x", "null", "text hoy", "int 8"}}, ask(t, path, "SELECT n, id, nombre, pais, alta, doble FROM ventas"))
	})
	t.Run("a generated column can't be written", func(t *testing.T) {
		t.Parallel()
		path := dbPath(t)
		run(t, path, `CREATE TABLE ventas (id INTEGER, nombre TEXT AS (id || ''))`)
		err := New(Config[suelta]{Path: path, Table: "ventas"}).Open(t.Context(), env())
		require.ErrorContains(t, err, "nombre of ventas is generated")
	})
	t.Run("a view is refused", func(t *testing.T) {
		t.Parallel()
		path := dbPath(t)
		run(t, path, `CREATE VIEW ventas AS SELECT 1 AS id, 'a' AS nombre`)
		err := New(Config[suelta]{Path: path, Table: "ventas"}).Open(t.Context(), env())
		require.ErrorContains(t, err, "is a view")
	})
	t.Run("a table that vanished is not made again behind its positions", func(t *testing.T) {
		t.Parallel()
		path := dbPath(t)
		s := open(t, Config[venta]{Path: path})
		require.NoError(t, s.write(t.Context(), []venta{{1, "a"}}))
		commit(t, s, upTo(1))
		require.NoError(t, s.Close())
		run(t, path, "DROP TABLE ventas")
		err := s.Open(t.Context(), env())
		require.ErrorContains(t, err, "DELETE FROM leat_positions WHERE pipeline = 'ventas' AND sink = 'tabla'")
		run(t, path, "DELETE FROM leat_positions WHERE pipeline = 'ventas' AND sink = 'tabla'")
		require.NoError(t, s.Open(t.Context(), env()))
	})
	t.Run("somebody else's leat_positions", func(t *testing.T) {
		t.Parallel()
		path := dbPath(t)
		run(t, path, `CREATE TABLE leat_positions (x)`)
		err := New(Config[venta]{Path: path, Table: "ventas"}).Open(t.Context(), env())
		require.ErrorContains(t, err, "leat_positions is not leat's")
	})
	t.Run("a file that is no database", func(t *testing.T) {
		t.Parallel()
		path := dbPath(t)
		writeFile(t, path, "this is a text of more than one hundred bytes, so that SQLite looks at its header and finds that it is no database at all")
		err := New(Config[venta]{Path: path, Table: "ventas"}).Open(t.Context(), env())
		require.ErrorContains(t, err, "not a database")
		assert.False(t, leat.IsTransient(err), "B8: it will not become one")
	})
	t.Run("a folder that does not exist", func(t *testing.T) {
		t.Parallel()
		err := New(Config[venta]{Path: dbPath(t) + "/no/x.db", Table: "ventas"}).Open(t.Context(), env())
		require.ErrorContains(t, err, "does not exist")
		assert.False(t, leat.IsTransient(err))
	})
}

type raro struct {
	A int64  `leat:"id\"; DROP TABLE x; --,key"`
	B string `leat:"select"`
	C string `leat:"it's [a] col"`
	D string `leat:"año ñ 漢字"`
}

func TestHostileNames(t *testing.T) {
	t.Parallel()
	for _, table := range []string{`x"; DROP TABLE y; --`, "select", "a b", "main.ventas", "it's", "[x]", "`x`", "ñandú", "?1", "--", "Table"} {
		t.Run(table, func(t *testing.T) {
			t.Parallel()
			path := dbPath(t)
			s := open(t, Config[raro]{Path: path, Table: table})
			require.NoError(t, s.write(t.Context(), []raro{{1, "a", "b", "c"}, {1, "d", "e", "f"}}))
			commit(t, s, upTo(2))
			assert.Equal(t, [][]string{{"int 1", "text d", "text e", "text f"}}, ask(t, path, "SELECT * FROM "+quote(table)))
			require.NoError(t, s.Close())
			require.NoError(t, s.Open(t.Context(), env()), "the table is found again")
		})
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	type otro struct {
		A map[string]int `leat:"a"`
		B *int64         `leat:"b,key"`
		C int64          `leat:"c"`
		D int64          `leat:"C"`
	}
	type vacio struct{}
	for name, c := range map[string]struct {
		v    leat.Validator
		want []string
	}{
		"all faults at once": {New(Config[otro]{Table: "Leat_Positions", Synchronous: 9}),
			[]string{"Path is empty", "where leat keeps its positions", "column a: a map[string]int has no SQL type", "column b: a key can't be null", "columns c and C are the same", "Synchronous 9"}},
		"empty table":      {New(Config[venta]{Path: "x"}), []string{"Table is empty"}},
		"reserved table":   {New(Config[venta]{Path: "x", Table: "SQLite_x"}), []string{"SQLite keeps names"}},
		"zero byte":        {New(Config[venta]{Path: "x\x00y", Table: "a\x00b"}), []string{"Path", "is no name"}},
		"memory":           {New(Config[venta]{Path: ":memory:", Table: "t"}), []string{":memory:"}},
		"URI":              {New(Config[venta]{Path: "file:x?mode=memory", Table: "t"}), []string{"is a URI"}},
		"no columns":       {New(Config[vacio]{Path: "x", Table: "t"}), []string{"has no columns"}},
		"no struct":        {New(Config[int]{Path: "x", Table: "t"}), []string{"is not a struct"}},
		"nothing is wrong": {New(Config[venta]{Path: "x", Table: "t"}), nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := c.v.Validate()
			if c.want == nil {
				require.NoError(t, err)
			}
			for _, w := range c.want {
				assert.ErrorContains(t, err, w)
			}
		})
	}
}

func TestNameAndGuarantee(t *testing.T) {
	t.Parallel()
	var s leat.Sink[venta] = New(Config[venta]{Table: "ventas"})
	assert.Equal(t, "ventas", s.(leat.Named).Name())
	assert.Equal(t, "otro", New(Config[venta]{Table: "ventas", Name: "otro"}).Name())
	assert.Equal(t, leat.ExactlyOnce, s.(leat.Guaranteed).Guarantee())
	assert.Implements(t, (*leat.Transactional)(nil), s)
}
