package sqlitesink

import (
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/filelock"
)

// strangers are sinks on one file that know nothing of each other, like those of several
// processes: each takes turns with itself only.
func strangers(t *testing.T, n int) (path string, sinks []*Sink[suelta]) {
	path = dbPath(t)
	for i := range n {
		s := New(Config[suelta]{Path: path, Table: "ventas"})
		require.NoError(t, s.Open(t.Context(), env()))
		shared := s.db.turn
		s.db.turn = make(chan struct{}, 1)
		t.Cleanup(func() { s.db.turn = shared; _ = s.Close() })
		_, err := s.Restore(t.Context(), []string{partition(i)})
		require.NoError(t, err)
		sinks = append(sinks, s)
	}
	return path, sinks
}

func partition(i int) string { return string(rune('a' + i)) }

// A member of a group that commits and goes on at once does not keep the others out.
func TestProcessesTakeTurns(t *testing.T) {
	t.Parallel()
	const members, every = 4, 60 * time.Millisecond
	_, sinks := strangers(t, members)
	commits, longest := make([]int, members), make([]time.Duration, members)
	end := time.Now().Add(3 * time.Second)
	var wg sync.WaitGroup
	for i, s := range sinks {
		wg.Go(func() {
			next := int64(0)
			for time.Now().Before(end) {
				began := time.Now()
				var opened time.Time
				for opened.IsZero() || time.Since(opened) < every {
					err := s.write(t.Context(), []suelta{{next, partition(i)}})
					if leat.IsTransient(err) {
						continue
					}
					if !assert.NoError(t, err) {
						return
					}
					next++
					if opened.IsZero() {
						opened = time.Now()
						longest[i] = max(longest[i], opened.Sub(began))
					}
					time.Sleep(5 * time.Millisecond) // the next rows are on their way
				}
				_, err := s.Commit(t.Context(), leat.Checkpoint{Positions: map[string]leat.Position{partition(i): {Next: next}}})
				if !assert.NoError(t, err) {
					return
				}
				commits[i]++
			}
		})
	}
	wg.Wait()
	t.Logf("commits %v, longest wait for the lock %v", commits, longest)
	assert.Greater(t, 8*slices.Min(commits), slices.Max(commits))
}

// A4: a member that was stopped (SIGSTOP) while it waited for the lock does not keep the others out.
func TestStoppedInTheQueue(t *testing.T) {
	t.Parallel()
	path, sinks := strangers(t, 2)
	head, err := os.OpenFile(path+"-queue", os.O_RDWR|os.O_CREATE, 0o644)
	require.NoError(t, err)
	defer head.Close()
	require.NoError(t, filelock.Try(head, false))
	var wg sync.WaitGroup
	for i, s := range sinks {
		s.db.wait = 12 * time.Second
		wg.Go(func() {
			for next := range int64(3) {
				began := time.Now()
				if !assert.NoError(t, s.write(t.Context(), []suelta{{next, partition(i)}})) {
					return
				}
				assert.Less(t, time.Since(began), 8*time.Second)
				_, err := s.Commit(t.Context(), leat.Checkpoint{Positions: map[string]leat.Position{partition(i): {Next: next + 1}}})
				assert.NoError(t, err)
			}
		})
	}
	wg.Wait()
}
