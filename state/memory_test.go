package state_test

import (
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The state of a stage may be large: saving it must not take a multiple of it.
func TestLargePieceNeedsNoMemoryOfItsSize(t *testing.T) {
	c := config(t)
	s := open(t, c)
	take(t, s, "a")
	const size = 96 << 20
	large := commit(1, strings.Repeat("0123456789abcdef", size/16))

	defer debug.SetGCPercent(debug.SetGCPercent(5))
	runtime.GC()
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before, saved, peak := heap(), make(chan struct{}), make(chan uint64)
	go func() {
		var most uint64
		defer func() { peak <- most }()
		for {
			most = max(most, heap())
			select {
			case <-saved:
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
	}()
	err := s.Commit(t.Context(), large)
	close(saved)
	most := <-peak
	require.NoError(t, err)
	require.Less(t, most, before+size*3/4, "%d MiB beside the piece itself", (most-before)>>20)
	requireHeld(t, c, 1, string(large.Pieces[0].Data))
}
