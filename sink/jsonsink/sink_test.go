package jsonsink

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/durable"
)

type venta struct {
	ID     int64
	Precio float64
}

func env() leat.Env { return leat.Env{Pipeline: "ventas", Node: "salida"} }

func filePath(t testing.TB) string { return filepath.Join(t.TempDir(), "ventas.jsonl") }

func open(t testing.TB, path string) *Sink[venta] {
	t.Helper()
	s := New(Config[venta]{Path: path})
	require.NoError(t, s.Validate())
	require.NoError(t, s.Open(t.Context(), env()))
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func upTo(next int64) leat.Checkpoint {
	return leat.Checkpoint{Positions: map[string]leat.Position{"p": {Next: next, Log: "log"}}}
}

func commit[T any](t testing.TB, s *Sink[T], cp leat.Checkpoint) {
	t.Helper()
	done, err := s.Commit(t.Context(), cp)
	require.NoError(t, err)
	require.True(t, done)
}

func read(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(b)
}

func write(t testing.TB, path, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
}

// held opens a new life and gives what it holds of p.
func held(t testing.TB, path string) map[string]leat.Position {
	t.Helper()
	s := New(Config[venta]{Path: path})
	require.NoError(t, s.Open(t.Context(), env()))
	defer s.Close()
	at, err := s.Restore(t.Context(), []string{"p"})
	require.NoError(t, err)
	return at
}

func refusedRows(t testing.TB, err error) []int {
	t.Helper()
	var re *leat.RowErrors
	require.ErrorAs(t, err, &re)
	var out []int
	for _, r := range re.Rows {
		out = append(out, r.Row)
	}
	return out
}

const (
	one = `{"id":1,"precio":1.5}` + "\n"
	two = `{"id":2,"precio":2}` + "\n"
)

func TestCommitted(t *testing.T) {
	t.Parallel()
	t.Run("E1: rows and positions are committed together", func(t *testing.T) {
		t.Parallel()
		path := filePath(t)
		s := open(t, path)
		at, err := s.Restore(t.Context(), []string{"p"})
		require.NoError(t, err)
		assert.Empty(t, at, "E7: a missing position is not 0")
		require.NoError(t, s.write(t.Context(), []venta{{1, 1.5}}))
		commit(t, s, upTo(1))
		require.NoError(t, s.write(t.Context(), []venta{{2, 2}}))
		commit(t, s, upTo(2))
		require.NoError(t, s.Close())
		require.NoError(t, s.Close(), "a second Close does nothing")
		assert.Equal(t, one+two, read(t, path))
		assert.Equal(t, map[string]leat.Position{"p": {Next: 2, Log: "log"}}, held(t, path))

		var c sidecar
		require.NoError(t, json.Unmarshal([]byte(read(t, path+".leat")), &c))
		assert.Equal(t, int64(len(one+two)), c.Length)
		left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".*"))
		require.NoError(t, err)
		assert.Empty(t, left, "no temporary files stay behind")
	})
	t.Run("Close discards what is not committed", func(t *testing.T) {
		t.Parallel()
		path := filePath(t)
		s := open(t, path)
		require.NoError(t, s.write(t.Context(), []venta{{1, 1.5}}))
		commit(t, s, upTo(1))
		require.NoError(t, s.write(t.Context(), []venta{{2, 2}}))
		require.NoError(t, s.Close())
		assert.Equal(t, one, read(t, path))
	})
	t.Run("positions move without rows", func(t *testing.T) {
		t.Parallel()
		path := filePath(t)
		s := open(t, path)
		commit(t, s, leat.Checkpoint{Positions: map[string]leat.Position{"p": {Next: 0, Log: "l"}, "q": {}}})
		commit(t, s, leat.Checkpoint{})
		require.NoError(t, s.Close())
		assert.Equal(t, map[string]leat.Position{"p": {Next: 0, Log: "l"}}, held(t, path))
	})
	t.Run("E7: a sink that is ahead does not step back", func(t *testing.T) {
		t.Parallel()
		path := filePath(t)
		s := open(t, path)
		commit(t, s, upTo(500))
		commit(t, s, upTo(400))
		require.NoError(t, s.Close())
		assert.Equal(t, int64(500), held(t, path)["p"].Next)
	})
	t.Run("any bytes in names and positions come back", func(t *testing.T) {
		t.Parallel()
		path := filePath(t)
		s := open(t, path)
		want := map[string]leat.Position{"\xff\x00": {Next: math.MaxInt64, Resume: "\xfe", Log: "a\x00"}, `{"x"}`: {Next: -1, Resume: `{}`, Log: "<ñ>"}}
		commit(t, s, leat.Checkpoint{Positions: want})
		require.NoError(t, s.Close())
		require.NoError(t, s.Open(t.Context(), env()))
		at, err := s.Restore(t.Context(), []string{"\xff\x00", `{"x"}`, "\xfd"})
		require.NoError(t, err)
		assert.Equal(t, want, at)
	})
	t.Run("two pipelines append one after the other", func(t *testing.T) {
		t.Parallel()
		path := filePath(t)
		s := open(t, path)
		require.NoError(t, s.write(t.Context(), []venta{{1, 1.5}}))
		commit(t, s, upTo(1))
		require.NoError(t, s.Close())
		require.NoError(t, s.Open(t.Context(), leat.Env{Pipeline: "otra", Node: "salida"}))
		at, err := s.Restore(t.Context(), []string{"p"})
		require.NoError(t, err)
		assert.Empty(t, at)
		require.NoError(t, s.write(t.Context(), []venta{{2, 2}}))
		commit(t, s, upTo(7))
		require.NoError(t, s.Close())
		assert.Equal(t, one+two, read(t, path))
		assert.Equal(t, int64(1), held(t, path)["p"].Next)
	})
}

func TestRows(t *testing.T) {
	t.Parallel()
	type fila struct {
		F    float64
		Dec  decimal.Decimal
		G    grita
		Nota *string
	}
	d := decimal.RequireFromString("12345678901234567890.10")
	for name, c := range map[string]struct {
		bad          fila
		column, rule string
	}{
		"NaN":                  {fila{F: math.NaN()}, "f", "range"},
		"an infinity":          {fila{F: math.Inf(1)}, "f", "range"},
		"MarshalText fails":    {fila{G: "error"}, "g", "type"},
		"A9: MarshalText dies": {fila{G: "panic"}, "", "panic"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filePath(t)
			s := New(Config[fila]{Path: path})
			require.NoError(t, s.Open(t.Context(), env()))
			good := fila{F: 1, Dec: d, G: "a"}
			err := s.write(t.Context(), []fila{good, c.bad, good, c.bad})
			assert.Equal(t, []int{1, 3}, refusedRows(t, err))
			var f interface{ Field() (string, string) }
			require.ErrorAs(t, err, &f)
			column, rule := f.Field()
			assert.Equal(t, c.column+"/"+c.rule, column+"/"+rule)
			require.NoError(t, s.write(t.Context(), []fila{good}))
			commit(t, s, upTo(1))
			require.NoError(t, s.Close())
			assert.Equal(t, `{"f":1,"dec":"12345678901234567890.1","g":"a!","nota":null}`+"\n", read(t, path))
		})
	}
	t.Run("an ended context writes nothing", func(t *testing.T) {
		t.Parallel()
		path := filePath(t)
		s := open(t, path)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, s.write(ctx, []venta{{1, 1}}), context.Canceled)
		assert.Empty(t, read(t, path))
	})
}

type grita string

func (g grita) MarshalText() ([]byte, error) {
	switch g {
	case "error":
		return nil, errors.New("no voice")
	case "panic":
		panic("aaah")
	}
	return []byte(g + "!"), nil
}

func TestRecovery(t *testing.T) {
	t.Parallel()
	start := func(t *testing.T) string {
		path := filePath(t)
		s := open(t, path)
		require.NoError(t, s.write(t.Context(), []venta{{1, 1.5}}))
		commit(t, s, upTo(1))
		require.NoError(t, s.Close())
		return path
	}
	t.Run("a torn tail is cut off", func(t *testing.T) {
		t.Parallel()
		path := start(t)
		write(t, path, one+two+`{"id":3,"pre`)
		s := open(t, path)
		assert.Equal(t, one, read(t, path))
		require.NoError(t, s.write(t.Context(), []venta{{2, 2}}))
		commit(t, s, upTo(2))
		assert.Equal(t, one+two, read(t, path))
	})
	refused := map[string]struct {
		spoil func(t *testing.T, path string)
		want  string
	}{
		"a shorter file":     {func(t *testing.T, p string) { write(t, p, one[:5]) }, "has 5 bytes, but 22 are committed"},
		"a missing file":     {func(t *testing.T, p string) { require.NoError(t, os.Remove(p)) }, "is missing, but its sidecar says that 22 bytes"},
		"an edited file":     {func(t *testing.T, p string) { write(t, p, strings.Replace(one, "1.5", "9.5", 1)) }, "it was edited or replaced"},
		"a missing sidecar":  {func(t *testing.T, p string) { require.NoError(t, os.Remove(p+".leat")) }, "has no sidecar"},
		"a damaged sidecar":  {func(t *testing.T, p string) { write(t, p+".leat", "{") }, "can't be read"},
		"a sidecar of later": {func(t *testing.T, p string) { write(t, p+".leat", `{"version":2}`) }, "has version 2"},
		"a negative length":  {func(t *testing.T, p string) { write(t, p+".leat", `{"version":1,"length":-1}`) }, "damaged"},
		"a folder in its place": {func(t *testing.T, p string) {
			require.NoError(t, os.Remove(p))
			require.NoError(t, os.Remove(p+".leat"))
			require.NoError(t, os.Mkdir(p, 0o700))
		}, "directory"},
	}
	for name, c := range refused {
		t.Run(name+" is refused", func(t *testing.T) {
			t.Parallel()
			path := start(t)
			c.spoil(t, path)
			before, _ := os.ReadFile(path)
			err := New(Config[venta]{Path: path}).Open(t.Context(), env())
			require.ErrorContains(t, err, c.want)
			assert.False(t, leat.IsTransient(err))
			after, _ := os.ReadFile(path)
			assert.Equal(t, before, after, "a refused file is left as it is")
		})
	}
	t.Run("an empty file without a sidecar is fine", func(t *testing.T) {
		t.Parallel()
		path := filePath(t)
		write(t, path, "")
		open(t, path)
	})
	t.Run("a folder that does not exist", func(t *testing.T) {
		t.Parallel()
		err := New(Config[venta]{Path: filepath.Join(t.TempDir(), "no", "x")}).Open(t.Context(), env())
		require.ErrorIs(t, err, fs.ErrNotExist)
		assert.False(t, leat.IsTransient(err))
	})
}

func TestOwners(t *testing.T) {
	t.Parallel()
	t.Run("a second sink on the file has to wait", func(t *testing.T) {
		t.Parallel()
		path := filePath(t)
		first := open(t, path)
		second := New(Config[venta]{Path: path})
		err := second.Open(t.Context(), env())
		require.ErrorContains(t, err, "locked by another process")
		assert.True(t, leat.IsTransient(err))
		require.NoError(t, first.Close())
		require.NoError(t, second.Open(t.Context(), env()))
		require.NoError(t, second.Close())
	})
	t.Run("E3: another epoch in the sidecar fences", func(t *testing.T) {
		t.Parallel()
		path := filePath(t)
		s := open(t, path)
		require.NoError(t, s.write(t.Context(), []venta{{1, 1.5}}))
		write(t, path+".leat", strings.Replace(read(t, path+".leat"), `"epoch": 1`, `"epoch": 2`, 1))
		_, err := s.Commit(t.Context(), upTo(1))
		require.ErrorIs(t, err, leat.ErrFenced)
		require.ErrorIs(t, s.write(t.Context(), []venta{{2, 2}}), leat.ErrAborted)
	})
	t.Run("a file that was rotated away ends the pipeline", func(t *testing.T) {
		t.Parallel()
		if runtime.GOOS == "windows" {
			t.Skip("Windows does not rename a file that is open")
		}
		path := filePath(t)
		s := open(t, path)
		require.NoError(t, s.write(t.Context(), []venta{{1, 1.5}}))
		require.NoError(t, os.Rename(path, path+".1"))
		write(t, path, "")
		_, err := s.Commit(t.Context(), upTo(1))
		require.ErrorContains(t, err, "was replaced")
		assert.NotErrorIs(t, err, leat.ErrAborted)
	})
}

func TestTrouble(t *testing.T) {
	t.Parallel()
	start := func(t *testing.T) (string, *Sink[venta]) {
		path := filePath(t)
		s := open(t, path)
		require.NoError(t, s.write(t.Context(), []venta{{1, 1.5}}))
		commit(t, s, upTo(1))
		require.NoError(t, s.write(t.Context(), []venta{{2, 2}}))
		return path, s
	}
	t.Run("a full disk is waited for with everything held", func(t *testing.T) {
		t.Parallel()
		path, s := start(t)
		s.writeAt = func(f *os.File, b []byte, off int64) (int, error) {
			n, _ := f.WriteAt(b[:3], off)
			return n, &fs.PathError{Op: "write", Path: path, Err: syscall.ENOSPC}
		}
		err := s.write(t.Context(), []venta{{3, 3}})
		assert.True(t, leat.IsTransient(err))
		assert.NotErrorIs(t, err, leat.ErrAborted)
		assert.Equal(t, one+two, read(t, path))
		s.writeAt = (*os.File).WriteAt
		require.NoError(t, s.write(t.Context(), []venta{{3, 3}}))
		commit(t, s, upTo(3))
		assert.Equal(t, one+two+`{"id":3,"precio":3}`+"\n", read(t, path))
	})
	t.Run("E8: a write that fails otherwise aborts, and the rewind goes on", func(t *testing.T) {
		t.Parallel()
		path, s := start(t)
		s.writeAt = func(*os.File, []byte, int64) (int, error) { return 0, syscall.EIO }
		err := s.write(t.Context(), []venta{{3, 3}})
		require.ErrorIs(t, err, leat.ErrAborted)
		assert.True(t, leat.IsTransient(err))
		_, err = s.Commit(t.Context(), upTo(3))
		require.ErrorIs(t, err, leat.ErrAborted)
		require.NoError(t, s.Close())
		assert.Equal(t, int64(1), held(t, path)["p"].Next)
		assert.Equal(t, one, read(t, path))
	})
	t.Run("what no rewind can mend ends in Open, not in dead letters", func(t *testing.T) {
		t.Parallel()
		_, s := start(t)
		s.writeAt = func(*os.File, []byte, int64) (int, error) { return 0, syscall.EFBIG }
		require.ErrorIs(t, s.write(t.Context(), []venta{{3, 3}}), leat.ErrAborted)
		require.NoError(t, s.Close())
		err := s.Open(t.Context(), env())
		require.ErrorIs(t, err, syscall.EFBIG)
		assert.False(t, leat.IsTransient(err))
	})
	t.Run("an fsync that fails is not tried again", func(t *testing.T) {
		t.Parallel()
		path, s := start(t)
		s.sync = func(*os.File) error { return syscall.EIO }
		_, err := s.Commit(t.Context(), upTo(2))
		require.ErrorIs(t, err, leat.ErrAborted)
		s.sync = (*os.File).Sync
		_, err = s.Commit(t.Context(), upTo(2))
		require.ErrorIs(t, err, leat.ErrAborted)
		require.NoError(t, s.Close())
		assert.Equal(t, int64(1), held(t, path)["p"].Next)
		assert.Equal(t, one, read(t, path))
	})
	t.Run("a crash between fsync and rename commits nothing", func(t *testing.T) {
		t.Parallel()
		path, s := start(t)
		s.writeFile = func(p string, data []byte, _ fs.FileMode) error {
			write(t, filepath.Join(filepath.Dir(p), ".left.tmp"), string(data))
			return errors.New("crash")
		}
		_, err := s.Commit(t.Context(), upTo(2))
		require.ErrorIs(t, err, leat.ErrAborted)
		require.NoError(t, s.Close())
		assert.Equal(t, one+two, read(t, path))
		assert.Equal(t, int64(1), held(t, path)["p"].Next)
		assert.Equal(t, one, read(t, path), "E1: the rename is the commit point")
	})
	t.Run("E4: a rename that happened, with its name in doubt, is found by the rewind", func(t *testing.T) {
		t.Parallel()
		path, s := start(t)
		s.writeFile = func(p string, data []byte, perm fs.FileMode) error {
			require.NoError(t, durable.WriteFile(p, data, perm))
			return syscall.EIO // of the folder's fsync
		}
		_, err := s.Commit(t.Context(), upTo(2))
		require.ErrorIs(t, err, leat.ErrAborted)
		require.NoError(t, s.Close())
		assert.Equal(t, int64(2), held(t, path)["p"].Next)
		assert.Equal(t, one+two, read(t, path))
	})
	t.Run("before Open there is no plain error, which would condemn rows", func(t *testing.T) {
		t.Parallel()
		require.ErrorIs(t, New(Config[venta]{}).write(t.Context(), []venta{{}}), leat.ErrAborted)
	})
}

func TestValidate(t *testing.T) {
	t.Parallel()
	type malo struct {
		A int64 `leat:"a"`
		B int64 `leat:"a"`
	}
	type vacio struct{}
	err := New(Config[malo]{}).Validate()
	assert.ErrorContains(t, err, "Path is empty")
	assert.ErrorContains(t, err, "the column is already the field")
	assert.ErrorContains(t, New(Config[venta]{Path: "a/"}).Validate(), "is a folder")
	assert.ErrorContains(t, New(Config[venta]{Path: "a.leat"}).Validate(), "those of sidecars")
	assert.ErrorContains(t, New(Config[venta]{Path: "a\x00"}).Validate(), "zero byte")
	assert.ErrorContains(t, New(Config[vacio]{Path: "a"}).Validate(), "no columns")
	assert.NoError(t, New(Config[venta]{Path: "a"}).Validate())

	var s leat.Sink[venta] = New(Config[venta]{Path: "a/b.jsonl"})
	assert.Equal(t, "b.jsonl", s.(leat.Named).Name())
	assert.Equal(t, "x", New(Config[venta]{Path: "a", Name: "x"}).Name())
	assert.Equal(t, leat.ExactlyOnce, s.(leat.Guaranteed).Guarantee())
	assert.Implements(t, (*leat.Transactional)(nil), s)
}
