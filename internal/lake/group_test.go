package lake

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/failpoint"
	"github.com/leatgo/leat/internal/killtest"
)

// Several members of one owner, and a log of several partitions: row n of partition p is
// always the same one.

const million = 1_000_000

func logRows(p int, from, to int64) (rows []fila) {
	for n := from; n < to; n++ {
		rows = append(rows, fila{ID: int64(p)*million + n, P: string(rune('a' + n%3))})
	}
	return rows
}

func partitionName(p int) string { return fmt.Sprintf("src/%d", p) }

// logged asserts that the lake holds a beginning of each partition, each row once, and gives
// their lengths.
func logged(t testing.TB, dir string, partitions int) (lengths []int64) {
	t.Helper()
	ids := content(t, dir)
	slices.Sort(ids)
	lengths = make([]int64, partitions)
	for _, id := range ids {
		p := id / million
		require.Equal(t, lengths[p], id%million, "lost 0, twice 0: partition %d", p)
		lengths[p]++
	}
	return lengths
}

// member is what an engine would be: it has partitions, and writes them from where Restore
// says.
type member struct {
	dir  string
	env  leat.Env
	hook hooks
	r    *rand.Rand
	sink *Sink[fila]
	next map[int]int64 // rows sent, by partition
	tell func(format string, args ...any)
}

// passes tells what a member rewinds for.
func passes(err error) bool {
	return errors.Is(err, leat.ErrFenced) || errors.Is(err, leat.ErrAborted) || errors.Is(err, errInjected)
}

// open begins a life with these partitions, as after a rewind.
func (m *member) open(partitions []int) error {
	c := byP(m.dir)
	c.MaxOpen = 1 + m.r.IntN(4)
	c.Roll.Rows = int64(1 + m.r.IntN(40))
	m.sink, m.next = New(c), map[int]int64{}
	m.sink.hook = m.hook
	if err := m.sink.Open(context.Background(), m.env); err != nil {
		return err
	}
	return m.take(partitions)
}

// take takes partitions over, whoever has them.
func (m *member) take(partitions []int) error {
	var names []string
	for _, p := range partitions {
		names = append(names, partitionName(p))
	}
	at, err := m.sink.Restore(context.Background(), names)
	if err != nil {
		return err
	}
	for _, p := range partitions {
		m.next[p] = at[partitionName(p)].Next
	}
	return nil
}

func (m *member) write(p int, n int64) error {
	rows := logRows(p, m.next[p], m.next[p]+n)
	err := m.sink.write(context.Background(), partitionName(p), rows, func(i int) leat.Offset { return rows[i].ID % million })
	if err == nil {
		m.next[p] += n
	}
	return err
}

func (m *member) commit(force bool) (bool, error) {
	cp := leat.Checkpoint{Force: force, Positions: map[string]leat.Position{}}
	for p, n := range m.next {
		cp.Positions[partitionName(p)] = leat.Position{Next: n, Log: "log"}
	}
	return m.sink.Commit(context.Background(), cp)
}

// step does one thing at random; most is where the partitions end.
func (m *member) step(partitions int, most int64) error {
	mine := slices.Sorted(maps.Keys(m.next))
	k := m.r.IntN(20)
	switch {
	case k < 3 || len(mine) == 0: // one more, from whoever has it, also while rows are open
		p := m.r.IntN(partitions)
		if _, have := m.next[p]; have {
			return nil
		}
		m.tell("takes %d", p)
		return m.take([]int{p})
	case k < 4: // given up in good order (rule H3)
		if _, err := m.commit(true); err != nil {
			return err
		}
		p := mine[m.r.IntN(len(mine))]
		m.tell("gives %d up at %d", p, m.next[p])
		delete(m.next, p)
		return nil
	case k < 15:
		p := mine[m.r.IntN(len(mine))]
		n := min(int64(m.r.IntN(20)), most-m.next[p])
		m.tell("writes %d rows of %d at %d", n, p, m.next[p])
		return m.write(p, n)
	}
	done, err := m.commit(m.r.IntN(3) > 0)
	m.tell("commits %v: %v %v", m.next, done, err)
	return err
}

// rewind opens again, with some of the partitions it had.
func (m *member) rewind() error {
	mine := slices.Sorted(maps.Keys(m.next))
	mine = slices.DeleteFunc(mine, func(int) bool { return m.r.IntN(2) == 0 })
	if m.sink != nil {
		if err := m.sink.Close(); err != nil {
			return err
		}
	}
	m.tell("opens with %d", mine)
	return m.open(mine)
}

// beMember is a process of a group: it takes what it wants and writes what it has.
func beMember(dir string) {
	seed := uint64(time.Now().UnixNano())
	m := &member{dir: dir, env: env(), hook: hooks{every: 5}, r: rand.New(rand.NewPCG(seed, 1)), tell: func(string, ...any) {}}
	killtest.Must(m.open([]int{m.r.IntN(groupPartitions)}))
	for round := 0; killtest.More(); round++ {
		for range 8 {
			if err := m.step(groupPartitions, million); err != nil {
				if !passes(err) {
					killtest.Must(err)
				}
				killtest.Must(m.rewind())
			}
		}
		held, err := Positions(dir)
		killtest.Must(err)
		sum := int64(0)
		for _, h := range held {
			sum += h.Position.Next
		}
		killtest.Ack(sum)
	}
}

const groupPartitions = 4

// E1 to E3, F1, F5, H3: processes of a group take each other's partitions and are killed, at
// random and at each step of a commit, while the others go on and compact.
func TestKillGroup(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	check := func(t *testing.T, acked int64) {
		sum := int64(0)
		for _, n := range logged(t, dir, groupPartitions) {
			sum += n
		}
		require.GreaterOrEqual(t, sum, acked, "A3: a reported commit is durable")
		if _, err := Compact(t.Context(), dir, compactAll); !leat.IsTransient(err) { // another one's
			require.NoError(t, err)
		}
	}
	t.Run("members", func(t *testing.T) {
		for i := range 2 {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				killtest.Kill(t, "member", dir, 8, check)
			})
		}
		t.Run("at points", func(t *testing.T) {
			t.Parallel()
			for _, point := range []string{"lake/files-synced", "lake/pending-written", "lake/renamed", "lake/before-entry", "lake/after-entry", "lake/snapshot-written", "lake/before-delete"} {
				killtest.KillAt(t, "member", dir, point, 3, check)
			}
		})
	})
	m := &member{dir: dir, env: env(), r: rand.New(rand.NewPCG(1, 1))}
	require.NoError(t, m.open([]int{0, 1, 2, 3}))
	lengths := logged(t, dir, groupPartitions)
	for p, n := range lengths {
		require.Equal(t, n, m.next[p])
	}
	t.Logf("%d rows by partition", lengths)
	_, err := Compact(t.Context(), dir, compactAll)
	require.NoError(t, err)
	require.NoError(t, m.sink.Close())
	require.Equal(t, lengths, logged(t, dir, groupPartitions))
	tidyTree(t, dir)
}

// The same with members that run side by side in one process, with errors at all
// failpoints. -race watches.
func TestGroup(t *testing.T) {
	dir := t.TempDir()
	t.Cleanup(func() { failpoint.Set(nil) })
	const partitions, members, most = 4, 3, 200
	var mu sync.Mutex
	faults := rand.New(rand.NewPCG(3, 4))
	failpoint.Set(func(string) error {
		mu.Lock()
		defer mu.Unlock()
		if faults.IntN(100) == 0 {
			return errInjected
		}
		return nil
	})
	var wg sync.WaitGroup
	failed := make([]error, members)
	var done sync.Map
	for i := range members {
		wg.Go(func() {
			m := &member{dir: dir, env: env(), hook: unsynced(4), r: rand.New(rand.NewPCG(uint64(i), 5)), tell: func(string, ...any) {}}
			err := m.rewind()
			for {
				switch {
				case err == nil:
				case passes(err):
					err = m.rewind()
					continue
				default:
					failed[i] = err
					return
				}
				whole := 0
				for p := range partitions {
					if _, ok := done.Load(p); ok {
						whole++
					}
				}
				if whole == partitions {
					failed[i] = m.sink.Close()
					return
				}
				if err = m.step(partitions, most); err == nil {
					if _, err = m.commit(false); err == nil {
						held, err := Positions(dir)
						if err != nil {
							failed[i] = err
							return
						}
						for _, h := range held {
							if h.Position.Next == most {
								done.Store(int(h.Partition[len(h.Partition)-1]-'0'), true)
							}
						}
					}
				}
			}
		})
	}
	wg.Wait()
	failpoint.Set(nil)
	require.NoError(t, errors.Join(failed...))
	for _, n := range logged(t, dir, partitions) {
		require.EqualValues(t, most, n)
	}
	require.NoError(t, opened(t, byP(dir), env()).Close())
	tidyTree(t, dir)
}
