package sqlitesource

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/sink/sqlitesink"
	"github.com/leatgo/leat/source/drift"
)

// Columns that are missing or more, by policy.
func TestDrift(t *testing.T) {
	t.Parallel()
	type fila struct {
		ID   int64
		Name *string
		N    int64
	}
	path := made(t, "CREATE TABLE t (id INTEGER PRIMARY KEY, more TEXT)", "INSERT INTO t VALUES (1, 'x')")
	null := made(t, "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, more TEXT)", "INSERT INTO t VALUES (1, 5, 'x')")
	for name, c := range map[string]struct {
		path   string
		config Config[fila]
		want   string
	}{
		"refused by default":    {path, Config[fila]{}, `lacks columns of the row type sqlitesource.fila: "name", "n"; it has "id", "more"`},
		"null is not for all":   {path, Config[fila]{Missing: drift.NullMissing}, `lacks columns of the row type sqlitesource.fila: "n"; it has`},
		"null":                  {null, Config[fila]{Missing: drift.NullMissing}, ""},
		"zero":                  {path, Config[fila]{Missing: drift.ZeroMissing}, ""},
		"more is refused":       {null, Config[fila]{Missing: drift.ZeroMissing, Extra: drift.RefuseExtra}, `which Extra refuses: "more"`},
		"more, but it is known": {null, Config[fila]{Missing: drift.ZeroMissing, Extra: drift.RefuseExtra, Key: "id, more"}, ""},
	} {
		f := newFeed[fila](t)
		c.config.Path, c.config.Table, c.config.Cursor = c.path, "t", "id"
		err := f.life(c.config)
		if c.want != "" {
			require.ErrorContains(t, err, c.want, name)
			continue
		}
		require.NoError(t, err, name)
		require.Len(t, f.rows, 1)
		require.Nil(t, f.rows[0].Name)
		require.Equal(t, int64(1), f.rows[0].ID)
	}
	require.ErrorContains(t, New(Config[fila]{Extra: 7, Missing: 7}).Validate(), "Extra 7")
}

// A column tagged extra keeps what there is no other for; a new column while it runs too.
func TestExtra(t *testing.T) {
	t.Parallel()
	path := made(t, "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT NOT NULL, i, f, s, b, n)",
		`INSERT INTO t VALUES (1, 'a', 9007199254740993, 1.5, '<x>', x'00', NULL), (2, 'b', NULL, NULL, NULL, NULL, NULL), (3, 'c', NULL, NULL, cast(x'ff' as text), NULL, NULL)`)
	type texts struct {
		ID   int64
		Name string
		Rest map[string]string `leat:"rest,extra"`
	}
	f := newFeed[texts](t)
	s := New(Config[texts]{Path: path, Table: "t", Cursor: "id", PageRows: 2})
	s.afterPage = func() {
		if len(f.rows) == 0 {
			exec(t, path, "DELETE FROM t WHERE id = 3", "ALTER TABLE t ADD COLUMN late", "INSERT INTO t (id, name, late) VALUES (4, 'd', 'now')")
		}
	}
	require.NoError(t, f.lifeOf(s))
	require.Equal(t, []texts{
		{1, "a", map[string]string{"i": "9007199254740993", "f": "1.5", "s": "<x>", "b": `{"blob":"AA=="}`}}, {2, "b", nil}, {4, "d", map[string]string{"late": "now"}},
	}, f.rows)

	type anys struct {
		ID   int64
		Rest map[string]any `leat:",extra"`
	}
	g := newFeed[anys](t)
	require.NoError(t, g.life(Config[anys]{Path: path, Table: "t", Cursor: "id", PageRows: 1}))
	require.Equal(t, map[string]any{"name": "a", "i": json.Number("9007199254740993"), "f": json.Number("1.5"), "s": "<x>", "b": json.RawMessage(`{"blob":"AA=="}`)}, g.rows[0].Rest)

	type raws struct {
		ID   int64
		Rest map[string]json.RawMessage `leat:",extra"`
	}
	h := newFeed[raws](t)
	require.NoError(t, h.life(Config[raws]{Path: path, Table: "t", Cursor: "id"}))
	js, err := json.Marshal(h.rows[0].Rest)
	require.NoError(t, err)
	require.JSONEq(t, `{"name":"a","i":9007199254740993,"f":1.5,"s":"<x>","b":{"blob":"AA=="}}`, string(js))

	t.Run("what sqlitesink writes of one comes back", func(t *testing.T) {
		dir := t.TempDir()
		rows := []texts{{1, "a", map[string]string{"x": "1", "ñ": "\"\n"}}, {2, "b", nil}}
		db := filepath.Join(dir, "out.db")
		p := leat.New("write", quiet(dir))
		leat.To(leat.From(p, leattest.Rows(rows...)), sqlitesink.New(sqlitesink.Config[texts]{Path: db, Table: "t"}))
		require.NoError(t, p.Run(t.Context()))
		f := newFeed[texts](t)
		require.NoError(t, f.life(Config[texts]{Path: db, Table: "t", Cursor: "rowid"}))
		require.Equal(t, rows, f.rows)
		exec(t, db, "ALTER TABLE t ADD COLUMN y", "UPDATE t SET y = 7")
		f = newFeed[texts](t)
		require.NoError(t, f.life(Config[texts]{Path: db, Table: "t", Cursor: "rowid"}))
		require.Equal(t, map[string]string{"x": "1", "ñ": "\"\n", "y": "7"}, f.rows[0].Rest)
	})
	t.Run("a row at fault, and its letter", func(t *testing.T) {
		dir := t.TempDir()
		db := made(t, "CREATE TABLE t (id INTEGER, name TEXT, s, rest)", `INSERT INTO t VALUES (1, 'a', cast(x'ff' as text), NULL), (2, 'b', 1, '[]'), (3, 'c', 2, NULL)`)
		build := func(sink *leattest.Collector[texts]) *leat.Pipeline {
			c := quiet(dir)
			c.Breaker.Share = -1
			p := leat.New("read", c)
			leat.To(leat.From(p, New(Config[texts]{Path: db, Table: "t", Cursor: "rowid"})), sink)
			return p
		}
		sink := leattest.Collect[texts]()
		require.NoError(t, build(sink).Run(t.Context()))
		require.Equal(t, []texts{{3, "c", map[string]string{"s": "2"}}}, sink.Committed())
		var rules, raws []string
		for l, err := range letters(dir) {
			require.NoError(t, err)
			rules, raws = append(rules, l.Column+"/"+l.Rule), append(raws, string(l.Raw))
		}
		require.Equal(t, []string{"rest/utf8", "rest/syntax"}, rules)
		require.Equal(t, []string{`{"id":1,"name":"a","rest":null,"s":{"text":"/w=="}}`, `{"id":2,"name":"b","rest":"[]","s":1}`}, raws)
		mended := func(yield func(leat.DeadLetter, error) bool) {
			for l, err := range letters(dir) {
				l.Raw = []byte(map[string]string{raws[0]: `{"id":1,"name":"a","s":"ok"}`, raws[1]: `{"id":2,"name":"b","rest":"{\"k\":\"v\"}","s":1}`}[string(l.Raw)])
				if !yield(l, err) {
					return
				}
			}
		}
		next := sink.Successor()
		stats, err := leat.Replay(t.Context(), build(next), mended)
		require.NoError(t, err)
		require.Equal(t, 2, stats.Journaled, "%v", stats.Why)
		require.Equal(t, []texts{{1, "a", map[string]string{"s": "ok"}}, {2, "b", map[string]string{"k": "v", "s": "1"}}}, next.Committed()[1:])
	})
}
