package lake

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/engine"
	"github.com/leatgo/leat/internal/failpoint"
)

// E1 to E3, F1, F5: whatever other members do at each step of a member's commit, and whether
// it goes on or dies there, each row is there once.
func TestSteps(t *testing.T) {
	type world struct {
		dir  string
		a, b *member
	}
	newMemberOf := func(dir string) *member {
		return &member{dir: dir, env: env(), hook: unsynced(3), r: rand.New(rand.NewPCG(1, 2)), tell: func(string, ...any) {}}
	}
	commitAll := func(m *member) error {
		done, err := m.commit(true)
		if err == nil && !done {
			return errors.New("not done")
		}
		return err
	}
	for _, other := range []struct {
		name  string
		takes bool // a's partition 0
		act   func(w *world) error
	}{
		{"opens", false, func(w *world) error {
			c := newMemberOf(w.dir)
			if err := c.open([]int{3}); err != nil {
				return err
			}
			return c.sink.Close()
		}},
		{"takes a partition", true, func(w *world) error { return w.b.take([]int{0}) }},
		{"takes a partition while rows are open, and writes its rows", true, func(w *world) error {
			if err := w.b.write(2, 5); err != nil {
				return err
			}
			if err := w.b.take([]int{0}); err != nil {
				return err
			}
			if err := w.b.write(0, 10); err != nil {
				return err
			}
			return commitAll(w.b)
		}},
		{"takes both, writes and gives them back", true, func(w *world) error {
			if err := w.b.take([]int{0, 1}); err != nil {
				return err
			}
			if err := errors.Join(w.b.write(0, 3), w.b.write(1, 4)); err != nil {
				return err
			}
			err := commitAll(w.b)
			delete(w.b.next, 0)
			delete(w.b.next, 1)
			return err
		}},
		{"writes at the same offsets", false, func(w *world) error {
			if err := w.b.write(2, 10); err != nil {
				return err
			}
			return commitAll(w.b)
		}},
		{"writes so much that entries are tidied away, and compacts", false, func(w *world) error {
			for range 12 {
				if err := errors.Join(w.b.write(2, 2), commitAll(w.b)); err != nil {
					return err
				}
			}
			o := compacting()
			o.hook = unsynced(3)
			_, err := Compact(t.Context(), w.dir, o)
			return err
		}},
	} {
		for _, point := range []struct {
			name string
			hit  int
		}{{"lake/files-synced", 1}, {"lake/pending-written", 1}, {"lake/renamed", 1}, {"lake/renamed", 2}, {"lake/renamed", 3}, {"lake/before-entry", 1}, {"lake/after-entry", 1}} {
			for _, dies := range []bool{false, true} {
				t.Run(fmt.Sprintf("at %s %d another one %s, dies %v", point.name, point.hit, other.name, dies), func(t *testing.T) {
					t.Cleanup(func() { failpoint.Set(nil) })
					w := &world{dir: t.TempDir()}
					w.a, w.b = newMemberOf(w.dir), newMemberOf(w.dir)
					require.NoError(t, w.a.open([]int{0, 1}))
					require.NoError(t, w.b.open([]int{2}))
					require.NoError(t, errors.Join(w.a.write(0, 6), w.a.write(1, 6), commitAll(w.a)))
					require.NoError(t, errors.Join(w.a.write(0, 9), w.a.write(1, 9)))
					w.a.sink.config.MaxOpen = 64

					hits, acting := 0, false
					failpoint.Set(func(at string) error {
						if acting || at != point.name {
							return nil
						}
						if hits++; hits != point.hit {
							return nil
						}
						acting = true
						defer func() { acting = false }()
						if err := other.act(w); err != nil {
							return fmt.Errorf("the other one failed: %w", err)
						}
						if dies {
							return errInjected
						}
						return nil
					})
					err := commitAll(w.a)
					failpoint.Set(nil)
					require.GreaterOrEqual(t, hits, point.hit)
					switch {
					case dies:
						require.ErrorIs(t, err, errInjected)
					case other.takes && (point.name != "lake/after-entry" || errors.Is(err, leat.ErrFenced)):
						// Behind the entry too, if so much came that it was tidied away (rule E4).
						var fenced *engine.FencedError
						require.ErrorAs(t, err, &fenced, "E3")
						require.Contains(t, fenced.Partitions, partitionName(0))
						require.ErrorIs(t, w.a.write(1, 1), leat.ErrAborted)
					default:
						require.NoError(t, err)
					}
					logged(t, w.dir, 4)
					if err == nil {
						require.GreaterOrEqual(t, logged(t, w.dir, 4)[1], int64(15), "A3")
					}
					require.NoError(t, w.a.sink.Close())

					// Another start settles what is left; then all is written to its end.
					c := newMemberOf(w.dir)
					require.NoError(t, c.open([]int{1}))
					logged(t, w.dir, 4)
					tidyTree(t, w.dir)
					if _, has := w.b.next[0]; !has {
						require.NoError(t, c.take([]int{0}))
					}
					for _, m := range []*member{c, w.b} {
						for p := range m.next {
							require.NoError(t, m.write(p, 40-m.next[p]))
						}
						require.NoError(t, commitAll(m))
						require.NoError(t, m.sink.Close())
					}
					require.Equal(t, []int64{40, 40, 40, 0}, logged(t, w.dir, 4))
					tidyTree(t, w.dir)
				})
			}
		}
	}
}
