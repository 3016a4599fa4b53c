package sqlitesink

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/killtest"
)

const (
	groupPartitions = 4
	million         = 1_000_000
)

// member is what an engine in a consumer group would be. Row n of partition p is always the
// same one.
type member struct {
	path string
	r    *rand.Rand
	sink *Sink[suelta]
	next map[int]int64 // rows sent, by partition
}

func (m *member) open(partitions []int) error {
	if m.sink != nil {
		if err := m.sink.Close(); err != nil {
			return err
		}
	}
	m.sink, m.next = New(Config[suelta]{Path: m.path, Table: "ventas", Synchronous: Normal}), map[int]int64{}
	if err := patiently(func() error { return m.sink.Open(context.Background(), env()) }); err != nil {
		return err
	}
	return m.take(partitions)
}

// patiently repeats what is transient, as the engine does.
func patiently(f func() error) error {
	for {
		if err := f(); !leat.IsTransient(err) || errors.Is(err, leat.ErrAborted) {
			return err
		}
	}
}

func (m *member) take(partitions []int) error {
	var names []string
	for _, p := range partitions {
		names = append(names, partition(p))
	}
	var at map[string]leat.Position
	err := patiently(func() (err error) {
		at, err = m.sink.Restore(context.Background(), names)
		return err
	})
	for _, p := range partitions {
		if err == nil {
			m.next[p] = at[partition(p)].Next
		}
	}
	return err
}

func (m *member) write(p int, n int64) error {
	var rows []suelta
	for i := range n {
		rows = append(rows, suelta{int64(p)*million + m.next[p] + i, "x"})
	}
	err := patiently(func() error { return m.sink.write(context.Background(), rows) })
	if err == nil {
		m.next[p] += n
	}
	return err
}

func (m *member) commit() error {
	cp := leat.Checkpoint{Positions: map[string]leat.Position{}}
	for p, n := range m.next {
		cp.Positions[partition(p)] = leat.Position{Next: n, Log: "log"}
	}
	return patiently(func() error { _, err := m.sink.Commit(context.Background(), cp); return err })
}

// step does one thing at random.
func (m *member) step() error {
	mine := slices.Sorted(maps.Keys(m.next))
	switch k := m.r.IntN(20); {
	case k < 2 || len(mine) == 0: // takes one more, from whoever has it, also while rows are open
		if p := m.r.IntN(groupPartitions); !slices.Contains(mine, p) {
			return m.take([]int{p})
		}
		return nil
	case k < 3: // gives one up in good order (rule H3)
		err := m.commit()
		delete(m.next, mine[m.r.IntN(len(mine))])
		return err
	case k < 13:
		return m.write(mine[m.r.IntN(len(mine))], int64(1+m.r.IntN(40)))
	}
	return m.commit()
}

// steps does some, and rewinds when it has to.
func (m *member) steps(n int) error {
	for range n {
		err := m.step()
		if err != nil && !errors.Is(err, leat.ErrFenced) && !errors.Is(err, leat.ErrAborted) {
			return err
		}
		for err != nil {
			mine := slices.DeleteFunc(slices.Sorted(maps.Keys(m.next)), func(int) bool { return m.r.IntN(2) == 0 })
			if err = m.open(mine); err != nil && !errors.Is(err, leat.ErrAborted) {
				return err
			}
		}
	}
	return nil
}

// beMember is a process of a group.
func beMember(dir string) {
	m := &member{path: killedDB(dir), r: rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))}
	killtest.Must(m.open([]int{m.r.IntN(groupPartitions)}))
	for killtest.More() {
		killtest.Must(m.steps(8))
		killtest.Ack(0)
	}
}

// logged asserts that the table holds a beginning of each partition, each row once, up to
// its position.
func logged(t *testing.T, path string) (rows int64) {
	t.Helper()
	for _, r := range ask(t, path, `SELECT p, count(id), count(DISTINCT id), ifnull(max(id) % 1000000 + 1, 0), ifnull(next_offset, 0)
		FROM (SELECT unicode(partition) - 97 AS p, next_offset FROM leat_positions) LEFT JOIN ventas ON id / 1000000 = p GROUP BY p`) {
		require.Equal(t, []string{r[1], r[1], r[1], r[1]}, r[1:], "lost 0, twice 0: rows, distinct rows, the last row and the position of partition %s", r[0])
		n, err := strconv.ParseInt(r[1][len("int "):], 10, 64)
		require.NoError(t, err)
		rows += n
	}
	return rows
}

// E1 to E3: processes of a group take each other's partitions and are killed.
func TestKillGroup(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, (&member{path: killedDB(dir)}).open([]int{0}))
	t.Run("members", func(t *testing.T) {
		for i := range 3 {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				killtest.Kill(t, "member", dir, 5, func(t *testing.T, _ int64) { logged(t, killedDB(dir)) })
			})
		}
	})
	t.Logf("%d rows", logged(t, killedDB(dir)))
	require.Equal(t, [][]string{{"text ok"}}, ask(t, killedDB(dir), "PRAGMA integrity_check"))
}

// The same in one process. -race watches.
func TestGroup(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	var wg sync.WaitGroup
	failed := make([]error, 3)
	for i := range failed {
		wg.Go(func() {
			m := &member{path: path, r: rand.New(rand.NewPCG(uint64(i), 1))}
			if failed[i] = m.open([]int{i}); failed[i] == nil {
				failed[i] = errors.Join(m.steps(150), m.sink.Close())
			}
		})
	}
	wg.Wait()
	require.NoError(t, errors.Join(failed...))
	t.Logf("%d rows", logged(t, path))
}
