package lake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
)

func TestCommitted(t *testing.T) {
	t.Parallel()
	t.Run("E1: rows and positions are committed together", func(t *testing.T) {
		t.Parallel()
		dir := filepath.Join(t.TempDir(), "a", "lago")
		s := opened(t, byP(dir), env())
		assert.Zero(t, heldBy(t, s))
		put(t, s, 0, 10)
		commit(t, s, 10)
		put(t, s, 10, 20)
		commit(t, s, 20)
		require.NoError(t, s.Close())
		require.NoError(t, s.Close(), "a second Close does nothing")
		whole(t, dir, 20)
		tidyTree(t, dir)
		s = opened(t, byP(dir), env())
		assert.Equal(t, int64(20), heldBy(t, s))
		files, err := Files(dir)
		require.NoError(t, err)
		assert.Equal(t, "p=a/ventas-2-0.txt", files[0].Path)
		assert.Equal(t, "p=b/ventas-2-1.txt", files[1].Path)
		assert.Equal(t, "p=b/ventas-3-10.txt", files[3].Path)
		assert.Equal(t, FileInfo{Path: "p=a/ventas-2-0.txt", Bytes: 8, Rows: 4, Checksum: files[0].Checksum, Pipeline: "ventas", Sink: "lago", Seq: 2, Schema: "id", since: 2}, files[0])
	})
	t.Run("Close discards what is not committed", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		s := opened(t, byP(dir), env())
		put(t, s, 0, 10)
		commit(t, s, 10)
		put(t, s, 10, 30)
		require.NoError(t, s.Close())
		tidyTree(t, dir)
		s = opened(t, byP(dir), env())
		assert.Equal(t, int64(10), heldBy(t, s))
		put(t, s, 10, 30)
		commit(t, s, 30)
		whole(t, dir, 30)
	})
	t.Run("E7: positions never step back, and those of others stay", func(t *testing.T) {
		t.Parallel()
		s := opened(t, config(t.TempDir()), env())
		commit(t, s, 10)
		commit(t, s, 5)
		assert.Equal(t, int64(10), heldBy(t, s))
		before := s.w.st.seq
		commit(t, s, 10)
		assert.Equal(t, before, s.w.st.seq, "nothing moved: no entry")
		done, err := s.Commit(t.Context(), leat.Checkpoint{Force: true, Positions: map[string]leat.Position{"src": {Next: 3, Log: "new log"}}})
		require.NoError(t, err)
		require.True(t, done)
		assert.Equal(t, int64(3), heldBy(t, s), "another offset space after a reset")
	})
	t.Run("names that no JSON string holds", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		e := leat.Env{Pipeline: "v\xff/..", Node: "..\xfe"}
		at := map[string]leat.Position{"\xff": {Next: 7, Resume: "\xfd", Log: "l"}, "": {Next: 1}}
		s := opened(t, config(dir), e)
		_, err := s.Restore(t.Context(), []string{"\xff", "", "\xff"})
		require.NoError(t, err)
		require.NoError(t, s.write(t.Context(), "\xff", numbered(0, 2), func(int) leat.Offset { return 0 }))
		_, err = s.Commit(t.Context(), leat.Checkpoint{Positions: at, Force: true})
		require.NoError(t, err)
		require.NoError(t, s.Close())
		got, err := opened(t, config(dir), e).Restore(t.Context(), []string{"\xff", ""})
		require.NoError(t, err)
		assert.Equal(t, at, got)
		whole(t, dir, 2)
		tidyTree(t, dir)
	})
	t.Run("a root that is a symbolic link", func(t *testing.T) {
		t.Parallel()
		real := t.TempDir()
		link := filepath.Join(t.TempDir(), "link")
		require.NoError(t, os.Symlink(real, link))
		s := opened(t, byP(link), env())
		put(t, s, 0, 5)
		commit(t, s, 5)
		whole(t, real, 5)
	})
	t.Run("F2: event times and schema are in the manifest", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		c := byP(dir)
		c.EventTime = func(r fila) time.Time { return r.At }
		s := opened(t, c, env())
		day := time.Date(2025, 3, 1, 0, 0, 0, 0, time.UTC)
		require.NoError(t, putRows(s, []fila{{0, "a", day.Add(2)}, {1, "a", day}, {2, "b", time.Time{}}, {3, "c", day.AddDate(9000, 0, 0)}, {4, "a", time.Time{}}}))
		commit(t, s, 5)
		files, err := Files(dir)
		require.NoError(t, err)
		require.Len(t, files, 3)
		assert.Equal(t, []time.Time{day, day.Add(2)}, []time.Time{files[0].MinTime, files[0].MaxTime})
		assert.False(t, files[1].HasTimes(), "no row has a time")
		assert.False(t, files[2].HasTimes(), "a time that can't be written")
		require.NoError(t, putRows(s, []fila{{5, "a", day.Add(5)}}))
		require.NoError(t, putRows(s, []fila{{6, "a", day.Add(4)}}))
		commit(t, s, 7)
		files, err = Files(dir)
		require.NoError(t, err)
		assert.Equal(t, []time.Time{day.Add(4), day.Add(5)}, []time.Time{files[3].MinTime, files[3].MaxTime}, "of this file alone")
	})
}

func TestRejects(t *testing.T) {
	t.Parallel()
	t.Run("B5, A9, F6: faulty rows are named, and nothing of the batch is written", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		c := byP(dir)
		c.Partition = append(c.Partition, Partition[fila]{"q", func(r fila) string {
			if r.ID == 3 {
				panic("user code")
			}
			return "x"
		}})
		s := opened(t, c, env())
		rows := []fila{{0, "a", time.Time{}}, {-1, "a", time.Time{}}, {2, strings.Repeat("ñ", 50), time.Time{}}, {3, "b", time.Time{}}, {4, "b", time.Time{}}}
		err := putRows(s, rows)
		var re *leat.RowErrors
		require.ErrorAs(t, err, &re)
		require.Len(t, re.Rows, 3)
		assert.Equal(t, []int{1, 2, 3}, []int{re.Rows[0].Row, re.Rows[1].Row, re.Rows[2].Row})
		assert.ErrorContains(t, re.Rows[1].Err, "name of 302 bytes")
		assert.ErrorContains(t, re.Rows[2].Err, "user code")
		var field interface{ Field() (string, string) }
		require.ErrorAs(t, re.Rows[1].Err, &field)
		column, rule := field.Field()
		assert.Equal(t, "p partition", column+" "+rule)
		require.NoError(t, putRows(s, []fila{rows[0], {1, "a", time.Time{}}, {2, "c", time.Time{}}, {3 + 1 - 1 + 1, "b", time.Time{}}}))
		require.NoError(t, putRows(s, []fila{{5, "a", time.Time{}}}))
		commit(t, s, 5)
		assert.Equal(t, []int64{0, 1, 5, 2, 4}, content(t, dir))
	})
	t.Run("A9: EventTime may panic", func(t *testing.T) {
		t.Parallel()
		c := config(t.TempDir())
		c.EventTime = func(r fila) time.Time {
			if r.ID%2 == 1 {
				panic("user code")
			}
			return r.At
		}
		s := opened(t, c, env())
		var re *leat.RowErrors
		require.ErrorAs(t, putRows(s, numbered(0, 6)), &re)
		require.Len(t, re.Rows, 3)
		assert.Equal(t, 5, re.Rows[2].Row)
		assert.Empty(t, s.open)
	})
}

func TestNames(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ value, folder string }{
		{"2025-01-01", "p=2025-01-01"},
		{"", "p=__HIVE_DEFAULT_PARTITION__"},
		{"__HIVE_DEFAULT_PARTITION__", "p=%5F_HIVE_DEFAULT_PARTITION__"}, // DuckDB 2.0 and Spark take it for null as it is
		{"NULL", "p=%4EULL"},                                             // and DuckDB 1.1 these
		{"null", "p=%6Eull"},
		{"nulls", "p=nulls"},
		{".", "p=%2E"},
		{"..", "p=.%2E"},
		{"../../etc", "p=..%2F..%2Fetc"},
		{"/abs", "p=%2Fabs"},
		{`a\b`, "p=a%5Cb"},
		{"a\x00b\n", "p=a%00b%0A"},
		{"año nuevo", "p=a%C3%B1o%20nuevo"},
		{"100%", "p=100%25"},
		{"a=b:c", "p=a%3Db%3Ac"},
		{"\xff", "p=%FF"},
		{strings.Repeat("x", 253), "p=" + strings.Repeat("x", 253)},
	} {
		t.Run(fmt.Sprintf("F6: %q", tc.value), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := opened(t, byP(dir), env())
			require.NoError(t, putRows(s, []fila{{0, tc.value, time.Time{}}}))
			commit(t, s, 1)
			assert.FileExists(t, filepath.Join(dir, tc.folder, "ventas-2-0.txt"))
			whole(t, dir, 1)
		})
	}
	t.Run("pipelines", func(t *testing.T) {
		t.Parallel()
		assert.Equal(t, "a%2Fb", filePrefix("a/b"))
		assert.Equal(t, "%2Ea", filePrefix(".a"))
		assert.Equal(t, "%5Fa", filePrefix("_a"))
		assert.Len(t, filePrefix(strings.Repeat("ñ", 100)), 120)
		assert.NotEqual(t, owner{"a.b", "c"}.id(), owner{"a", "b.c"}.id())
		a, b := owner{"a", "b"}, owner{text("a.b." + owner{"a", "b"}.id()), "c"}
		m := newMember()
		require.True(t, isMember(m), m)
		for _, tc := range []struct{ name, member, ext string }{
			{lockName(a, m), m, lockExt}, {tmpName(a, m, 1), m, tmpExt}, {pendingName(a, m), m, pendingExt},
			{lockName(a, veteran), veteran, lockExt}, {"/." + a.id() + ".5-12.tmp", veteran, tmpExt}, {"/.0000000000000007." + a.id() + ".pending", veteran, pendingExt},
		} {
			member, ext, ok := splitOwn(filepath.Base(tc.name), a)
			assert.True(t, ok, tc.name)
			assert.Equal(t, []string{tc.member, tc.ext}, []string{member, ext})
			for _, other := range []owner{b, compactor} {
				_, _, ok = splitOwn(filepath.Base(tc.name), other)
				assert.False(t, ok, tc.name)
			}
		}
		for _, name := range []string{"0000000000000007.json", "x", "." + a.id() + ".x-1.tmp", "." + a.id() + "." + m + "-x.tmp", "." + a.id() + "." + m + ".lock", a.id() + "." + m + "-1.tmp", "x." + a.id() + ".lock"} {
			_, _, ok := splitOwn(name, a)
			assert.False(t, ok, name)
		}
	})
	t.Run("two levels", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		c := byP(dir)
		c.Partition = []Partition[fila]{{"p", func(r fila) string { return r.P[:r.ID] }}, {"q", func(r fila) string { return r.P[r.ID:] }}}
		s := opened(t, c, env())
		require.NoError(t, putRows(s, []fila{{0, "abc", time.Time{}}, {1, "abc", time.Time{}}, {2, "abc", time.Time{}}, {1, "abc", time.Time{}}}))
		commit(t, s, 3)
		data, _ := tree(t, dir)
		assert.Equal(t, []string{"p=__HIVE_DEFAULT_PARTITION__/q=abc/ventas-2-0.txt", "p=a/q=bc/ventas-2-1.txt", "p=ab/q=c/ventas-2-2.txt"}, data)
		assert.Equal(t, []int64{0, 1, 1, 2}, content(t, dir))
	})
	for _, hard := range []bool{true, false} {
		t.Run(fmt.Sprintf("a name that is taken in the last moment; hard links: %v", hard), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := opened(t, byP(dir), env())
			put(t, s, 0, 9)
			calls := 0
			s.w.hook.link = func(root *os.Root, old, name string) error {
				if calls++; calls == 3 {
					require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("foreign"), 0o600))
				}
				if !hard {
					return &os.LinkError{Op: "link", Err: syscall.EPERM}
				}
				return root.Link(old, name)
			}
			commit(t, s, 9)
			require.NoError(t, s.Close())
			require.Equal(t, 7, calls, "all of them again, and the entry")
			whole(t, dir, 9)
			data, manifest := tree(t, dir)
			assert.Equal(t, []string{"p=a/ventas-2-0.txt", "p=b/ventas-2-1.txt", "p=c/ventas-2-2.2.txt", "p=c/ventas-2-2.txt"}, data)
			assert.Len(t, manifest, 2, "two entries")
			foreign, err := os.ReadFile(filepath.Join(dir, "p=c/ventas-2-2.txt"))
			require.NoError(t, err)
			assert.Equal(t, "foreign", string(foreign))
		})
	}
	t.Run("two sinks of one pipeline never take each other's name", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		a, b := opened(t, config(dir), env()), opened(t, config(dir), leat.Env{Pipeline: "ventas", Node: "otro"})
		put(t, a, 0, 2)
		b.w.hook.link = func(root *os.Root, old, name string) error {
			b.w.hook.link = (*os.Root).Link
			commit(t, a, 2) // a is quicker
			return root.Link(old, name)
		}
		require.NoError(t, b.write(t.Context(), "src", numbered(2, 4), func(int) leat.Offset { return 0 }))
		commit(t, b, 4)
		files, err := Files(dir)
		require.NoError(t, err)
		assert.Equal(t, []string{"ventas-3-0.txt", "ventas-4-0.2.txt"}, []string{files[0].Path, files[1].Path})
		whole(t, dir, 4)
		tidyTree(t, dir)
	})
}

func TestFaults(t *testing.T) {
	t.Parallel()
	value := func(fila) string { return "" }
	c := Config[fila]{Dir: "", MaxOpen: -1, Buffer: -5, Roll: Roll{Bytes: -2, Rows: -2, Age: -2, Idle: -2}, Partition: []Partition[fila]{
		{"", value}, {"a", value}, {"a", value}, {"a/b", value}, {"a=b", value}, {"b", nil}, {"_x", value}, {".x", value}, {"\xff", value}, {strings.Repeat("x", 65), value},
	}}
	err := errors.Join(c.Faults()...)
	for _, want := range []string{"Dir is empty", "PartitionBy[0]: the name \"\" is empty", "PartitionBy[2]: the name \"a\" is there twice", `"a/b" holds '/'`, `"a=b" holds '='`,
		"(b): Value is nil", `"_x" begins`, `".x" begins`, "not UTF-8", "longer than 64", "Roll.Bytes is -2", "Roll.Rows is -2", "Roll.Age is -2", "Roll.Idle is -2", "MaxOpen is -1", "Buffer is -5"} {
		assert.ErrorContains(t, err, want)
	}
	assert.ErrorContains(t, errors.Join((&Config[fila]{Dir: "a\x00"}).Faults()...), "zero byte")
	assert.ErrorContains(t, errors.Join((&Config[fila]{Dir: "a/_leat/"}).Faults()...), "manifest's folder")
	assert.Empty(t, (&Config[fila]{Dir: ".", Roll: Roll{-1, -1, -1, -1}}).Faults())
	assert.ErrorContains(t, New(Config[fila]{Kind: "linesink"}).Open(t.Context(), env()), "linesink: Dir is empty")
}

// F4 in virtual time.
func TestRoll(t *testing.T) {
	t.Parallel()
	virtual := func(name string, roll Roll, f func(t *testing.T, s *Sink[fila])) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := byP(t.TempDir())
				c.Roll = roll
				f(t, opened(t, c, env()))
			})
		})
	}
	virtual("F4: idle", Roll{}, func(t *testing.T, s *Sink[fila]) {
		for i := range int64(5) {
			put(t, s, i, i+1)
			time.Sleep(1900 * time.Millisecond)
			notYet(t, s, i+1)
		}
		time.Sleep(200 * time.Millisecond)
		yes(t, s, 5)
	})
	virtual("F4: age", Roll{Idle: -1}, func(t *testing.T, s *Sink[fila]) {
		put(t, s, 0, 1)
		time.Sleep(59 * time.Second)
		notYet(t, s, 1)
		put(t, s, 1, 2)
		time.Sleep(time.Second)
		yes(t, s, 2)
		put(t, s, 2, 3)
		notYet(t, s, 3) // the age begins anew
	})
	virtual("F4: limits that are off", Roll{Bytes: -1, Rows: -1, Age: -1, Idle: -1}, func(t *testing.T, s *Sink[fila]) {
		put(t, s, 0, 1)
		time.Sleep(24 * time.Hour)
		notYet(t, s, 1)
		commit(t, s, 1)
		require.NoError(t, s.Close()) // E8: a rewind
		require.NoError(t, openTaking(s, env()))
		put(t, s, 1, 2)
		time.Sleep(24 * time.Hour)
		notYet(t, s, 2)
	})
	virtual("F4: rows; a full file is closed at once and committed later", Roll{Rows: 4}, func(t *testing.T, s *Sink[fila]) {
		put(t, s, 0, 9)
		assert.Len(t, s.open, 3)
		put(t, s, 9, 12)
		assert.Empty(t, s.open)
		assert.Len(t, s.done, 3)
		yes(t, s, 12)
	})
	virtual("F4: bytes", Roll{Bytes: 4}, func(t *testing.T, s *Sink[fila]) {
		put(t, s, 0, 3)
		notYet(t, s, 3)
		put(t, s, 3, 4)
		assert.Len(t, s.done, 1)
		yes(t, s, 4) // F3: with the other two, which were open
	})
	virtual("F4: caught up", Roll{}, func(t *testing.T, s *Sink[fila]) {
		put(t, s, 0, 1)
		cp := upTo(1)
		cp.CaughtUp = true
		done, err := s.Commit(t.Context(), cp)
		require.NoError(t, err)
		assert.True(t, done)
	})
	virtual("positions alone are committed now and then", Roll{}, func(t *testing.T, s *Sink[fila]) {
		entries := s.w.st.seq
		for i := range int64(600) { // ten minutes
			time.Sleep(time.Second)
			_, err := s.Commit(t.Context(), upTo(i+1))
			require.NoError(t, err)
		}
		assert.Equal(t, int64(10), s.w.st.seq-entries)
		assert.Equal(t, int64(600), heldBy(t, s))
	})
}

func TestBounds(t *testing.T) {
	t.Parallel()
	t.Run("F4: MaxOpen closes the file used least recently", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		c := byP(dir)
		c.MaxOpen = 2
		s := opened(t, c, env())
		for id, p := range []string{"a", "b", "a", "c", "a", "b"} {
			require.NoError(t, putRows(s, []fila{{int64(id), p, time.Time{}}}))
			assert.LessOrEqual(t, len(s.open), 2)
		}
		var finished []string
		for _, o := range s.done {
			finished = append(finished, o.dir)
		}
		assert.Equal(t, []string{"p=b", "p=c"}, finished)
		yes(t, s, 6) // so that closed files don't pile up
		whole(t, dir, 6)
	})
	t.Run("F8: values that make no folder are not remembered", func(t *testing.T) {
		t.Parallel()
		s := opened(t, byP(t.TempDir()), env())
		for id := range int64(100) {
			require.Error(t, putRows(s, []fila{{id, fmt.Sprint(id, strings.Repeat("x", 100_000)), time.Time{}}}))
		}
		require.Empty(t, s.groups)
	})
	t.Run("F8: Buffer flushes the file that holds most", func(t *testing.T) {
		t.Parallel()
		c := byP(t.TempDir())
		c.Buffer = 100
		s := opened(t, c, env())
		for id := range int64(1000) {
			p := "small"
			if id%4 > 0 {
				p = "large"
			}
			require.NoError(t, putRows(s, []fila{{id, p, time.Time{}}}))
			sum := int64(0)
			for o := range s.open {
				sum += o.enc.Buffered()
			}
			require.LessOrEqual(t, sum, int64(100))
			require.Equal(t, sum, s.buffered)
		}
		commit(t, s, 1000)
		whole(t, s.w.dir, 1000)
	})
}

// A1: nothing is allocated per row. Not parallel: it counts allocations.
func TestAllocations(t *testing.T) {
	c := byP(t.TempDir())
	c.Roll = Roll{-1, -1, -1, -1}
	c.Format = func() (Format[fila], error) { return quiet{}, nil }
	s := opened(t, c, env())
	rows := numbered(0, 4096)
	offset := func(int) leat.Offset { return 0 }
	require.NoError(t, s.write(t.Context(), "src", rows, offset))
	n := testing.AllocsPerRun(50, func() { _ = s.write(t.Context(), "src", rows, offset) })
	assert.Less(t, n, 20.0)
}

// quiet is a format that does nothing.
type quiet struct{}

func (quiet) Prepare([]fila) []leat.RowError { return nil }
func (quiet) Ext() string                    { return ".txt" }
func (quiet) Schema() string                 { return "" }

func (quiet) Create(io.Writer) (File, error) { return quietFile{}, nil }

type quietFile struct{ nothing }

func (quietFile) Append([]int32) error { return nil }
func (quietFile) Size() int64          { return 0 }
func (quietFile) Buffered() int64      { return 0 }

func BenchmarkRoute(b *testing.B) {
	for name, c := range map[string]Config[fila]{"flat": config(b.TempDir()), "by p": byP(b.TempDir())} {
		b.Run(name, func(b *testing.B) {
			c.Format = func() (Format[fila], error) { return quiet{}, nil }
			s := opened(b, c, env())
			rows := numbered(0, 4096)
			for b.Loop() {
				s.route(rows)
			}
			b.ReportMetric(float64(b.N)*4096/b.Elapsed().Seconds()/1e6, "Mrows/s")
		})
	}
}

func TestOwners(t *testing.T) {
	t.Parallel()
	t.Run("several owners share a lake, each with its own positions", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		a, b := opened(t, byP(dir), env()), opened(t, byP(dir), leat.Env{Pipeline: "compras", Node: "lago"})
		for i := range int64(5) {
			put(t, a, 20*i, 20*i+10)
			put(t, b, 20*i+10, 20*i+20)
			commit(t, b, 20*i+20)
			commit(t, a, 20*i+10)
		}
		put(t, b, 100, 110) // stays open
		assert.Equal(t, int64(90), heldBy(t, a))
		assert.Equal(t, int64(100), heldBy(t, b))
		whole(t, dir, 100)
		require.NoError(t, a.Close())
		a = opened(t, byP(dir), env())
		assert.Equal(t, int64(90), heldBy(t, a))
		commit(t, b, 110) // F5: the other's start has not touched its open files
		whole(t, dir, 110)
	})
	t.Run("E3, E2: who takes a partition over fences the one that had it", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		old := opened(t, byP(dir), env())
		put(t, old, 0, 10)
		commit(t, old, 10)
		put(t, old, 10, 20)
		young := opened(t, byP(dir), env())
		assert.Equal(t, int64(10), heldBy(t, young))
		put(t, young, 10, 15)
		_, err := old.Commit(t.Context(), forced(20))
		require.ErrorIs(t, err, leat.ErrFenced)
		require.ErrorContains(t, err, `["src"]`)
		require.ErrorContains(t, err, "in epoch 1, when epoch 2 had begun")
		assert.ErrorIs(t, putRows(old, numbered(20, 21)), leat.ErrAborted)
		require.NoError(t, old.Close())
		commit(t, young, 15)
		whole(t, dir, 15)
		require.NoError(t, young.Close())
		tidyTree(t, dir)
	})
	t.Run("E3: fenced between the check and the entry", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		old := opened(t, byP(dir), env())
		put(t, old, 0, 10)
		var young *Sink[fila]
		old.w.hook.link = func(root *os.Root, from, to string) error {
			if young == nil {
				young = opened(t, byP(dir), env())
			}
			return root.Link(from, to)
		}
		_, err := old.Commit(t.Context(), forced(10))
		require.ErrorIs(t, err, leat.ErrFenced)
		assert.Zero(t, heldBy(t, young))
		require.NoError(t, old.Close())
		tidyTree(t, dir) // what was placed is taken back at once
		put(t, young, 0, 10)
		commit(t, young, 10)
		whole(t, dir, 10)
	})
	t.Run("E3: where there are no locks, a member that is taken for dead goes on", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		old := opened(t, byP(dir), env())
		put(t, old, 0, 10)
		var young *Sink[fila]
		old.w.hook.link = func(root *os.Root, from, to string) error {
			if young == nil {
				require.NoError(t, os.Remove(filepath.Join(dir, lockName(old.w.owner, old.w.member))))
				young = opened(t, byP(dir), env())
			}
			return root.Link(from, to)
		}
		_, err := old.Commit(t.Context(), forced(10))
		require.NoError(t, err, "the other one has rolled the pending entry forward")
		assert.Equal(t, int64(10), heldBy(t, young))
		whole(t, dir, 10)
		put(t, old, 10, 20)
		_, err = old.Commit(t.Context(), forced(20))
		require.ErrorIs(t, err, leat.ErrFenced)
	})
}

func TestDiskErrors(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("errors of unix")
	}
	for _, tc := range []struct {
		name    string
		err     error
		passing bool
	}{
		{"no space", syscall.ENOSPC, true}, {"quota", syscall.EDQUOT, true}, {"I/O error", syscall.EIO, true},
		{"too many files", syscall.EMFILE, true}, {"read only", syscall.EROFS, false}, {"a bug", errors.New("a bug"), false},
	} {
		for _, at := range []string{"write", "sync"} {
			t.Run("E8: "+tc.name+" at "+at+" of a full file", func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				c := byP(dir)
				c.Roll.Rows = 5
				s := opened(t, c, env())
				put(t, s, 0, 3)
				commit(t, s, 3)
				broken := true
				s.w.hook.write = func(f *os.File, b []byte) (int, error) {
					if broken && at == "write" {
						n, _ := f.Write(b[:len(b)/2])
						return n, tc.err
					}
					return f.Write(b)
				}
				s.w.hook.sync = func(f *os.File) error {
					if broken {
						return tc.err
					}
					return f.Sync()
				}
				put(t, s, 3, 6)
				err := putRows(s, numbered(6, 40))
				require.ErrorIs(t, err, leat.ErrAborted)
				require.ErrorIs(t, err, tc.err)
				assert.Equal(t, tc.passing, leat.IsTransient(err))
				_, err = s.Commit(t.Context(), forced(6))
				require.ErrorIs(t, err, leat.ErrAborted, "nothing goes on before a rewind")
				require.NoError(t, s.Close())
				tidyTree(t, dir)
				broken = false
				if !tc.passing {
					require.ErrorIs(t, s.Open(t.Context(), env()), tc.err, "a rewind does not mend it: the pipeline ends")
				}
				require.NoError(t, openTaking(s, env()))
				assert.Equal(t, int64(3), heldBy(t, s))
				put(t, s, 3, 40)
				commit(t, s, 40)
				whole(t, dir, 40)
				tidyTree(t, dir)
			})
			t.Run("E4: "+tc.name+" at "+at+" in a commit", func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				for n := 1; ; n++ { // the n-th call fails
					s := New(byP(dir))
					calls := 0
					fail := func() error {
						if calls++; calls == n {
							return tc.err
						}
						return nil
					}
					require.NoError(t, openTaking(s, env()))
					from := heldBy(t, s)
					if at == "write" {
						s.w.hook.write = func(f *os.File, b []byte) (int, error) {
							if err := fail(); err != nil {
								return 0, err
							}
							return f.Write(b)
						}
					} else {
						s.w.hook.sync = func(f *os.File) error {
							if err := fail(); err != nil {
								return err
							}
							return f.Sync()
						}
					}
					put(t, s, from, from+7)
					_, err := s.Commit(t.Context(), forced(from+7))
					if err != nil {
						require.ErrorIs(t, err, tc.err)
						require.Equal(t, tc.passing, errors.Is(err, leat.ErrAborted) && leat.IsTransient(err))
					}
					require.NoError(t, s.Close())
					s.w = nil
					again := opened(t, byP(dir), env())
					whole(t, dir, heldBy(t, again))
					tidyTree(t, dir)
					require.NoError(t, again.Close())
					if err == nil {
						require.Greater(t, n, 3)
						return
					}
				}
			})
		}
	}
	t.Run("a file system without hard links", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		s := New(byP(dir))
		s.hook.link = func(*os.Root, string, string) error {
			return &os.LinkError{Op: "link", Err: syscall.EPERM}
		}
		require.NoError(t, openTaking(s, env()))
		put(t, s, 0, 9)
		commit(t, s, 9)
		require.NoError(t, s.Close())
		whole(t, dir, 9)
		tidyTree(t, dir)
	})
	t.Run("F6: a folder that is a link out of the root is refused", func(t *testing.T) {
		t.Parallel()
		dir, outside := t.TempDir(), t.TempDir()
		require.NoError(t, os.Symlink(outside, filepath.Join(dir, "p=a")))
		s := opened(t, byP(dir), env())
		put(t, s, 0, 3)
		_, err := s.Commit(t.Context(), forced(3))
		require.ErrorContains(t, err, "p=a")
		require.NotErrorIs(t, err, leat.ErrAborted, "it ends the pipeline")
		require.NoError(t, s.Close())
		left, err := os.ReadDir(outside)
		require.NoError(t, err)
		assert.Empty(t, left)
	})
	t.Run("a call that comes too early, or twice", func(t *testing.T) {
		t.Parallel()
		s := New(config(t.TempDir()))
		assert.ErrorIs(t, putRows(s, numbered(0, 1)), leat.ErrAborted)
		require.NoError(t, openTaking(s, env()))
		assert.ErrorContains(t, s.Open(t.Context(), env()), "that is open")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("stop"))
		assert.ErrorContains(t, s.write(ctx, "src", numbered(0, 1), nil), "stop")
		require.NoError(t, s.Close())
	})
}

// F6: whatever the value, a level is one element of a path, and readers get the
// value back.
func FuzzLevel(f *testing.F) {
	for _, v := range []string{"a", "..", "a/b", "%2F", "\x00", "ñ", " "} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, value string) {
		level, err := appendLevel(nil, "p", value)
		if err != nil {
			require.Greater(t, 3*len(value), maxElement-2)
			return
		}
		require.LessOrEqual(t, len(level), maxElement)
		require.True(t, filepath.IsLocal(string(level)))
		require.Equal(t, string(level), filepath.Base(string(level)))
		if value != "" {
			back, err := url.PathUnescape(strings.TrimPrefix(string(level), "p="))
			require.NoError(t, err)
			require.Equal(t, value, back)
		}
	})
}

// busy is a format whose files work in the background.
type busy struct {
	lines
	log *[]string
}

func (b *busy) Close() { *b.log = append(*b.log, "ended") }

func (b *busy) Create(w io.Writer) (File, error) {
	f, err := b.lines.Create(w)
	return busyFile{f, b.log}, err
}

type busyFile struct {
	File
	log *[]string
}

func (f busyFile) Rest() error {
	*f.log = append(*f.log, "rest")
	return nil
}

func (f busyFile) Close() error {
	*f.log = append(*f.log, "close")
	return f.File.Close()
}

// idle is a format whose files write what they hold when they are told to rest.
type idle struct {
	lines
	rests int
	picks []bool // of each Append: whether it named rows
}

func (b *idle) Create(w io.Writer) (File, error) {
	f, err := b.lines.Create(w)
	return idleFile{f, b}, err
}

type idleFile struct {
	File
	format *idle
}

func (f idleFile) Append(pick []int32) error {
	f.format.picks = append(f.format.picks, pick != nil)
	return f.File.Append(pick)
}

func (f idleFile) Rest() error {
	f.format.rests++
	return f.Flush()
}

// TestRest: files that get no rows any more give their memory back early (rule F8),
// but small ones don't write a row group for each few rows.
func TestRest(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	format := &idle{}
	c := byP(dir)
	c.Buffer = 1600 // bytes; a batch of 20 rows has about 100
	c.Format = func() (Format[fila], error) { return format, nil }
	s := opened(t, c, env())
	next := int64(1000)
	batch := func(n int, p func(i int) string) {
		rows := make([]fila, n)
		for i := range rows {
			rows[i] = fila{ID: next, P: p(i)}
			next++
		}
		require.NoError(t, putRows(s, rows))
	}
	for _, p := range []string{"a", "b", "c", "d"} { // one folder after the other
		for range 8 {
			batch(20, func(int) string { return p })
		}
		for o := range s.open {
			require.True(t, s.batch-o.batch < 4 || o.buffered == 0, "p=%s after %s: %d bytes", o.dir, p, o.buffered)
			require.Equal(t, o.enc.Buffered(), o.buffered)
		}
	}
	require.Equal(t, 3, format.rests)
	require.NotContains(t, format.picks, true, "all rows of a batch are of one folder")
	commit(t, s, next)

	format.rests, format.picks = 0, nil
	for i := range 200 { // few rows for each
		batch(1, func(int) string { return string(rune('a' + i%20)) })
	}
	require.Zero(t, format.rests)
	batch(20, func(i int) string { return string(rune('a' + i/10)) })
	require.Equal(t, []bool{true, true}, format.picks[200:])
	commit(t, s, next)
	files, err := Files(dir)
	require.NoError(t, err)
	rows := int64(0)
	for _, f := range files {
		rows += f.Rows
	}
	require.Equal(t, next-1000, rows)
}

// TestClosing: all files hear that they will be closed before the first one is, and
// the format hears when its life ends, also when files are given up.
func TestClosing(t *testing.T) {
	t.Parallel()
	var log []string
	c := byP(t.TempDir())
	c.Format = func() (Format[fila], error) { return &busy{log: &log}, nil }
	s := opened(t, c, env())
	put(t, s, 0, 10)
	commit(t, s, 10)
	require.Greater(t, len(log), 3)
	half := len(log) / 2
	for i, what := range log {
		require.Equal(t, []string{"rest", "close"}[i/half], what)
	}
	put(t, s, 10, 20)
	log = nil
	require.NoError(t, s.Close())
	require.Equal(t, []string{"ended"}, log)
}
