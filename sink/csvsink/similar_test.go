package csvsink_test

import (
	"bytes"
	"encoding/csv"
	"errors"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/sink/csvsink"
	"github.com/leatgo/leat/stage"
)

// similar gives the same rows again, but does not promise it.
type similar struct{ *leattest.MemSource[conRow] }

func (similar) Replay() leat.ReplayKind { return leat.ReplaySimilar }

// Rule A2-2: behind a source that is only similar, a lake that was ahead of another sink when the pipeline
// ended gets rows again, and takes them.
func TestAheadBehindASimilarSource(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rows := make([]conRow, 1000)
	for i := range rows {
		rows[i] = conRow{int64(i), "x"}
	}
	life := func(other *leattest.Collector[conRow]) error {
		p := leat.New("p", leat.Config{StateDir: filepath.Join(dir, "state"), CheckpointEvery: 20 * time.Millisecond})
		paced := leat.Via(leat.From(p, leat.Source[conRow](similar{leattest.Rows(rows...).Batches(50)})), "pace", stage.Map(func(r conRow) (conRow, error) {
			time.Sleep(100 * time.Microsecond)
			return r, nil
		}))
		leat.To(paced, csvsink.New(csvsink.Config[conRow]{Dir: filepath.Join(dir, "lake"), Roll: csvsink.Roll{Rows: 100}}), leat.Sink[conRow](other))
		return p.Run(t.Context())
	}
	other := leattest.Collect[conRow]().FailCommit(2, errors.New("broken"))
	require.ErrorContains(t, life(other), "broken")
	for range 2 {
		other = other.Successor()
		require.NoError(t, life(other))
	}
	times := map[int64]int{}
	for _, text := range lakeFiles(t, filepath.Join(dir, "lake")) {
		records, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
		require.NoError(t, err)
		for _, r := range records[1:] {
			id, err := strconv.ParseInt(r[0], 10, 64)
			require.NoError(t, err)
			times[id]++
		}
	}
	require.Len(t, times, len(rows), "no row is lost")
	for id, n := range times {
		require.LessOrEqual(t, n, 2, "row %d", id)
	}
}
