package damage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/require"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/lake"
	"github.com/leatgo/leat/sink/parquetsink"
	"github.com/leatgo/leat/sink/sqlitesink"
	"github.com/leatgo/leat/source/csvsource"
)

type fila struct {
	ID   int64  `leat:"id" parquet:"id"`
	Name string `leat:"name" parquet:"name"`
}

// build makes the pipeline of a world: a folder of CSV files to a table and a lake.
func build(dir string, log *strings.Builder) *leat.Pipeline {
	p := leat.New("p", leat.Config{
		StateDir: filepath.Join(dir, "state"), Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Breaker: leat.Breaker{Share: -1}, Retry: leat.Retry{First: time.Millisecond, Max: time.Millisecond, Attempts: 3},
	})
	leat.To(leat.From(p, csvsource.New(csvsource.Config[fila]{Dir: filepath.Join(dir, "in")})),
		leat.Sink[fila](sqlitesink.New(sqlitesink.Config[fila]{Path: filepath.Join(dir, "out.db"), Table: "t", Synchronous: sqlitesink.Normal})),
		leat.Sink[fila](parquetsink.New(parquetsink.Config[fila]{Name: "lake", Dir: filepath.Join(dir, "lake")})))
	return p
}

func start(t *testing.T, dir string) (log string, err error) {
	t.Helper()
	var text strings.Builder
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err = build(dir, &text).Run(ctx)
	if ctx.Err() != nil {
		t.Fatalf("it hangs: %v\n%s", err, &text)
	}
	return text.String(), err
}

// put adds a CSV file with a bad row and five good ones.
func put(t *testing.T, dir string, file int) {
	t.Helper()
	text := "id,name\nbad,x\n"
	for i := range 5 {
		text += fmt.Sprintf("%d,n%d\n", 5*file+i, i)
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "in", fmt.Sprintf("f%d.csv", file)), []byte(text), 0o600))
}

// want are the rows of so many files.
func want(files int) (out []int64) {
	for i := range int64(5 * files) {
		out = append(out, i)
	}
	return out
}

// worlds are what a pipeline leaves after one and after two runs; a third file waits.
func worlds(t *testing.T) (older, newer string) {
	t.Helper()
	older, newer = t.TempDir(), t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(newer, "in"), 0o700))
	for run := range 2 {
		put(t, newer, run)
		log, err := start(t, newer)
		require.NoError(t, err, log)
		if run == 0 {
			copyTree(t, newer, older)
		}
	}
	put(t, newer, 2)
	return older, newer
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(from, path)
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name := filepath.Join(to, rel)
		return errors.Join(os.WriteFile(name, b, 0o600), os.Chtimes(name, info.ModTime(), info.ModTime()))
	}))
}

// table and lakeRows are what sinks hold; nil when that can't be read.
func table(dir string) (ids []int64, err error) {
	conn, err := sqlite.OpenConn(filepath.Join(dir, "out.db"), sqlite.OpenReadWrite)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	err = sqlitex.ExecuteTransient(conn, "SELECT id FROM t ORDER BY id", &sqlitex.ExecOptions{ResultFunc: func(stmt *sqlite.Stmt) error {
		ids = append(ids, stmt.ColumnInt64(0))
		return nil
	}})
	return ids, err
}

func lakeRows(dir string) (ids []int64, err error) {
	files, err := lake.Files(filepath.Join(dir, "lake"))
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		rows, err := parquet.ReadFile[fila](filepath.Join(dir, "lake", filepath.FromSlash(f.Path)))
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			ids = append(ids, r.ID)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// globbed are the rows of all Parquet files that a reader finds who does not know of the
// manifest.
func globbed(dir string) (ids []int64, err error) {
	names, err := filepath.Glob(filepath.Join(dir, "lake", "*.parquet"))
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		rows, err := parquet.ReadFile[fila](name)
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			ids = append(ids, r.ID)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// advice is what messages tell people to do.
var advice = []string{"backup", "put back", "put the newest one back", "move it away", "restore", "delete", "reset", "remove the state folder", "add them yourself"}

// verdict is what a start after some damage has to be: exactly the right rows, or an
// error that names the file and says what to do, with nothing lost or twice.
func verdict(t *testing.T, what, dir, file string) (told bool) {
	t.Helper()
	log, err := start(t, dir)
	if err != nil {
		_, again := start(t, dir)
		require.Error(t, again, "%s: refused once, and then taken: the first time it was %v", what, err)
	}
	rows, tableErr := table(dir)
	files, lakeErr := lakeRows(dir)
	if err == nil {
		require.NoError(t, tableErr, what)
		require.NoError(t, lakeErr, what)
		require.Equal(t, want(3), rows, "%s: the table, after a start that succeeded\n%s", what, log)
		require.Equal(t, want(3), files, "%s: the lake, after a start that succeeded\n%s", what, log)
		return false
	}
	require.Contains(t, err.Error(), file, "%s: the error does not name the file", what)
	require.True(t, slices.ContainsFunc(advice, func(a string) bool { return strings.Contains(strings.ToLower(err.Error()), a) }), "%s: the error does not say what to do: %v", what, err)
	require.False(t, strings.Contains(err.Error(), "panic") || strings.Contains(err.Error(), "runtime error"), "%s: %v", what, err)
	if tableErr == nil {
		require.Contains(t, [][]int64{want(2), want(3)}, rows, "%s: the table, after %v", what, err)
	}
	if files, err := globbed(dir); err == nil { // whatever the manifest says
		require.Contains(t, [][]int64{want(2), want(3)}, files, "%s: the lake's files, after an error", what)
	}
	return true
}

// steps picks so many of n, or all with LEAT_LONG=1.
func steps(n, most int) (out []int) {
	step := n/most + 1
	if os.Getenv("LEAT_LONG") == "1" {
		step = 1
	}
	for i := rand.IntN(step); i < n; i += step {
		out = append(out, i)
	}
	return out
}

// One flipped bit, a cut, an empty file, an older copy and no file at all, of each file that a
// pipeline leaves.
func TestDamage(t *testing.T) {
	t.Parallel()
	older, newer := worlds(t)
	entries, err := filepath.Glob(filepath.Join(newer, "lake", "_leat", "*.json"))
	require.NoError(t, err)
	require.NotEmpty(t, entries)
	kinds := []string{"state/checkpoints.db", "state/in/ledger.jsonl", "state/dead-letters.jsonl"}
	for _, e := range entries {
		kinds = append(kinds, "lake/_leat/"+filepath.Base(e))
	}
	const most = 40
	for _, file := range kinds {
		t.Run(strings.ReplaceAll(file, "/", " "), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(filepath.Join(newer, file))
			require.NoError(t, err)
			told, fine := 0, 0
			try := func(what string, harm func(path string)) bool {
				dir, err := os.MkdirTemp(t.TempDir(), "")
				require.NoError(t, err)
				defer os.RemoveAll(dir)
				copyTree(t, newer, dir)
				harm(filepath.Join(dir, file))
				out := verdict(t, file+": "+what, dir, filepath.Base(file))
				if out {
					told++
				} else {
					fine++
				}
				return out
			}
			write := func(b []byte) func(path string) {
				return func(path string) { require.NoError(t, os.WriteFile(path, b, 0o600)) }
			}
			require.False(t, try("nothing", func(string) {}))
			for _, i := range steps(len(text), most) {
				b := slices.Clone(text)
				b[i] ^= 1 << rand.IntN(8)
				try(fmt.Sprintf("byte %d is %q and was %q", i, b[i], text[i]), write(b))
			}
			for _, n := range steps(len(text), most) {
				try(fmt.Sprintf("cut off at %d of %d", n, len(text)), write(text[:n]))
			}
			try("empty", write(nil))
			if old, err := os.ReadFile(filepath.Join(older, file)); err == nil {
				try("an older copy", write(old))
			}
			t.Logf("%s, %d bytes: %d times told, %d times harmless; lost 0, twice 0", file, len(text), told, fine)
		})
	}
}

// What is gone altogether, or older altogether.
func TestGone(t *testing.T) {
	t.Parallel()
	older, newer := worlds(t)
	for _, c := range []struct {
		name string
		gone []string // or older, where the older world has it and old is set
		old  bool
		want string // in the error; "" is none

		warned bool
	}{
		{"the ledger", []string{"state/in/ledger.jsonl"}, false, "A2-1", false},
		{"the source's folder", []string{"state/in"}, false, "A2-1", false},
		{"the checkpoint", []string{"state/checkpoints.db"}, false, "", false},
		{"the dead letters", []string{"state/dead-letters.jsonl"}, false, "", false},
		{"the state folder", []string{"state"}, false, "A2-1", false},
		{"the manifest", []string{"lake/_leat"}, false, "no manifest", false},
		{"the lake", []string{"lake"}, false, "", true},
		{"the database", []string{"out.db", "out.db-wal", "out.db-shm"}, false, "", true},
		{"the sinks", []string{"lake", "out.db", "out.db-wal", "out.db-shm"}, false, "", true},
		{"an older checkpoint", []string{"state/checkpoints.db"}, true, "", false},
		{"an older ledger", []string{"state/in/ledger.jsonl"}, true, "ledger.jsonl", false},
		{"an older state folder", []string{"state"}, true, "ledger.jsonl", false},
		{"an older lake", []string{"lake"}, true, "", false},
		{"an older manifest", []string{"lake/_leat"}, true, "older copy", false},
		{"an older database", []string{"out.db", "out.db-wal", "out.db-shm"}, true, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			copyTree(t, newer, dir)
			for _, name := range c.gone {
				require.NoError(t, os.RemoveAll(filepath.Join(dir, name)))
				from := filepath.Join(older, name)
				if info, err := os.Stat(from); c.old && err == nil {
					if info.IsDir() {
						copyTree(t, from, filepath.Join(dir, name))
					} else {
						b, err := os.ReadFile(from)
						require.NoError(t, err)
						require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
					}
				}
			}
			if c.warned {
				probe := t.TempDir()
				copyTree(t, dir, probe)
				log, err := start(t, probe)
				require.NoError(t, err)
				require.Contains(t, log, "a sink holds nothing of a partition that was read before")
			}
			told := verdict(t, c.name, dir, c.want)
			require.Equal(t, c.want != "", told)
			if !told {
				rows, err := globbed(dir)
				require.NoError(t, err)
				require.Equal(t, want(3), rows, "a reader that does not know of the manifest")
			}
		})
	}
}

// The pages of the database that hold the positions and the schema.
func TestDamagedDatabase(t *testing.T) {
	t.Parallel()
	_, newer := worlds(t)
	conn, err := sqlite.OpenConn(filepath.Join(newer, "out.db"), sqlite.OpenReadWrite)
	require.NoError(t, err)
	ask := func(q string) (n int64) {
		require.NoError(t, sqlitex.ExecuteTransient(conn, q, &sqlitex.ExecOptions{ResultFunc: func(stmt *sqlite.Stmt) error { n = stmt.ColumnInt64(0); return nil }}))
		return n
	}
	ask("PRAGMA wal_checkpoint(TRUNCATE)")
	positions, size := ask("SELECT rootpage FROM sqlite_schema WHERE name = 'leat_positions'"), ask("PRAGMA page_size")
	require.NoError(t, conn.Close())
	text, err := os.ReadFile(filepath.Join(newer, "out.db"))
	require.NoError(t, err)
	for name, page := range map[string]int64{"positions": positions, "schema": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begin := int((page - 1) * size)
			var bytes []int // that are not zero, where something is
			for i := begin; i < begin+int(size); i++ {
				if text[i] != 0 || i < begin+16 {
					bytes = append(bytes, i)
				}
			}
			told, fine := 0, 0
			for _, k := range steps(len(bytes)*8, 150) {
				i, bit := bytes[k/8], k%8
				dir, err := os.MkdirTemp(t.TempDir(), "")
				require.NoError(t, err)
				copyTree(t, newer, dir)
				b := slices.Clone(text)
				b[i] ^= 1 << bit
				require.NoError(t, os.WriteFile(filepath.Join(dir, "out.db"), b, 0o600))
				if verdict(t, fmt.Sprintf("byte %d of page %d is %q and was %q", i-begin, page, b[i], text[i]), dir, "out.db") {
					told++
				} else {
					fine++
				}
				require.NoError(t, os.RemoveAll(dir))
			}
			t.Logf("%d bytes: %d times told, %d times harmless; lost 0, twice 0", len(bytes), told, fine)
		})
	}
}
