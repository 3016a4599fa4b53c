package leat_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
)

// counting numbers the rows of each partition: row → "n:row".
type counting struct {
	mu        sync.Mutex
	n         map[string]int
	dirty     map[string]bool
	restored  [][]int // what each Restore got
	snapshots int
	deltas    int
	process   func(row int) // may panic
	err       func(row int) error
}

func newCounting() *counting {
	return &counting{n: map[string]int{}, dirty: map[string]bool{}}
}

func (c *counting) Process(_ context.Context, in *leat.Batch[int], out *leat.Batch[string]) error {
	for i, r := range in.Rows() {
		if c.process != nil {
			c.process(r)
		}
		if c.err != nil {
			if err := c.err(r); err != nil {
				return err
			}
		}
		c.mu.Lock()
		c.n[in.Partition()]++
		c.dirty[in.Partition()] = true
		n := c.n[in.Partition()]
		c.mu.Unlock()
		out.Append(fmt.Sprintf("%d:%d", n, r), i)
	}
	return nil
}

func (c *counting) Restore(partition string, saved [][]byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[partition], c.dirty[partition] = 0, false
	var all []int
	for _, b := range saved {
		var n int
		if err := json.Unmarshal(b, &n); err != nil {
			return err
		}
		c.n[partition] = n
		all = append(all, n)
	}
	c.restored = append(c.restored, all)
	return nil
}

func (c *counting) Delta(partition string) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.dirty[partition] {
		return nil, nil
	}
	c.deltas++
	c.dirty[partition] = false
	return json.Marshal(c.n[partition])
}

func (c *counting) Snapshot(partition string) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.snapshots++
	c.dirty[partition] = false
	return json.Marshal(c.n[partition])
}

// requireCounted checks that the n-th row of each partition has number n.
func requireCounted(t *testing.T, sink *leattest.Collector[string]) {
	t.Helper()
	n := map[string]int{}
	rows := sink.Committed()
	for i, at := range sink.Origins() {
		n[at.Partition]++
		got, _, _ := strings.Cut(rows[i], ":")
		require.Equal(t, fmt.Sprint(n[at.Partition]), got, "rule G12: state and positions are one cut (row %q of %s)", rows[i], at.Partition)
	}
}
