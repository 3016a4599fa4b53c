package sqlitesource

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/sink/parquetsink"
	"github.com/leatgo/leat/sink/sqlitesink"
)

type fila struct {
	ID   int64 `leat:"id"`
	Name string
}

// E8, A2-2: over rewinds in the middle, an append-only table gives each row once; any other
// gives none too few.
func TestRewinds(t *testing.T) {
	t.Parallel()
	for _, appendOnly := range []bool{true, false} {
		t.Run(fmt.Sprint("append only ", appendOnly), func(t *testing.T) {
			t.Parallel()
			db := made(t, numbered, hundred)
			dir := t.TempDir()
			slow, fast := leattest.Collect[fila]().Named("slow"), leattest.Collect[fila]().Named("fast")
			slow.FailCommit(2, leat.ErrAborted).FailCommit(4, leat.ErrAborted).FailWrite(20, leat.ErrAborted)
			c := quiet(dir)
			c.CheckpointEvery = time.Millisecond
			p := leat.New("read", c)
			leat.To(leat.From(p, New(Config[fila]{Path: db, Table: "t", Cursor: "id", PageRows: 3, AppendOnly: appendOnly})), slow, fast)
			require.NoError(t, p.Run(t.Context()))
			for _, s := range []*leattest.Collector[fila]{slow, fast} {
				var got []int64
				seen := map[int64]bool{}
				for _, r := range s.Committed() {
					got = append(got, r.ID)
					seen[r.ID] = true
				}
				require.Len(t, seen, 100, "A3: nothing is lost")
				if appendOnly {
					require.Equal(t, upTo(100), got, "E7: nothing comes twice")
				}
			}
		})
	}
}

// Polls come in time, in virtual time, and a cancel ends the wait.
func TestEvery(t *testing.T) {
	t.Parallel()
	db := made(t, numbered, hundred)
	synctest.Test(t, func(t *testing.T) {
		f := newFeed[item](t)
		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()
		f.caught = func(n int) {
			if n == 2 {
				cancel()
			}
		}
		go func() {
			time.Sleep(150 * time.Minute)
			exec(t, db, "INSERT INTO t VALUES (101, 'x')")
		}()
		err := New(Config[item]{Path: db, Table: "t", Cursor: "id", Every: time.Hour}).run(ctx, f)
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, 3*time.Hour, time.Since(start))
		require.Len(t, f.rows, 101)
		synctest.Wait()
	})
}

// Into sinks that have transactions of their own, with keys below zero.
func TestIntoSinks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	db := made(t, numbered, hundred, "INSERT INTO t VALUES (-3, 'x'), (0, 'y')")
	for i, more := range []string{"SELECT 1", "INSERT INTO t VALUES (101, 'z')", "SELECT 1"} {
		exec(t, db, more)
		c := quiet(dir)
		c.Require = leat.ExactlyOnce
		p := leat.New("copy", c)
		leat.To(leat.From(p, New(Config[fila]{Path: db, Name: "in", Table: "t", Cursor: "id", AppendOnly: true})),
			sqlitesink.New(sqlitesink.Config[fila]{Path: filepath.Join(dir, "out.db"), Table: "t"}),
			parquetsink.New(parquetsink.Config[fila]{Dir: filepath.Join(dir, "lake")}))
		require.NoError(t, p.Run(t.Context()), i)
	}
	f := newFeed[item](t)
	require.NoError(t, f.life(Config[item]{Path: filepath.Join(dir, "out.db"), Table: "t", Cursor: "rowid"}))
	require.Equal(t, append([]int64{-3, 0}, upTo(101)...), ids(f.rows))
}

// E5: what Check makes of it.
func TestGuarantee(t *testing.T) {
	t.Parallel()
	for _, appendOnly := range []bool{true, false} {
		c := quiet(t.TempDir())
		c.Require = leat.ExactlyOnce
		p := leat.New("copy", c)
		leat.To(leat.From(p, New(Config[fila]{Path: "x.db", Table: "t", Cursor: "id", AppendOnly: appendOnly})), leattest.Collect[fila]())
		if err := p.Check(); appendOnly {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, "once")
		}
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	type bad struct {
		ID int64
		M  map[string]int
	}
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"no path":                    {New(Config[fila]{Table: "t", Cursor: "id"}).Validate(), "Path is empty"},
		"in memory":                  {New(Config[fila]{Path: ":memory:", Table: "t", Cursor: "id"}).Validate(), "path of a file"},
		"nothing to read":            {New(Config[fila]{Path: "x", Cursor: "id"}).Validate(), "no Table"},
		"two things to read":         {New(Config[fila]{Path: "x", Table: "t", Query: "q", Cursor: "id", Key: "id"}).Validate(), "one of them"},
		"no cursor":                  {New(Config[fila]{Path: "x", Table: "t"}).Validate(), "Cursor is empty"},
		"a cursor twice":             {New(Config[fila]{Path: "x", Table: "t", Cursor: "id, id"}).Validate(), "there twice"},
		"an empty name":              {New(Config[fila]{Path: "x", Table: "t", Cursor: "id,"}).Validate(), "is empty"},
		"query without key":          {New(Config[fila]{Path: "x", Query: "q", Cursor: "id"}).Validate(), "needs a Key"},
		"overlap of no time":         {New(Config[fila]{Path: "x", Table: "t", Cursor: "id", Overlap: 1}).Validate(), "OverlapUnits"},
		"two overlaps":               {New(Config[event]{Path: "x", Table: "t", Cursor: "at", Overlap: 1, OverlapUnits: 1}).Validate(), "one of them"},
		"append only, overlap":       {New(Config[fila]{Path: "x", Table: "t", Cursor: "id", OverlapUnits: 1, AppendOnly: true}).Validate(), "no row comes late"},
		"append only, two columns":   {New(Config[fila]{Path: "x", Table: "t", Cursor: "id, name", AppendOnly: true}).Validate(), "one column"},
		"append only, query":         {New(Config[fila]{Path: "x", Query: "q", Cursor: "id", Key: "name", AppendOnly: true}).Validate(), "unique Cursor"},
		"backfill without end":       {New(Config[fila]{Path: "x", Table: "t", Cursor: "id", Backfill: Range{From: 1}}).Validate(), "Backfill.To"},
		"backfill of a wrong type":   {New(Config[fila]{Path: "x", Table: "t", Cursor: "id", Backfill: Range{To: struct{}{}}}).Validate(), "no value of a cursor"},
		"backfill, time of no time":  {New(Config[fila]{Path: "x", Table: "t", Cursor: "id", Backfill: Range{To: time.Now()}}).Validate(), "give a string"},
		"backfill that polls":        {New(Config[fila]{Path: "x", Table: "t", Cursor: "id", Backfill: Range{To: 1}, Every: 1}).Validate(), "no Every"},
		"negative":                   {New(Config[fila]{Path: "x", Table: "t", Cursor: "id", Every: -1, PageRows: -1}).Validate(), "negative"},
		"a type that can't be read":  {New(Config[bad]{Path: "x", Table: "t", Cursor: "id"}).Validate(), "UnmarshalText"},
		"a type that is no row":      {New(Config[int]{Path: "x", Table: "t", Cursor: "id"}).Validate(), "not a struct"},
		"a backfill with an overlap": {New(Config[fila]{Path: "x", Table: "t", Cursor: "id", Backfill: Range{To: 1}, OverlapUnits: 1}).Validate(), "no Overlap"},
	} {
		require.ErrorContains(t, c.err, c.want, name)
	}
	require.NoError(t, New(Config[fila]{Path: "x", Table: "t", Cursor: "id"}).Validate())
	require.Equal(t, "t", New(Config[fila]{Table: "t"}).Name())
	require.Equal(t, "t-backfill", New(Config[fila]{Table: "t", Backfill: Range{To: 1}}).Name())
	require.Equal(t, "sqlite", New(Config[fila]{Query: "q"}).Name())
	require.Error(t, newFeed[fila](t).life(Config[fila]{}), "Run validates too")
	require.False(t, errors.Is(New(Config[fila]{}).Validate(), context.Canceled))
}
