package operate_test

import (
	"bytes"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/statefile"
	"github.com/leatgo/leat/internal/store"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/operate"
)

// What is exported and imported again is what was there, byte for byte.
func TestStateRoundTrip(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := store.OpenNow(filepath.Join(dir, "checkpoints.db"))
	require.NoError(t, err)
	require.NoError(t, s.Begin(map[string]store.Position{"never read": {}}, map[string]store.Note{"a\xff": {Stages: map[string]string{"s": "\xfe", "u": ""}}}))
	big := bytes.Repeat([]byte{7, 8, 9}, 1<<20)
	require.NoError(t, s.Commit(store.Checkpoint{Seq: 41, Positions: map[string]store.Position{"a\xff": {Next: 5, Resume: "r\x00\xff", Log: "base64:l"}, "b": {Next: 6}},
		Counters: map[string]int64{"src\x00in": 11, "src\x00?Decode/-/\"x": 2}, Clean: []string{"a\xff"},
		Deltas: []store.Delta{{Stage: "s", Partition: "a\xff", Blob: big, Full: true}, {Stage: "s", Partition: "a\xff", Blob: []byte("d")}, {Stage: "s", Partition: "a\xff"}, {Stage: "u", Partition: "b", Blob: []byte{0}}}}))
	want, err := s.Load()
	require.NoError(t, err)
	state := func(s *store.Store, stage, partition string) [][]byte {
		blobs, err := s.State(stage, partition)
		require.NoError(t, err)
		return blobs
	}
	wantState, wantSize := state(s, "s", "a\xff"), s.Size("s", "a\xff")

	_, err = operate.ExportState(t.Context(), operate.StateFolder(dir), &bytes.Buffer{}, "")
	require.ErrorIs(t, err, operate.ErrInUse)
	require.NoError(t, s.Close())
	var file bytes.Buffer
	out, err := operate.ExportState(t.Context(), operate.StateFolder(dir), &file, "")
	require.NoError(t, err)
	require.Equal(t, operate.StateMoved{Partitions: 3, Pieces: 4, Bytes: 3<<20 + 2}, out)

	other := filepath.Join(t.TempDir(), "not there yet")
	in, err := operate.ImportState(t.Context(), bytes.NewReader(file.Bytes()), operate.StateFolder(other))
	require.NoError(t, err)
	require.Equal(t, out, in)
	s, err = store.OpenNow(filepath.Join(other, "checkpoints.db"))
	require.NoError(t, err)
	got, err := s.Load()
	require.NoError(t, err)
	want.Notes["b"], want.Notes["never read"] = store.Note{}, store.Note{} // said or not, nothing is known
	require.Equal(t, want, got)
	require.Equal(t, len(wantState), len(state(s, "s", "a\xff")))
	for i, b := range state(s, "s", "a\xff") {
		require.True(t, bytes.Equal(wantState[i], b), "piece %d", i)
	}
	require.Equal(t, wantSize, s.Size("s", "a\xff"))
	require.NoError(t, s.Close())
	_, err = operate.ImportState(t.Context(), bytes.NewReader(file.Bytes()), operate.StateFolder(other))
	require.ErrorIs(t, err, store.ErrNotEmpty)

	file.Reset()
	out, err = operate.ExportState(t.Context(), operate.StateFolder(dir), &file, "u")
	require.NoError(t, err)
	require.Equal(t, 1, out.Pieces)
	_, err = operate.ImportState(t.Context(), &file, operate.StateFolder(t.TempDir()))
	require.ErrorContains(t, err, `of stage "u" alone`)
	_, err = operate.ExportState(t.Context(), operate.StateFolder(t.TempDir()), &file, "")
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// A file that is cut off or changed anywhere puts nothing into the folder.
func TestStateFileDamaged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	sink := leattest.Collect[sale]()
	p := leat.New("sales", leat.Config{StateDir: dir, Logger: slog.New(slog.DiscardHandler)})
	leat.To(leat.Via(leat.From(p, leattest.Rows(sale{1, 2}, sale{2, 3})), "total", &total{}), sink)
	require.NoError(t, p.Run(t.Context()))
	var file bytes.Buffer
	_, err := operate.ExportState(t.Context(), operate.StateFolder(dir), &file, "")
	require.NoError(t, err)
	refused := func(b []byte) {
		t.Helper()
		to := t.TempDir()
		_, err := operate.ImportState(t.Context(), bytes.NewReader(b), operate.StateFolder(to))
		require.ErrorIs(t, err, statefile.ErrCorrupt)
		if _, err := os.Stat(filepath.Join(to, "checkpoints.db")); err == nil {
			saved, err := operate.ReadState(to)
			require.NoError(t, err)
			require.Empty(t, saved.Positions, "all or nothing")
		}
	}
	b := file.Bytes()
	for n := 0; n < len(b); n += 1 + len(b)/40 {
		refused(b[:n])
		broken := bytes.Clone(b)
		broken[n] ^= 1
		if broken[n] != '\n' && b[n] != '\n' {
			refused(broken)
		}
	}
	refused(append(bytes.Clone(b), '\n'))
	newer := strings.Replace(string(b), `{"leat_state":1`, `{"leat_state":2`, 1)
	_, err = operate.ImportState(t.Context(), strings.NewReader(newer), operate.StateFolder(t.TempDir()))
	require.ErrorContains(t, err, "use the newer program")
}
