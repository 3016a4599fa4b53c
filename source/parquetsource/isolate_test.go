//go:build linux

package parquetsource

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	thriftformat "github.com/parquet-go/parquet-go/format"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/filesource"
	"github.com/leatgo/leat/internal/filesource/filetest"
	"github.com/leatgo/leat/internal/parquetread"
	"github.com/leatgo/leat/internal/parquetread/craft"
)

// children tells do of each process that is started to read rows, or the footer only, by
// their number. Tests that use it can't be parallel.
func children(t *testing.T, reading bool, do func(i int, p *os.Process)) {
	var mu sync.Mutex // footers are looked at by another goroutine
	n := 0
	tell := func(reads bool, p *os.Process) {
		mu.Lock()
		defer mu.Unlock()
		if reads == reading {
			do(n, p)
			n++
		}
	}
	onChild.Store(&tell)
	t.Cleanup(func() { onChild.Store(nil) })
}

func isolatedConfig(w *world) Config[rec] {
	c := w.config()
	c.Isolate = Isolate{Memory: 512 << 20, Timeout: 20 * time.Second}
	c.Attempts = 1
	return c
}

// TestIsolated: the same rows, offsets and ledger as without, whatever the chunks, also
// over a crash.
func TestIsolated(t *testing.T) {
	t.Parallel()
	for _, stop := range []int{0, 3} {
		w := newWorld(t)
		w.put("a.parquet", pq(t, 0, 300, 130, &parquet.Zstd))
		w.put("b.parquet", pq(t, 1000, 90, 90, &parquet.Snappy))
		w.put("c.parquet", []byte("nothing like it"))
		c := isolatedConfig(w)
		c.ChunkRows = 50
		if stop > 0 {
			require.ErrorIs(t, w.live(c, life{StopAfter: stop, Commit: stop - 1, Hear: true}), filetest.ErrKilled)
			c.ChunkRows = 77
		}
		w.must(c)
		require.Equal(t, append(good(0, 300), good(1000, 90)...), w.IDs())
		require.Equal(t, []string{"a.parquet ok", "b.parquet ok", "c.parquet failed"}, w.Statuses())
		require.Contains(t, w.Ledger()[2].Error, "no Parquet file")
		require.EqualValues(t, 300, w.Ledger()[0].Rows)
	}
}

// TestIsolatedOutOfMemory: a file that no limit of the reader refuses makes the child run
// out of memory; the file is failed, the others are read, this process lives.
func TestIsolatedOutOfMemory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	// One page of 512 MiB of zeros, in 50 KB.
	const values = 64 << 20
	ids := craft.Chunk{Name: "id", Type: thriftformat.Int64, Codec: thriftformat.Zstd, Values: values, Pages: []craft.Page{craft.Data(values, thriftformat.Plain, make([]byte, 8*values)).Zstd()}}
	texts := craft.Chunk{Name: "text", Type: thriftformat.ByteArray, Codec: thriftformat.Uncompressed, Values: values, Pages: []craft.Page{
		craft.Dictionary(1, []byte("\x01\x00\x00\x00a")), craft.Data(values, thriftformat.RLEDictionary, append([]byte{1}, append(binary.AppendUvarint(nil, values<<1), 0)...)),
	}}
	b := craft.File(values, nil, ids, texts)
	runtime.GC()
	w.put("a.parquet", b)
	w.put("b.parquet", pq(t, 1000, 10, 10, &parquet.Snappy))
	require.Less(t, len(b), 1<<20, "a small file")

	c := isolatedConfig(w)
	w.must(c)
	require.Equal(t, good(1000, 10), w.IDs())
	require.Contains(t, w.Ledger()[0].Error, "is the limit", "the default limits refuse it without any process dying")

	w = newWorld(t)
	w.put("a.parquet", b)
	w.put("b.parquet", pq(t, 1000, 10, 10, &parquet.Snappy))
	c = isolatedConfig(w)
	c.Isolate.Memory = 256 << 20
	c.Limits = Limits{Page: 1 << 30, Unfold: -1}
	w.must(c)
	require.Equal(t, good(1000, 10), w.IDs())
	require.Equal(t, []string{"a.parquet failed", "b.parquet ok"}, w.Statuses())
	require.Contains(t, w.Ledger()[0].Error, "needs more memory than the 268435456 bytes of Isolate.Memory")
}

// TestIsolatedKilled: kill -9 of the child in the middle. With attempts left, the run ends
// so that the pipeline rewinds, and every row is there once; with none, the file is failed
// and the run goes on.
func TestIsolatedKilled(t *testing.T) {
	for _, attempts := range []int{1, 3} {
		w := newWorld(t)
		w.put("a.parquet", pq(t, 0, 20_000, 7000, &parquet.Zstd))
		w.put("b.parquet", pq(t, 100_000, 100, 100, &parquet.Snappy))
		var victim *os.Process
		children(t, true, func(i int, p *os.Process) {
			if i == 0 {
				victim = p
			}
		})
		c := isolatedConfig(w)
		c.ChunkRows, c.Attempts = 300, attempts
		l := filetest.Whole()
		l.BeforeChunk = func(i int) {
			if i == 5 {
				require.NoError(t, victim.Kill())
			}
		}
		err := w.live(c, l)
		if attempts == 1 {
			require.NoError(t, err)
			require.Equal(t, []string{"a.parquet failed", "b.parquet ok"}, w.Statuses())
			require.Contains(t, w.Ledger()[0].Error, "was killed (signal: killed)")
			read := int(w.Ledger()[0].Rows)
			require.Less(t, read, 20_000)
			require.Equal(t, append(good(0, read), good(100_000, 100)...), w.IDs(), "D4: nothing twice, nothing missing before the kill")
			continue
		}
		require.ErrorContains(t, err, "attempt 1 of 3")
		require.True(t, leat.IsTransient(err), "the pipeline rewinds")
		w.must(c)
		require.Equal(t, []string{"a.parquet ok", "b.parquet ok"}, w.Statuses())
		require.Equal(t, append(good(0, 20_000), good(100_000, 100)...), w.IDs(), "D4: nothing lost, nothing twice")
	}
}

// TestIsolatedHangs: a child that does not answer is killed, and the file has failed.
func TestIsolatedHangs(t *testing.T) {
	w := newWorld(t)
	w.put("a.parquet", pq(t, 0, 300, 100, &parquet.Zstd))
	w.put("b.parquet", pq(t, 1000, 10, 10, &parquet.Snappy))
	children(t, true, func(i int, p *os.Process) {
		if i == 0 {
			require.NoError(t, p.Signal(syscall.SIGSTOP))
		}
	})
	c := isolatedConfig(w)
	c.Isolate.Timeout = 300 * time.Millisecond
	w.must(c)
	require.Equal(t, good(1000, 10), w.IDs())
	require.Contains(t, w.Ledger()[0].Error, "gave no answer for 300ms, and was killed")
}

// TestIsolatedKilledEarly: the child that looks at the footer is killed; the next run reads
// the file.
func TestIsolatedKilledEarly(t *testing.T) {
	w := newWorld(t)
	w.put("a.parquet", pq(t, 0, 30, 10, &parquet.Zstd))
	w.put("b.parquet", pq(t, 1000, 10, 10, &parquet.Snappy))
	children(t, false, func(i int, p *os.Process) {
		if i == 0 {
			require.NoError(t, p.Kill())
		}
	})
	err := w.live(isolatedConfig(w), filetest.Whole())
	require.NoError(t, err)
	require.Equal(t, good(1000, 10), w.IDs(), "it could not be looked at, and has no place in the log yet")
	w.must(isolatedConfig(w))
	require.ElementsMatch(t, append(good(0, 30), good(1000, 10)...), w.IDs())
}

// TestIsolatedNeverBegins: what ends a child before it knows a byte of the file is no fault
// of the file, which may be read another time.
func TestIsolatedNeverBegins(t *testing.T) {
	t.Parallel()
	b := pq(t, 0, 3, 3, &parquet.Zstd)
	_, err := isolated(t.Context(), &Isolate{Memory: 1}, bytes.NewReader(b), int64(len(b)), parquetread.Limits{}, true)
	require.ErrorContains(t, err, "does not come to it")
	require.False(t, parquetread.IsDamage(err) || filesource.IsDamaged(err))
}

// TestIsolatedChildIsAlone: it has neither the environment nor the files of this process.
func TestIsolatedChildIsAlone(t *testing.T) {
	w := newWorld(t)
	w.put("a.parquet", pq(t, 0, 3000, 100, &parquet.Zstd))
	var env, open string
	children(t, true, func(_ int, p *os.Process) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.Pid))
		require.NoError(t, err)
		env = string(b)
		fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p.Pid))
		require.NoError(t, err)
		for _, fd := range fds {
			to, _ := os.Readlink(fd)
			open += to + " "
		}
	})
	w.must(isolatedConfig(w))
	require.Equal(t, good(0, 3000), w.IDs())
	require.NotContains(t, env, "PATH")
	require.NotContains(t, open, ".parquet")
}
