package folder

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat/internal/sealed"
)

// historyOf is the ledger of n files that were read and moved: four lines each.
func historyOf(tb testing.TB, n int) []byte {
	var b bytes.Buffer
	put := func(ev event) {
		ev.Time = time.Unix(1_700_000_000, 123_456_789).UTC()
		js, err := json.Marshal(&ev)
		require.NoError(tb, err)
		b.Write(sealed.Append(nil, js))
	}
	put(event{Event: "log", Log: "x", Version: ledgerVersion})
	for i := range n {
		seq, name := int64(i)+1, fmt.Sprintf("sales-2026-01-%07d.csv", i)
		put(event{
			Event: "file", Seq: seq, Name: name, Hash: hexHash(name), Size: 4999, ModTime: time.Unix(1_690_000_000, 5).UTC(),
			Base: int64(i) * 5000, Extent: 5000, Status: Pending,
		})
		put(event{Event: "status", Seq: seq, Status: Processing})
		put(event{Event: "status", Seq: seq, Status: OK, Rows: 100, Rejected: 1, Next: int64(i)*5000 + 5000})
		put(event{Event: "moved", Seq: seq, To: ToProcessed, As: name})
	}
	return b.Bytes()
}

// What a long history costs at the start: time and memory for each file.
func BenchmarkLedgerLoad(b *testing.B) {
	const files = 100_000
	text := historyOf(b, files)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	l, err := readLedger("x", bytes.NewReader(text))
	require.NoError(b, err)
	runtime.GC()
	runtime.ReadMemStats(&after)
	require.Len(b, l.entries, files)
	runtime.KeepAlive(text)
	heap := float64(after.HeapAlloc-before.HeapAlloc) / files
	for b.Loop() {
		_, err := readLedger("x", bytes.NewReader(text))
		require.NoError(b, err)
	}
	b.ReportMetric(heap, "heap-B/file")
	b.ReportMetric(float64(len(text))/files, "disk-B/file")
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/files, "µs/file")
}

// A scan that finds nothing new: what watching costs.
func BenchmarkScanOfKnownFiles(b *testing.B) {
	const files = 10_000
	dir := b.TempDir()
	then := time.Now().Add(-time.Hour)
	for i := range files {
		path := filepath.Join(dir, fmt.Sprintf("f%05d.csv", i))
		require.NoError(b, os.WriteFile(path, []byte("id,text\n1,a\n"), 0o600))
		require.NoError(b, os.Chtimes(path, then, then))
	}
	c := testConfig(b)
	c.Dir, c.Watch, c.PollOnly, c.ReadDuplicates = dir, time.Hour, true, true
	c.Logger = slog.New(slog.DiscardHandler)
	f, err := Open(b.Context(), c)
	require.NoError(b, err)
	defer f.Close()
	require.NoError(b, f.Start(b.Context(), 0, false, 0))
	readAll(b, f)
	require.NoError(b, f.Commit(b.Context(), 1<<40))
	for _, s := range f.seen { // as if they had stood still for a while
		s.done = s.since.Add(racy)
	}
	b.ReportAllocs()
	for b.Loop() {
		for e := range f.Entries(b.Context()) {
			b.Fatal(e)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/files, "ns/file")
}
