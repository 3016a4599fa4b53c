package sqlitesource

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/leatgo/leat"
)

const (
	numbered = "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT NOT NULL)"
	hundred  = "INSERT INTO t (id, name) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100) SELECT i, 'n' || i FROM n"
)

// I1, A2-2: by an integer key offsets are the keys, whatever the pages and however often
// it is read.
func TestByKey(t *testing.T) {
	t.Parallel()
	path := made(t, numbered, hundred, "DELETE FROM t WHERE id % 7 = 0", "INSERT INTO t VALUES (-5, 'below'), (0, 'zero')")
	var want []int64
	for _, id := range append([]int64{-5, 0}, upTo(100)...) {
		if id%7 != 0 || id == 0 {
			want = append(want, id)
		}
	}
	for _, pageRows := range []int{1, 2, 7, 1000} {
		f := newFeed[item](t)
		require.NoError(t, f.life(Config[item]{Path: path, Table: "t", Cursor: "id", PageRows: pageRows}))
		require.Equal(t, want, ids(f.rows))
		for _, r := range f.rows {
			require.Equal(t, r.ID, r.Offset, "I1: the offset is the key")
			if r.ID > 0 {
				require.Equal(t, fmt.Sprint("n", r.ID), r.Name)
			}
		}
		require.Equal(t, int64(101), f.held[""].Next)

		// Nothing new, nothing twice.
		require.NoError(t, f.life(Config[item]{Path: path, Table: "t", Cursor: "id"}))
		require.Len(t, f.rows, len(want))
	}
}

// A restart at each position that there can be gives each row once.
func TestRestartsEverywhere(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]Config[item]{
		"by key":         {Table: "t", Cursor: "id"},
		"append only":    {Table: "t", Cursor: "id", AppendOnly: true},
		"by rowid":       {Table: "t", Cursor: "rowid"},
		"overlap":        {Table: "t", Cursor: "id", OverlapUnits: 10},
		"equal values":   {Table: "t", Cursor: "name"},
		"composite":      {Table: "t", Cursor: "name, id"},
		"query":          {Query: "SELECT id, name FROM t -- all", Cursor: "id", Key: "id"},
		"query, exact":   {Query: "SELECT id, name FROM t", Cursor: "id", Key: "id", AppendOnly: true},
		"query by value": {Query: "SELECT id, name, id / 30 AS g FROM t", Cursor: "g", Key: "id"},
		"view":           {Table: "v", Cursor: "id", Key: "id"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := made(t, numbered, hundred, "UPDATE t SET name = 'n' || (id / 10)", "CREATE VIEW v AS SELECT * FROM t")
			c.Path = path
			for _, pageRows := range []int{1, 3, 10, 11} {
				c.PageRows = pageRows
				f := newFeed[item](t)
				f.stopAfter = 1
				for range 100/pageRows + 2 {
					require.NoError(t, f.life(c))
				}
				require.Equal(t, upTo(100), sorted(ids(f.rows)), "pages of %d", pageRows)
			}
		})
	}
}

// change is a row with a time of change.
type change struct {
	ID int64
	At int64
}

// I1: whatever is committed between two pages or two lives, at the newest value or above
// it, is read once. With an overlap, also what is committed that far below. When fewer
// rows are remembered than there are of one value, nothing is lost.
func TestModelOfLateRows(t *testing.T) {
	t.Parallel()
	seeds := uint64(12)
	if os.Getenv("LEAT_LONG") == "1" {
		seeds = 500
	}
	for _, c := range []struct {
		overlap int64
		maxSeen int
	}{{0, 0}, {3, 0}, {0, 3}} {
		t.Run(fmt.Sprint("overlap ", c.overlap, " seen ", c.maxSeen), func(t *testing.T) {
			t.Parallel()
			for seed := range seeds {
				model(t, seed, c.overlap, c.maxSeen)
			}
		})
	}
}

func model(t *testing.T, seed uint64, overlap int64, maxSeen int) {
	rng := rand.New(rand.NewPCG(seed, 1))
	path := made(t, "CREATE TABLE t (id INTEGER PRIMARY KEY, at INTEGER NOT NULL)", "CREATE INDEX t_at ON t (at)")
	if rng.IntN(2) == 0 {
		exec(t, path, "DROP INDEX t_at")
	}
	conn := connect(t, path)
	now := int64(1) // the highest time that was committed
	all := map[int64]bool{}
	insert := func() {
		for range rng.IntN(12) {
			if rng.IntN(3) == 0 {
				now += rng.Int64N(3)
			}
			at := now - rng.Int64N(overlap+1)
			id := rng.Int64N(1_000_000)
			if all[id] {
				continue
			}
			all[id] = true
			require.NoError(t, sqlitex.Execute(conn, "INSERT INTO t VALUES (?, ?)", &sqlitex.ExecOptions{Args: []any{id, at}}))
		}
	}
	f := newFeed[change](t)
	c := Config[change]{Path: path, Table: "t", Cursor: "at", OverlapUnits: overlap, MaxSeen: maxSeen}
	for range 8 {
		insert()
		c.PageRows = 1 + rng.IntN(9)
		s, pages := New(c), 0
		s.afterPage = func() {
			if pages++; pages < 10 && rng.IntN(3) == 0 {
				insert()
			}
		}
		f.stopAfter = rng.IntN(6)
		require.NoError(t, f.lifeOf(s), "seed %d", seed)
	}
	f.stopAfter = 0
	require.NoError(t, f.life(c), "seed %d", seed)
	got := map[int64]int{}
	for _, r := range f.rows {
		got[r.ID]++
	}
	for id := range all {
		if maxSeen > 0 {
			require.Positive(t, got[id], "I1: row %d, seed %d: lost", id, seed)
			continue
		}
		require.Equal(t, 1, got[id], "I1: row %d, seed %d, overlap %d", id, seed, overlap)
	}
	require.Len(t, got, len(all))
}

// Rows that are updated get a new time, and so come again.
func TestUpdatedRowsComeAgain(t *testing.T) {
	t.Parallel()
	path := made(t, "CREATE TABLE t (id INTEGER PRIMARY KEY, at INTEGER NOT NULL)", "INSERT INTO t VALUES (1, 10), (2, 10), (3, 11)")
	f, c := newFeed[change](t), Config[change]{Path: path, Table: "t", Cursor: "at"}
	require.NoError(t, f.life(c))
	exec(t, path, "UPDATE t SET at = 12 WHERE id = 1", "UPDATE t SET at = 11 WHERE id = 2")
	require.NoError(t, f.life(c))
	require.Equal(t, []change{{1, 10}, {2, 10}, {3, 11}, {2, 11}, {1, 12}}, f.rows)
}

// More rows of one value than are remembered: their number and a checksum tell that none
// has come between, and if one has they are read again (A2-2: similar).
func TestManyRowsOfOneValue(t *testing.T) {
	t.Parallel()
	path := made(t, "CREATE TABLE t (id INTEGER PRIMARY KEY, at INTEGER NOT NULL)",
		"INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) SELECT 2 * i, 7 FROM n")
	for _, pageRows := range []int{1, 64, 5000} {
		f := newFeed[change](t)
		c := Config[change]{Path: path, Table: "t", Cursor: "at", MaxSeen: 50, PageRows: 100}
		f.stopAfter = 3
		require.NoError(t, f.life(c))
		require.Len(t, f.rows, 300)
		require.Less(t, len(f.held[""].Resume), 200)
		f.stopAfter = 0
		c.PageRows = pageRows
		require.NoError(t, f.life(c))
		require.Len(t, f.rows, 1000, "once each, over a restart in the middle")
		require.NoError(t, f.life(c))
		require.Len(t, f.rows, 1000)
		exec(t, path, "INSERT INTO t VALUES (2002, 7)")
		require.NoError(t, f.life(c))
		require.Len(t, f.rows, 1001, "one at the end is no reason to read all again")
		exec(t, path, "INSERT INTO t VALUES (501, 7)")
		require.NoError(t, f.life(c))
		require.Len(t, f.rows, 1001+1002, "never lost: all are read again")
		require.Contains(t, f.log.String(), "all of that value are read again")
		require.NoError(t, f.life(c))
		require.Len(t, f.rows, 1001+1002)
		exec(t, path, "DELETE FROM t WHERE id IN (501, 2002)")
	}
	t.Run("more in the overlap than may be remembered is an error", func(t *testing.T) {
		f := newFeed[change](t)
		err := f.life(Config[change]{Path: path, Table: "t", Cursor: "at", OverlapUnits: 5, MaxSeen: 50})
		require.ErrorContains(t, err, "raise MaxSeen")
	})
}

// event has its time as text.
type event struct {
	ID int64
	At time.Time
}

// An overlap of times finds late rows, in whatever layout the texts are.
func TestOverlapOfTimes(t *testing.T) {
	t.Parallel()
	for name, layout := range map[string]string{
		"RFC 3339": "2006-01-02T15:04:05Z", "as SQLite writes them": time.DateTime, "milliseconds": "2006-01-02T15:04:05.000Z",
		"milliseconds, a space": "2006-01-02 15:04:05.000", "an offset": "2006-01-02T15:04:05-07:00",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := made(t, "CREATE TABLE t (id INTEGER PRIMARY KEY, at TEXT NOT NULL)", "CREATE INDEX t_at ON t (at)")
			start := time.Date(2025, 1, 1, 0, 0, 30, 0, time.UTC)
			put := func(id int, after time.Duration) {
				exec(t, path, fmt.Sprintf("INSERT INTO t VALUES (%d, '%s')", id, start.Add(after).Format(layout)))
			}
			for i := range 100 {
				put(i, time.Duration(i)*time.Second)
			}
			f, c := newFeed[event](t), Config[event]{Path: path, Table: "t", Cursor: "at", Overlap: 20 * time.Second, PageRows: 7}
			require.NoError(t, f.life(c))
			require.Len(t, f.rows, 100)
			put(100, 79*time.Second)
			put(101, 80*time.Second)
			put(102, 99*time.Second)
			put(103, 40*time.Second) // too late
			put(104, 100*time.Second)
			require.NoError(t, f.life(c))
			var got []int64
			for _, r := range f.rows[100:] {
				got = append(got, r.ID)
			}
			require.Equal(t, []int64{100, 101, 102, 104}, got)
		})
	}
}

// Texts that do not sort as their times do would hide rows.
func TestTimesThatDoNotSort(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		values string
		want   string
	}{
		"width":       {"(1, '2025-01-01T00:00:00Z'), (2, '2025-01-01T00:00:00.5Z')", "do not sort as times do"},
		"zones":       {"(1, '2025-01-01T00:00:00+02:00'), (2, '2025-01-01T00:30:00+03:00')", "does not sort as the times that it holds do"},
		"a text":      {"(1, '2025-01-01T00:00:00Z'), (2, 'not yet')", "do not sort as times do"},
		"an integer":  {"(1, '2025-01-01T00:00:00Z'), (2, 17)", "SQLite sorts apart"},
		"a blob":      {"(1, '2025-01-01T00:00:00Z'), (2, x'00')", "SQLite sorts apart"},
		"NULL":        {"(1, '2025-01-01T00:00:00Z'), (2, NULL)", "the cursor at is NULL in some row"},
		"only a NULL": {"(1, NULL)", "the cursor at is NULL in some row"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFeed[event](t)
			err := f.life(Config[event]{Path: made(t, "CREATE TABLE t (id INTEGER PRIMARY KEY, at)", "INSERT INTO t VALUES "+c.values), Table: "t", Cursor: "at"})
			require.ErrorContains(t, err, c.want)
			require.False(t, leat.IsTransient(err))
		})
	}
}

// A2-1: a position of something else is refused, by name.
func TestAnotherLog(t *testing.T) {
	t.Parallel()
	path := made(t, numbered, hundred, "CREATE TABLE u (id INTEGER PRIMARY KEY, name TEXT NOT NULL, seq INTEGER UNIQUE)")
	base := Config[item]{Path: path, Table: "t", Cursor: "id"}
	f := newFeed[item](t)
	require.NoError(t, f.life(base))
	for name, c := range map[string]Config[item]{
		"another database": {Path: made(t, numbered), Table: "t", Cursor: "id"},
		"another table":    {Path: path, Table: "u", Cursor: "id"},
		"another cursor":   {Path: path, Table: "t", Cursor: "name"},
		"other offsets":    {Path: path, Table: "t", Cursor: "id", OverlapUnits: 1},
		"a query":          {Path: path, Query: "SELECT * FROM t", Cursor: "id", Key: "id"},
	} {
		require.ErrorContains(t, f.life(c), "A2-1", name)
	}
	require.Len(t, f.rows, 100)

	// With a name of its own the file may move.
	f = newFeed[item](t)
	base.Log = "ventas"
	require.NoError(t, f.life(base))
	moved := dbPath(t)
	exec(t, path, "PRAGMA wal_checkpoint(TRUNCATE)")
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(moved, b, 0o600))
	base.Path = moved
	exec(t, moved, "INSERT INTO t VALUES (101, 'x')")
	require.NoError(t, f.life(base))
	require.Equal(t, upTo(101), ids(f.rows))
}

// A2-1: a table that ends before the position is never read on in silence.
func TestTableThatEndsBeforeThePosition(t *testing.T) {
	t.Parallel()
	keyed := Config[item]{Table: "t", Cursor: "id"}
	purged := keyed
	purged.Purged = true
	for name, c := range map[string]struct {
		config Config[item]
		create string
		change string
		want   string // of the error; "" is none
		ids    []int64
	}{
		"the newest row deleted":        {keyed, numbered, "DELETE FROM t WHERE id = 100", "A2-1", nil},
		"all rows deleted":              {keyed, numbered, "DELETE FROM t", "A2-1", nil},
		"older rows deleted":            {keyed, numbered, "DELETE FROM t WHERE id < 100", "", nil},
		"purged":                        {purged, numbered, "DELETE FROM t", "", nil},
		"purged, and new rows":          {purged, numbered, "DELETE FROM t; INSERT INTO t VALUES (101, 'x')", "", []int64{101}},
		"AUTOINCREMENT, all deleted":    {keyed, strings.Replace(numbered, "KEY", "KEY AUTOINCREMENT", 1), "DELETE FROM t; INSERT INTO t (name) VALUES ('x')", "", []int64{101}},
		"AUTOINCREMENT, none left":      {keyed, strings.Replace(numbered, "KEY", "KEY AUTOINCREMENT", 1), "DELETE FROM t", "", nil},
		"AUTOINCREMENT, an older copy":  {keyed, strings.Replace(numbered, "KEY", "KEY AUTOINCREMENT", 1), "DELETE FROM t WHERE id > 90; UPDATE sqlite_sequence SET seq = 90", "A2-1", nil},
		"texts go on growing":           {Config[item]{Table: "t", Cursor: "name"}, numbered, "DELETE FROM t WHERE name > 'n50'; INSERT INTO t VALUES (200, 'o')", "", []int64{200}},
		"numbers that are not keys":     {Config[item]{Table: "t", Cursor: "id", OverlapUnits: 5}, numbered, "DELETE FROM t WHERE id = 100", "A2-1", nil},
		"the table is another, by name": {keyed, numbered, "DROP TABLE t; " + numbered, "A2-1", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.config.Path = made(t, c.create, hundred)
			f := newFeed[item](t)
			require.NoError(t, f.life(c.config))
			require.Len(t, f.rows, 100)
			f.rows = nil
			exec(t, c.config.Path, strings.Split(c.change, "; ")...)
			err := f.life(c.config)
			if c.want != "" {
				require.ErrorContains(t, err, c.want)
				require.ErrorContains(t, err, "To read the table from its start")
			} else {
				require.NoError(t, err)
			}
			require.ElementsMatch(t, c.ids, ids(f.rows))
		})
	}
}

// A position that can't be read is an error, never a start from the beginning.
func TestPositionsThatAreDamaged(t *testing.T) {
	t.Parallel()
	path := made(t, numbered, hundred)
	for _, c := range []Config[item]{
		{Path: path, Table: "t", Cursor: "id"},
		{Path: path, Table: "t", Cursor: "name"},
		{Path: path, Table: "t", Cursor: "name", OverlapUnits: 0, MaxSeen: 10},
		{Path: path, Table: "t", Cursor: "id", OverlapUnits: 50},
	} {
		f := newFeed[item](t)
		f.stopAfter, c.PageRows = 1, 50
		require.NoError(t, f.life(c))
		good := f.held[""]
		for cut := range len(good.Resume) {
			if cut == 0 && c.Cursor == "id" && c.OverlapUnits == 0 {
				continue // see TestMovedByHand
			}
			f.held[""] = leat.Position{Next: good.Next, Resume: good.Resume[:cut], Log: good.Log}
			require.ErrorContains(t, f.life(c), "can't be used", "cut at %d of %s", cut, good.Resume)
		}
		f.held[""] = leat.Position{Next: good.Next - 1, Resume: good.Resume, Log: good.Log}
		require.ErrorContains(t, f.life(c), "can't be used")
		require.Len(t, f.rows, 50)
	}
}

// A position that an operator has set (leat reset) is a key.
func TestMovedByHand(t *testing.T) {
	t.Parallel()
	for _, appendOnly := range []bool{false, true} {
		f, c := newFeed[item](t), Config[item]{Path: made(t, numbered, hundred), Table: "t", Cursor: "id", AppendOnly: appendOnly}
		require.NoError(t, f.life(c))
		f.held[""] = leat.Position{Next: 91, Log: f.held[""].Log}
		f.rows = nil
		require.NoError(t, f.life(c))
		require.Equal(t, upTo(100)[90:], ids(f.rows))
	}
}

// AppendOnly is an assertion; what can be checked of it is.
func TestAppendOnly(t *testing.T) {
	t.Parallel()
	c := Config[item]{Table: "t", Cursor: "id", AppendOnly: true}
	assert.Equal(t, leat.ReplayExact, New(c).Replay(), "A2-2")
	assert.Equal(t, leat.ReplaySimilar, New(Config[item]{Table: "t", Cursor: "id"}).Replay(), "A2-2")
	for name, k := range map[string]struct {
		change string
		purged bool
		want   string
	}{
		"a row below the cursor":           {"INSERT INTO t VALUES (50, 'late')", false, "AppendOnly does not hold"},
		"a row for another":                {"UPDATE t SET id = 50 WHERE id = 51", false, "AppendOnly does not hold"},
		"a row deleted":                    {"DELETE FROM t WHERE id = 51", false, "AppendOnly does not hold"},
		"purged: a row deleted":            {"DELETE FROM t WHERE id = 51", true, ""},
		"purged: all deleted":              {"DELETE FROM t", true, ""},
		"purged: a row below the cursor":   {"INSERT INTO t VALUES (50, 'late')", true, "AppendOnly does not hold"},
		"rows behind the cursor":           {"INSERT INTO t VALUES (102, 'new')", false, ""},
		"the newest row is deleted":        {"DELETE FROM t WHERE id = 100", false, "A2-1"},
		"nothing":                          {"SELECT 1", false, ""},
		"a change of another table's data": {"CREATE TABLE u (a)", false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := c
			c.Path, c.Purged = made(t, numbered, hundred, "DELETE FROM t WHERE id = 50"), k.purged
			check := func(err error) {
				t.Helper()
				if k.want == "" {
					require.NoError(t, err)
				} else {
					require.ErrorContains(t, err, k.want)
				}
			}
			f := newFeed[item](t)
			require.NoError(t, f.life(c))
			before := f.held[""]
			exec(t, c.Path, k.change)
			check(f.life(c))
			if k.want != "" {
				require.Equal(t, before, f.held[""], "I2: nothing moves")
			}
		})
	}
	t.Run("while it runs", func(t *testing.T) {
		t.Parallel()
		c := c
		c.Path, c.Every, c.PageRows = made(t, numbered, hundred, "DELETE FROM t WHERE id = 50"), time.Millisecond, 60
		f := newFeed[item](t)
		f.caught = func(int) { exec(t, c.Path, "INSERT INTO t VALUES (50, 'late')") }
		require.ErrorContains(t, f.life(c), "AppendOnly does not hold")
	})
	t.Run("without it, it is said", func(t *testing.T) {
		t.Parallel()
		path := made(t, numbered, hundred, "DELETE FROM t WHERE id = 50")
		f := newFeed[item](t)
		require.NoError(t, f.life(Config[item]{Path: path, Table: "t", Cursor: "id"}))
		exec(t, path, "INSERT INTO t VALUES (50, 'late')")
		require.NoError(t, f.life(Config[item]{Path: path, Table: "t", Cursor: "id"}))
		require.Contains(t, f.log.String(), "rows have appeared below the cursor")
		require.Len(t, f.rows, 99)
	})
	t.Run("A2-1: a sink is ahead of the table", func(t *testing.T) {
		t.Parallel()
		c := c
		c.Path = made(t, numbered, hundred)
		f := newFeed[item](t)
		f.ahead = 151
		require.ErrorContains(t, f.life(c), "A2-1")
		f.ahead = 101
		require.NoError(t, f.life(c))
		require.Len(t, f.rows, 100)
	})
	t.Run("no unique integer", func(t *testing.T) {
		t.Parallel()
		path := made(t, "CREATE TABLE t (id INTEGER, name TEXT UNIQUE, seq INTEGER NOT NULL UNIQUE)")
		for _, name := range []string{"id", "name"} {
			f := newFeed[item](t)
			require.ErrorContains(t, f.life(Config[item]{Path: path, Table: "t", Cursor: name, AppendOnly: true}), "AppendOnly needs a cursor of unique integers")
		}
		f := newFeed[item](t)
		require.NoError(t, f.life(Config[item]{Path: path, Table: "t", Cursor: "seq", AppendOnly: true}))
	})
}

// Keys at the ends of what an offset can be.
func TestKeysAtTheEnds(t *testing.T) {
	t.Parallel()
	path := made(t, numbered, "INSERT INTO t VALUES (-9223372036854775808, 'a'), (9223372036854775806, 'b')")
	f := newFeed[item](t)
	require.NoError(t, f.life(Config[item]{Path: path, Table: "t", Cursor: "id"}))
	require.Len(t, f.rows, 2)
	exec(t, path, "INSERT INTO t VALUES (9223372036854775807, 'c')")
	require.ErrorContains(t, f.life(Config[item]{Path: path, Table: "t", Cursor: "id"}), "behind which there is no offset")
}

// Rows that the Config can't tell apart are found out, not lost.
func TestRowsThatAreTheSame(t *testing.T) {
	t.Parallel()
	path := made(t, "CREATE TABLE t (id INTEGER, name TEXT)", "INSERT INTO t VALUES (1, 'a'), (2, 'a'), (2, 'a'), (3, 'a')")
	for pageRows := 1; pageRows < 5; pageRows++ {
		f := newFeed[item](t)
		err := f.life(Config[item]{Path: path, Query: "SELECT * FROM t", Cursor: "id", Key: "id", PageRows: pageRows})
		require.ErrorContains(t, err, "Cursor and Key must tell all rows apart", "pages of %d", pageRows)
		f = newFeed[item](t)
		err = f.life(Config[item]{Path: path, Query: "SELECT * FROM t", Cursor: "name", Key: "id", PageRows: pageRows})
		require.ErrorContains(t, err, "Cursor and Key must tell all rows apart", "pages of %d", pageRows)
	}
	f := newFeed[item](t)
	require.ErrorContains(t, f.life(Config[item]{Path: path, Table: "t", Cursor: "id", Key: "name"}), "CREATE UNIQUE INDEX")
	// By rowid they are two.
	f = newFeed[item](t)
	require.NoError(t, f.life(Config[item]{Path: path, Table: "t", Cursor: "id", PageRows: 1}))
	require.Equal(t, []int64{1, 2, 2, 3}, ids(f.rows))
}

// Texts that a collation takes for the same are different cursors.
func TestCollations(t *testing.T) {
	t.Parallel()
	path := made(t, "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT COLLATE NOCASE)", "INSERT INTO t VALUES (1, 'b'), (2, 'A'), (3, 'a'), (4, 'B')")
	f := newFeed[item](t)
	f.stopAfter = 1
	for range 6 {
		require.NoError(t, f.life(Config[item]{Path: path, Table: "t", Cursor: "name", PageRows: 1}))
	}
	require.Equal(t, []int64{2, 4, 3, 1}, ids(f.rows))
}

// I1: a backfill has a position of its own.
func TestBackfill(t *testing.T) {
	t.Parallel()
	path := made(t, numbered, hundred)
	f := newFeed[item](t)
	live := Config[item]{Path: path, Table: "t", Cursor: "id"}
	require.NoError(t, f.life(live))
	at := f.held[""]
	f.rows = nil

	back := live
	back.Backfill, back.PageRows = Range{From: 10, To: 20}, 4
	f.stopAfter = 1
	for range 4 {
		require.NoError(t, f.life(back))
	}
	require.Equal(t, upTo(19)[9:], ids(f.rows), "half-open, once, over restarts")
	require.Equal(t, at, f.held[""], "I1: a backfill never touches the live cursor")
	f.stopAfter, f.rows = 0, nil
	require.NoError(t, f.life(back))
	require.Empty(t, f.rows, "it was read")
	back.Backfill.Name = "once more"
	require.NoError(t, f.life(back))
	require.Len(t, f.rows, 10)
	require.Equal(t, at, f.held[""])

	t.Run("of texts and times", func(t *testing.T) {
		path := made(t, "CREATE TABLE t (id INTEGER PRIMARY KEY, at TEXT)", "INSERT INTO t VALUES (1, '2025-01-01T00:00:00Z'), (2, '2025-01-02T00:00:00Z'), (3, '2025-01-02T00:00:00Z'), (4, '2025-01-03T00:00:00Z')")
		for _, r := range []Range{{From: "2025-01-02", To: "2025-01-03"}, {From: time.Date(2025, 1, 2, 0, 0, 0, 0, time.UTC), To: time.Date(2025, 1, 3, 0, 0, 0, 0, time.UTC)}} {
			f := newFeed[event](t)
			require.NoError(t, f.life(Config[event]{Path: path, Table: "t", Cursor: "at", Backfill: r, PageRows: 1}))
			require.Len(t, f.rows, 2)
		}
	})
}

// A later page must see what has come at its first value since the page before.
func TestRowsBetweenPages(t *testing.T) {
	t.Parallel()
	path := made(t, "CREATE TABLE t (id INTEGER PRIMARY KEY, at INTEGER NOT NULL)", "INSERT INTO t VALUES (10, 5), (20, 5), (30, 6)")
	s := New(Config[change]{Path: path, Table: "t", Cursor: "at", PageRows: 1})
	pages := 0
	s.afterPage = func() {
		switch pages++; pages {
		case 1:
			exec(t, path, "INSERT INTO t VALUES (5, 5), (15, 5)")
		case 4:
			exec(t, path, "INSERT INTO t VALUES (6, 5)")
		}
	}
	f := newFeed[change](t)
	require.NoError(t, f.lifeOf(s))
	require.Equal(t, []change{{10, 5}, {5, 5}, {15, 5}, {20, 5}, {6, 5}, {30, 6}}, f.rows)
}

// Reads hold no snapshot while the engine takes a page: the log can be reset.
func TestNoSnapshotWhileSending(t *testing.T) {
	t.Parallel()
	path := made(t, numbered, hundred)
	conn := connect(t, path)
	f := newFeed[item](t)
	n := 0
	f.onSend = func(leat.Chunk[item]) {
		n++
		require.NoError(t, sqlitex.ExecuteTransient(conn, fmt.Sprintf("UPDATE t SET name = name || 'x' WHERE id = %d", n), nil))
		require.NoError(t, sqlitex.ExecuteTransient(conn, "PRAGMA wal_checkpoint(TRUNCATE)", &sqlitex.ExecOptions{ResultFunc: func(stmt *sqlite.Stmt) error {
			require.Zero(t, stmt.ColumnInt(0), "a reader keeps the log from being reset")
			return nil
		}}))
	}
	require.NoError(t, f.life(Config[item]{Path: path, Table: "t", Cursor: "id", PageRows: 10}))
	require.Equal(t, upTo(100), ids(f.rows))
}

// B8: a lock is waited for, outside of the database.
func TestLocked(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	exec(t, path, numbered, hundred) // no WAL
	conn := connect(t, path)
	require.NoError(t, sqlitex.ExecuteTransient(conn, "BEGIN EXCLUSIVE", nil))
	c := Config[item]{Path: path, Table: "t", Cursor: "id", BusyTimeout: -1}
	f := newFeed[item](t)
	err := f.life(c)
	require.True(t, leat.IsTransient(err), "%v", err)
	require.NoError(t, sqlitex.ExecuteTransient(conn, "COMMIT", nil))
	require.NoError(t, f.life(c))
	require.Len(t, f.rows, 100)
}

// The file is not written to, and nothing is left beside it.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	exec(t, path, numbered, hundred)
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	f := newFeed[item](t)
	require.NoError(t, f.life(Config[item]{Path: path, Query: "SELECT * FROM t", Cursor: "id", Key: "id"}))
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.True(t, slices.Equal(before, after))
	for _, q := range []string{"DELETE FROM t RETURNING *", "SELECT 1; DELETE FROM t"} {
		require.Error(t, newFeed[item](t).life(Config[item]{Path: path, Query: q, Cursor: "id", Key: "id"}), q)
	}
}

// Polling sees what comes, also a database that takes the place of another.
func TestPolling(t *testing.T) {
	t.Parallel()
	path := made(t, numbered, hundred)
	f := newFeed[item](t)
	c := Config[item]{Path: path, Table: "t", Cursor: "id", Every: time.Millisecond}
	f.caught = func(n int) {
		switch n {
		case 1:
			exec(t, path, "INSERT INTO t VALUES (101, 'x')")
		case 2:
			exec(t, path, "CREATE TABLE u (a)", "INSERT INTO t VALUES (102, 'x')", "PRAGMA wal_checkpoint(TRUNCATE)")
		case 3: // a copy by rename
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(path+".new", b, 0o600))
			exec(t, path+".new", "INSERT INTO t VALUES (103, 'x')", "PRAGMA wal_checkpoint(TRUNCATE)")
			_ = os.Remove(path + "-wal")
			_ = os.Remove(path + "-shm")
			require.NoError(t, os.Rename(path+".new", path))
		case 4:
			exec(t, path, "DELETE FROM t")
		}
	}
	require.ErrorContains(t, f.life(c), "A2-1")
	require.Equal(t, upTo(103), ids(f.rows))
}

// The texts of messages are for people.
func TestClearErrors(t *testing.T) {
	t.Parallel()
	path := made(t, numbered, "CREATE VIEW v AS SELECT * FROM t", "CREATE TABLE other (id INTEGER PRIMARY KEY, title TEXT)", `CREATE TABLE "names ""quoted" (id INTEGER PRIMARY KEY, name TEXT)`)
	notADatabase := dbPath(t)
	require.NoError(t, os.WriteFile(notADatabase, []byte(strings.Repeat("no database ", 200)), 0o600))
	for name, c := range map[string]struct {
		config Config[item]
		want   []string
	}{
		"no file":               {Config[item]{Path: path + "x", Table: "t", Cursor: "id"}, []string{"v.dbx", "does not exist"}},
		"a folder":              {Config[item]{Path: t.TempDir(), Table: "t", Cursor: "id"}, []string{"is a folder"}},
		"not a database":        {Config[item]{Path: notADatabase, Table: "t", Cursor: "id"}, []string{"not a database"}},
		"no table":              {Config[item]{Path: path, Table: "nope", Cursor: "id"}, []string{"no table nope"}},
		"no column":             {Config[item]{Path: path, Table: "other", Cursor: "id"}, []string{`lacks columns of the row type sqlitesource.item: "name"`, `"title"`}},
		"no cursor column":      {Config[item]{Path: path, Table: "t", Cursor: "updated_at"}, []string{`no column "updated_at", which is in the Cursor`}},
		"no key column":         {Config[item]{Path: path, Table: "t", Cursor: "name", Key: "uuid"}, []string{`no column "uuid", which is in the Key`}},
		"query without cursor":  {Config[item]{Path: path, Query: "SELECT id, name FROM t", Cursor: "at", Key: "id"}, []string{`the query has no column "at"`}},
		"a query with a fault":  {Config[item]{Path: path, Query: "SELEC id FROM t", Cursor: "id", Key: "id"}, []string{"the query can't be read", "syntax error"}},
		"a view without Key":    {Config[item]{Path: path, Table: "v", Cursor: "id"}, []string{"give a Key"}},
		"a rowid that is a key": {Config[item]{Path: path, Table: `names "quoted`, Cursor: "oid"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := newFeed[item](t).life(c.config)
			if c.want == nil {
				require.NoError(t, err)
				return
			}
			for _, w := range c.want {
				require.ErrorContains(t, err, w)
			}
			require.False(t, leat.IsTransient(err))
		})
	}
}

// A schema that changes while it is read.
func TestSchemaChanges(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change string
		want   string
	}{
		"a column more":             {"ALTER TABLE t ADD COLUMN extra TEXT", ""},
		"an index":                  {"CREATE INDEX t_name ON t (name)", ""},
		"a column less":             {"ALTER TABLE t DROP COLUMN name", `lacks columns of the row type sqlitesource.item: "name"`},
		"a column with a new name":  {"ALTER TABLE t RENAME COLUMN name TO title", `lacks columns of the row type sqlitesource.item: "name"`},
		"the table is gone":         {"DROP TABLE t", "no table t"},
		"the table has another key": {"DROP TABLE t; CREATE TABLE t (id TEXT, name TEXT)", "its schema has changed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := made(t, numbered, hundred)
			s := New(Config[item]{Path: path, Table: "t", Cursor: "id", PageRows: 50})
			pages := 0
			s.afterPage = func() {
				if pages++; pages == 1 {
					exec(t, path, strings.Split(c.change, "; ")...)
				}
			}
			f := newFeed[item](t)
			err := f.lifeOf(s)
			if c.want == "" {
				require.NoError(t, err)
				require.Equal(t, upTo(100), ids(f.rows))
				return
			}
			require.ErrorContains(t, err, c.want)
			require.Len(t, f.rows, 50)
		})
	}
}

func TestIndexAdvice(t *testing.T) {
	t.Parallel()
	path := made(t, "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, at INTEGER)", "CREATE TABLE w (id INTEGER, name TEXT, PRIMARY KEY (name, id)) WITHOUT ROWID")
	advice := func(c Config[item]) string {
		c.Path = path
		f := newFeed[item](t)
		require.NoError(t, f.life(c))
		require.NoError(t, f.life(c))
		return f.log.String()
	}
	log := advice(Config[item]{Table: "t", Cursor: "at"})
	require.Contains(t, log, `CREATE INDEX \"t_cursor\" ON \"t\" (\"at\")`)
	require.Equal(t, 2, strings.Count(log, "CREATE INDEX"), "once in each of two lives")
	require.Contains(t, advice(Config[item]{Table: "w", Cursor: "id"}), `CREATE INDEX \"w_cursor\" ON \"w\" (\"id\", \"name\")`)
	require.Empty(t, advice(Config[item]{Table: "t", Cursor: "id"}))
	require.Empty(t, advice(Config[item]{Table: "t", Cursor: "rowid"}))
	require.Empty(t, advice(Config[item]{Table: "w", Cursor: "name, id"}))
	require.Contains(t, advice(Config[item]{Query: "SELECT * FROM t", Cursor: "at", Key: "id"}), "ORDER BY")
	exec(t, path, "CREATE INDEX t_at ON t (at)", "CREATE INDEX w_id ON w (id)")
	require.Empty(t, advice(Config[item]{Table: "t", Cursor: "at"}))
	require.Empty(t, advice(Config[item]{Table: "w", Cursor: "id"}))
	require.Empty(t, advice(Config[item]{Query: "SELECT * FROM t", Cursor: "id", Key: "id"}))
	require.Empty(t, advice(Config[item]{Query: "SELECT * FROM t", Cursor: "at", Key: "id"}))
}

// A2: the rows that are waited for by a cancelled context are read by the next life.
func TestCancel(t *testing.T) {
	t.Parallel()
	f := newFeed[item](t)
	f.stopAfter = 1
	s := New(Config[item]{Path: made(t, numbered, hundred), Table: "t", Cursor: "id", PageRows: 10, Every: time.Hour})
	require.NoError(t, f.lifeOf(s))
	require.Len(t, f.rows, 10)
}
