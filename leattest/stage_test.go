package leattest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/stage"
)

// running is the running sum of a partition, kept over restarts.
type running struct {
	mu  sync.Mutex
	sum map[string]int
}

func (s *running) Process(_ context.Context, in, out *leat.Batch[int]) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, n := range in.Rows() {
		switch {
		case n%11 == 7:
			out.Reject(i, leat.Transform, fmt.Errorf("%d is unlucky", n))
			continue
		case n%11 == 8:
			s.sum[in.Partition()] = -1 // what a panic leaves behind must not count
			panic("no")
		}
		s.sum[in.Partition()] += n
		out.Append(s.sum[in.Partition()], i)
	}
	return nil
}

func (s *running) Restore(partition string, saved [][]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sum, partition)
	if len(saved) == 0 {
		return nil
	}
	var n int
	err := json.Unmarshal(saved[len(saved)-1], &n)
	s.sum[partition] = n
	return err
}

func (s *running) Delta(partition string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return json.Marshal(s.sum[partition])
}

func (s *running) Snapshot(partition string) ([]byte, error) { return s.Delta(partition) }

func newRunning() *running { return &running{sum: map[string]int{}} }

func TestStageOfStage(t *testing.T) {
	t.Parallel()
	t.Run("with state", func(t *testing.T) {
		t.Parallel()
		leattest.TestStage(t, newRunning, ints(40)...)
	})
	t.Run("without", func(t *testing.T) {
		t.Parallel()
		leattest.TestStage(t, func() leat.Stage[int, string] {
			return stage.Map(func(n int) (string, error) {
				if n%5 == 4 {
					return "", errors.New("five")
				}
				return fmt.Sprint(n), nil
			})
		}, ints(40)...)
	})
}

func TestStage(t *testing.T) {
	t.Parallel()
	r := leattest.Stage(t, newRunning(), 1, 2, 7, 3, 8, 4)
	if !slices.Equal(r.Rows, []int{1, 3, 6, 10}) || !slices.Equal(r.From, []int{0, 1, 3, 5}) {
		t.Error(r.Rows, r.From)
	}
	if got := r.Rejected(); !reflect.DeepEqual(got, []string{"2 Transform/-/-", "4 Transform/-/panic"}) || !r.Rejects[1].Panicked {
		t.Error(got)
	}
}
