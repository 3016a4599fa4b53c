package leat_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/failpoint"
	"github.com/leatgo/leat/internal/sealed"
	"github.com/leatgo/leat/leattest"
)

// replayed is a source of numbers whose letters can be replayed.
func replayed(rows ...int) *leattest.MemSource[int] {
	return leattest.Rows(rows...).Named("src").Batches(3).Parse(func(raw []byte) (int, error) { return strconv.Atoi(string(raw)) })
}

func lettersIn(dir string) iter.Seq2[leat.DeadLetter, error] {
	return leat.DeadLetters(filepath.Join(dir, "dead-letters.jsonl"))
}

func allLetters(t *testing.T, dir string) []leat.DeadLetter {
	t.Helper()
	var out []leat.DeadLetter
	for l, err := range lettersIn(dir) {
		require.NoError(t, err)
		out = append(out, l)
	}
	return out
}

// only is letters that pass f, which may mend them.
func only(letters iter.Seq2[leat.DeadLetter, error], f func(*leat.DeadLetter) bool) iter.Seq2[leat.DeadLetter, error] {
	return func(yield func(leat.DeadLetter, error) bool) {
		for l, err := range letters {
			if (err != nil || f(&l)) && !yield(l, err) {
				return
			}
		}
	}
}

func replay(t *testing.T, p *leat.Pipeline, letters iter.Seq2[leat.DeadLetter, error]) leat.ReplayStats {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	s, err := leat.Replay(ctx, p, letters)
	require.NoError(t, err)
	require.Equal(t, s.Letters, s.Journaled+s.Already+s.Undecodable)
	return s
}

func sorted(rows []int) []int {
	rows = slices.Clone(rows)
	slices.Sort(rows)
	return rows
}

var errOdd = errors.New("odd")

// Rule B4: letters go through the pipeline again, repeating it is safe, and all else in
// the state folder stays.
func TestReplayB4(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, sink, broken := config(t), leattest.Collect[int](), true
		build := func(n int) *leat.Pipeline {
			p := leat.New("p", c)
			even := via(leat.From(p, replayed(ints(n)...)), "even", rowwise(func(r int) (int, error) {
				if broken && r%2 == 1 {
					return 0, errOdd
				}
				return r, nil
			}))
			leat.To(even, sink)
			return p
		}
		require.NoError(t, run(t, build(10)))
		require.Len(t, sink.Committed(), 5)
		before := sink.Positions()["src"]

		broken = false
		p := build(10)
		s := replay(t, p, lettersIn(c.StateDir))
		require.Equal(t, leat.ReplayStats{Letters: 5, Journaled: 5, Why: map[string]int{}, Sent: 5}, s)
		require.Equal(t, ints(10), sorted(sink.Committed()))
		require.Equal(t, before, sink.Positions()["src"], "the input's own position stays")
		require.Equal(t, leat.NodeStats{Name: "src", Kind: "source", In: 15, Out: 15}, node(t, p.Stats(), "src"))
		require.Equal(t, leat.NodeStats{Name: "even", Kind: "stage", In: 15, Out: 10, Rejected: 5}, node(t, p.Stats(), "even"))
		require.Equal(t, leat.NodeStats{Name: "collect", Kind: "sink", In: 15, Out: 10, Rejected: 5}, node(t, p.Stats(), "collect"))
		require.EqualError(t, p.Run(t.Context()), "pipeline p: it was run before; build a new one")
		_, err := leat.Replay(t.Context(), p, nil)
		require.EqualError(t, err, "pipeline p: it was run before; build a new one")

		for range 2 {
			s = replay(t, build(10), lettersIn(c.StateDir))
			require.Equal(t, leat.ReplayStats{Letters: 5, Already: 5, Why: map[string]int{}}, s)
		}
		require.Equal(t, ints(10), sorted(sink.Committed()), "repeating is safe")

		p = build(12)
		require.NoError(t, run(t, p))
		requireBalance(t, p.Stats())
		require.Equal(t, ints(12), sorted(sink.Committed()), "the input goes on where it was")
		require.Zero(t, replay(t, build(12), nil).Sent, "a run leaves the position of the replay alone")
	})
}

// A row goes only where it did not get.
func TestReplayWays(t *testing.T) {
	type sinks map[string][]int
	// refused by a switch: a node that is on refuses rows for which r%10 == 7.
	type world struct {
		c     leat.Config
		on    map[string]bool
		sinks map[string]*leattest.Collector[int]
	}
	node := func(w *world, name string) func(context.Context, *leat.Batch[int], *leat.Batch[int]) error {
		return rowwise(func(r int) (int, error) {
			if w.on[name] && r%10 == 7 {
				return 0, errOdd
			}
			return r, nil
		})
	}
	twice := flat(func(r int) []int { return []int{r * 10, r*10 + 7, r*10 + 8} })
	for _, test := range []struct {
		name  string
		rows  []int
		build func(w *world, f leat.Flow[int], to func(f leat.Flow[int], sink string))
		lives [][]string // what is switched on in the first run, and in each replay
		want  sinks      // in the end
		sent  []int64    // by replay

		refused []int64 // by replay; nil: not looked at
	}{
		{
			name: "a branch that took the row does not get it twice", rows: []int{6, 7, 17},
			build: func(w *world, f leat.Flow[int], to func(leat.Flow[int], string)) {
				to(via(f, "a", node(w, "a")), "A")
				to(via(f, "b", node(w, "b")), "B")
				to(f, "all")
			},
			lives: [][]string{{"a"}, {}},
			want:  sinks{"A": {6, 7, 17}, "B": {6, 7, 17}, "all": {6, 7, 17}}, sent: []int64{2},
		},
		{
			name: "a row that one sink refused goes to that sink alone", rows: []int{6, 7},
			build: func(w *world, f leat.Flow[int], to func(leat.Flow[int], string)) {
				a := via(f, "a", node(w, "a"))
				to(a, "A")
				to(a, "B")
			},
			lives: [][]string{{"B"}, {"B"}, {}},
			want:  sinks{"A": {6, 7}, "B": {6, 7}}, sent: []int64{1, 1},
		},
		{
			name: "of the rows made from one record only the refused one passes", rows: []int{1, 2},
			build: func(w *world, f leat.Flow[int], to func(leat.Flow[int], string)) {
				made := via(f, "make", twice)
				to(made, "all")
				to(via(made, "a", node(w, "a")), "A")
			},
			lives: [][]string{{"a"}, {}},
			want:  sinks{"all": {10, 17, 18, 20, 27, 28}, "A": {10, 17, 18, 20, 27, 28}}, sent: []int64{2},
		},
		{
			name: "refused further on the second time", rows: []int{1},
			build: func(w *world, f leat.Flow[int], to func(leat.Flow[int], string)) {
				made := via(via(f, "make", twice), "a", node(w, "a"))
				to(made, "A")
				to(via(made, "b", node(w, "b")), "B")
			},
			lives: [][]string{{"a"}, {"b"}, {"B"}, {}},
			want:  sinks{"A": {10, 17, 18}, "B": {10, 17, 18}}, sent: []int64{1, 1, 1},
		},
		{
			name: "refused nearer the source the second time", rows: []int{6, 7},
			build: func(w *world, f leat.Flow[int], to func(leat.Flow[int], string)) {
				a := via(f, "a", node(w, "a"))
				to(a, "A")
				to(via(a, "b", node(w, "b")), "B")
			},
			lives: [][]string{{"B"}, {"a"}, {"b"}, {}},
			want:  sinks{"A": {6, 7}, "B": {6, 7}}, sent: []int64{1, 1, 1},
		},
		{
			name: "a neighbour that is refused now was delivered then: the row waits", rows: []int{1},
			build: func(w *world, f leat.Flow[int], to func(leat.Flow[int], string)) {
				made := via(f, "make", flat(func(r int) []int { return []int{r, 100*r + 7} }))
				same := via(made, "a", func(_ context.Context, in, out *leat.Batch[int]) error {
					for i, r := range in.Rows() {
						if w.on["small"] && r == 1 {
							out.Reject(i, leat.Transform, errOdd)
							continue
						}
						out.Append(r, i)
					}
					return nil
				})
				to(same, "A")
			},
			lives: [][]string{{"A"}, {"small"}, {"small"}, {}},
			want:  sinks{"A": {1, 107}}, sent: []int64{1, 1, 1}, refused: []int64{1, 1, 0},
		},
		{
			name: "all rows of the record refused nearer the source", rows: []int{1},
			build: func(w *world, f leat.Flow[int], to func(leat.Flow[int], string)) {
				made := via(f, "make", twice)
				to(via(made, "a", rowwise(func(r int) (int, error) {
					if w.on["none"] {
						return 0, errOdd
					}
					return r, nil
				})), "A")
			},
			lives: [][]string{{"A"}, {"none"}, {"none"}, {}},
			want:  sinks{"A": {10, 17, 18}}, sent: []int64{1, 1, 1}, refused: []int64{1, 1, 0},
		},
		{
			name: "merged branches", rows: []int{6, 7},
			build: func(w *world, f leat.Flow[int], to func(leat.Flow[int], string)) {
				b := via(f, "b", rowwise(func(r int) (int, error) { return r + 1000, nil }))
				a := via(f, "a", node(w, "a"))
				m := leat.Merge(b, a)
				to(via(m, "m", node(w, "m")), "M")
				to(a, "A")
			},
			lives: [][]string{{"a"}, {"m"}, {"M"}, {}},
			want:  sinks{"M": {6, 7, 1006, 1007}, "A": {6, 7}}, sent: []int64{1, 1, 1},
		},
		{
			name: "both sides of a merge refused behind it", rows: []int{7},
			build: func(w *world, f leat.Flow[int], to func(leat.Flow[int], string)) {
				b := via(f, "b", rowwise(func(r int) (int, error) { return r + 1000, nil }))
				to(via(leat.Merge(b, via(f, "a", node(w, "a"))), "m", node(w, "m")), "M")
			},
			lives: [][]string{{"m"}, {"m"}, {}},
			want:  sinks{"M": {7, 1007}}, sent: []int64{2, 2},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := &world{c: config(t), sinks: map[string]*leattest.Collector[int]{}}
				build := func() *leat.Pipeline {
					p := leat.New("p", w.c)
					test.build(w, leat.From(p, replayed(test.rows...)), func(f leat.Flow[int], name string) {
						if w.sinks[name] == nil {
							w.sinks[name] = leattest.Collect[int]().Named(name)
							w.sinks[name].RejectIf(func(r int) error {
								if w.on[name] && r%10 == 7 {
									return errOdd
								}
								return nil
							})
						}
						leat.To(f, w.sinks[name])
					})
					return p
				}
				for k, on := range test.lives {
					w.on = map[string]bool{}
					for _, name := range on {
						w.on[name] = true
					}
					if k == 0 {
						require.NoError(t, run(t, build()))
						continue
					}
					p := build()
					s := replay(t, p, lettersIn(w.c.StateDir))
					requireBalance(t, p.Stats())
					require.Equal(t, test.sent[k-1], s.Sent, "replay %d", k)
					require.Empty(t, s.Why)
					if test.refused != nil {
						require.Equal(t, test.refused[k-1], s.Rejected, "one letter for a record")
					}
				}
				for name, rows := range test.want {
					require.Equal(t, rows, sorted(w.sinks[name].Committed()), "sink %s", name)
				}
				s := replay(t, build(), lettersIn(w.c.StateDir))
				require.Zero(t, s.Sent, "nothing is left")
			})
		})
	}
}

// A row that is refused again has a new letter with the same bytes and origin, and what
// is mended in the iterator is what is sent.
func TestReplayRefusedAgainAndMended(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, sink := config(t), leattest.Collect[int]()
		build := func(rows ...int) *leat.Pipeline {
			p := leat.New("p", c)
			leat.To(via(leat.From(p, replayed(rows...)), "even", rowwise(func(r int) (int, error) {
				if r%2 == 1 {
					return 0, errOdd
				}
				return r, nil
			})), sink)
			return p
		}
		require.NoError(t, run(t, build(0, 1, 2, 3)))
		s := replay(t, build(), lettersIn(c.StateDir))
		require.Equal(t, leat.ReplayStats{Letters: 2, Journaled: 2, Why: map[string]int{}, Sent: 2, Rejected: 2}, s)
		letters := allLetters(t, c.StateDir)
		require.Len(t, letters, 4)
		l := letters[3]
		require.NotEqual(t, letters[1].ID, l.ID)
		assert.Equal(t, 2, l.Attempt)
		assert.Equal(t, "src/@replay", l.Partition)
		assert.Equal(t, "src", l.FirstPartition, "rule C5")
		assert.Equal(t, leat.Offset(3), l.FirstOffset)
		assert.Equal(t, "3", string(l.Raw))
		assert.Equal(t, []leat.LetterStep{{Node: "even"}}, l.Path)

		s = replay(t, build(), only(lettersIn(c.StateDir), func(l *leat.DeadLetter) bool {
			if l.Attempt == 2 && l.FirstOffset == 3 {
				l.Raw = []byte("30") // mended
			}
			return true
		}))
		require.Equal(t, leat.ReplayStats{Letters: 4, Already: 2, Journaled: 2, Why: map[string]int{}, Sent: 2, Rejected: 1}, s)
		require.Equal(t, []int{0, 2, 30}, sink.Committed())
		l = allLetters(t, c.StateDir)[4]
		require.Equal(t, 3, l.Attempt)
		require.Equal(t, leat.Offset(1), l.FirstOffset)

		// Mended so that it can't be read at all: the letter stays, and its way too.
		s = replay(t, build(), only(lettersIn(c.StateDir), func(l *leat.DeadLetter) bool {
			l.Raw = []byte("x")
			return l.Attempt == 3
		}))
		require.EqualValues(t, 1, s.Rejected)
		l = allLetters(t, c.StateDir)[5]
		require.Equal(t, "src", l.Node)
		require.Equal(t, leat.Decode, l.Class)
		require.Equal(t, []leat.LetterStep{{Node: "even"}}, l.Path)
	})
}

// What can't be replayed is counted and said, is not taken over, and costs the others
// nothing.
func TestReplayUndecodable(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, sink := config(t), leattest.Collect[int]()
		build := func(stage string, parse func([]byte) (int, error)) *leat.Pipeline {
			p := leat.New("p", c)
			from := leattest.Rows(ints(6)...).Named("src").Parse(parse)
			mute := source(func(context.Context, leat.Intake[int]) error { return nil })
			leat.To(via(leat.Merge(leat.From(p, from), leat.From(p, mute)), stage, rowwise(func(r int) (int, error) {
				if stage == "old" {
					return 0, errOdd
				}
				return r, nil
			})), sink)
			return p
		}
		atoi := func(raw []byte) (int, error) { return strconv.Atoi(string(raw)) }
		require.NoError(t, run(t, build("old", atoi)))

		bad := only(lettersIn(c.StateDir), func(l *leat.DeadLetter) bool {
			switch l.Offset {
			case 0:
				l.ID = ""
			case 1:
				l.Pipeline = "q"
			case 2:
				l.Source = "gone"
			case 3:
				l.Source = "func"
			case 4:
				l.Node = "older"
			}
			if l.Offset < 4 {
				l.Node = "new"
			}
			return true
		})
		s := replay(t, build("new", atoi), bad)
		require.Equal(t, leat.ReplayStats{Letters: 6, Undecodable: 6, Why: map[string]int{
			`it has no id`: 1,
			`it is a letter of pipeline "q", and this is "p"`:            1,
			`source "gone" is not part of the pipeline`:                  1,
			`source "func" can't decode letters: it has no DecodeLetter`: 1,
			`"older", which refused the row, is not part of the pipeline any more: give the stage or sink its old name back, or name another one in the letter`: 1,
			`"old", which refused the row, is not part of the pipeline any more: give the stage or sink its old name back, or name another one in the letter`:   1,
		}}, s)

		s = replay(t, build("old", nil), lettersIn(c.StateDir))
		require.Equal(t, map[string]int{`source "src" can't decode it: Parse is not set`: 6}, s.Why)
		s = replay(t, build("old", func([]byte) (int, error) { panic("boo") }), lettersIn(c.StateDir))
		require.Equal(t, map[string]int{`panic: boo`: 6}, s.Why, "rule A9")

		// Nothing was lost by it.
		renamed := only(lettersIn(c.StateDir), func(l *leat.DeadLetter) bool { l.Node = "new"; return true })
		s = replay(t, build("new", atoi), renamed)
		require.EqualValues(t, 6, s.Sent)
		require.Equal(t, ints(6), sink.Committed())
	})
}

// Letters that were taken over and not sent wait for a program that can send them, or
// get new letters with their way.
func TestReplayByAnotherProgram(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, sink, broken := config(t), leattest.Collect[int](), true
		build := func(stage string, src leat.Source[int]) *leat.Pipeline {
			p := leat.New("p", c)
			leat.To(via(leat.From(p, src), stage, rowwise(func(r int) (int, error) {
				if broken {
					return 0, errOdd
				}
				return r, nil
			})), sink)
			return p
		}
		require.NoError(t, run(t, build("stage", replayed(7, 8))))
		broken = false

		// Taken over, and then the sink can't be opened.
		sink.FailOpen(sink.Calls("Open")+1, errDisk)
		s, err := leat.Replay(t.Context(), build("stage", replayed()), lettersIn(c.StateDir))
		require.ErrorIs(t, err, errDisk)
		require.Equal(t, 2, s.Journaled)

		// A source of the same name that has no DecodeLetter: they wait.
		mute := source(func(context.Context, leat.Intake[int]) error { return nil })
		mute.name = "src"
		require.Zero(t, replay(t, build("stage", mute), nil).Sent)

		// The stage has another name.
		s = replay(t, build("renamed", replayed()), nil)
		require.EqualValues(t, 2, s.Rejected)
		letters := allLetters(t, c.StateDir)
		require.Len(t, letters, 4)
		require.Equal(t, []leat.LetterStep{{Node: "stage"}}, letters[3].Path)
		require.Contains(t, letters[3].Error, `"stage", which refused the row, is not part of the pipeline any more`)

		s = replay(t, build("stage", replayed()), lettersIn(c.StateDir))
		require.Equal(t, leat.ReplayStats{Letters: 4, Already: 2, Journaled: 2, Why: map[string]int{}, Sent: 2}, s)
		require.Equal(t, []int{7, 8}, sink.Committed())
	})
}

// A row that one node before the gate has refused, and after a crash another, has one
// letter (rule B3-2).
func TestReplayRefusedElsewhereAfterACrash(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, sink, who := config(t), leattest.Collect[int](), "sink"
		build := func() *leat.Pipeline {
			p := leat.New("p", c)
			f := leat.From(p, replayed(7, 8))
			for _, name := range []string{"a", "b"} {
				f = via(f, name, rowwise(func(r int) (int, error) {
					if who == name {
						return 0, errOdd
					}
					return r, nil
				}))
			}
			sink.RejectIf(func(r int) error {
				if who == "sink" {
					return errOdd
				}
				return nil
			})
			leat.To(f, sink)
			return p
		}
		require.NoError(t, run(t, build()))
		who = "a"
		sink.FailCommit(sink.Calls("Commit")+1, errDisk)
		_, err := leat.Replay(t.Context(), build(), lettersIn(c.StateDir))
		require.ErrorIs(t, err, errDisk)
		require.Len(t, allLetters(t, c.StateDir), 4)
		who = "b"
		replay(t, build(), nil)
		require.Len(t, allLetters(t, c.StateDir), 4)
		who = ""
		replay(t, build(), lettersIn(c.StateDir))
		require.Equal(t, []int{7, 8}, sink.Committed())
	})
}

// seesLetters keeps the letters that it is given.
type seesLetters struct {
	*leattest.MemSource[int]
	mu  sync.Mutex
	got []leat.DeadLetter
}

func (s *seesLetters) DecodeLetter(l leat.DeadLetter, out *leat.Batch[int], record int) error {
	s.mu.Lock()
	s.got = append(s.got, l)
	s.mu.Unlock()
	return s.MemSource.DecodeLetter(l, out, record)
}

// A source sees a letter as of the first reading, however often it came back.
func TestReplayDecodesAsFirstRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, sink := config(t), leattest.Collect[int]()
		build := func(src leat.Source[int]) *leat.Pipeline {
			p := leat.New("p", c)
			leat.To(via(leat.From(p, src), "s", rowwise(func(r int) (int, error) { return 0, errOdd })), sink)
			return p
		}
		require.NoError(t, run(t, build(replayed(10, 11))))
		for range 3 {
			src := &seesLetters{MemSource: replayed()}
			replay(t, build(src), lettersIn(c.StateDir))
			require.Len(t, src.got, 4, "to judge, and to send")
			for _, l := range src.got {
				require.Equal(t, "src", l.Partition)
				require.Equal(t, fmt.Sprint(10+l.Offset), string(l.Raw))
			}
		}
	})
}

// A sink that is new gets the replayed rows too (rule E7).
func TestReplayForANewSink(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, one, two, broken := config(t), leattest.Collect[int](), leattest.Collect[int]().Named("two"), true
		build := func(sinks ...leat.Sink[int]) *leat.Pipeline {
			p := leat.New("p", c)
			leat.To(via(leat.From(p, replayed(ints(6)...)), "odd", rowwise(func(r int) (int, error) {
				if broken && r%2 == 1 {
					return 0, errOdd
				}
				return r, nil
			})), sinks...)
			return p
		}
		require.NoError(t, run(t, build(one)))
		broken = false
		replay(t, build(one), lettersIn(c.StateDir))
		broken = true
		require.NoError(t, run(t, build(one, two)))
		require.Equal(t, []int{0, 2, 4}, two.Committed())
		broken = false
		replay(t, build(one, two), nil)
		require.Equal(t, ints(6), sorted(one.Committed()))
		require.Equal(t, ints(6), sorted(two.Committed()))
	})
}

// The breaker is off, FailPartition is not obeyed (the row is a letter already), and
// SkipRow is.
func TestReplayPolicies(t *testing.T) {
	for policy, want := range map[leat.Policy]int{leat.FailPartition: 400, leat.DeadLetterRow: 400, leat.SkipRow: 200} {
		t.Run(fmt.Sprint(policy), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := config(t)
				c.Breaker.Share = -1
				build := func() *leat.Pipeline {
					p := leat.New("p", c)
					leat.To(via(leat.From(p, replayed(ints(200)...)), "none", rowwise(func(r int) (int, error) { return 0, errOdd })), leattest.Collect[int]())
					return p
				}
				require.NoError(t, run(t, build()))
				c.Breaker.Share, c.OnReject = 0, map[leat.Class]leat.Policy{leat.Transform: policy}
				s := replay(t, build(), lettersIn(c.StateDir))
				require.EqualValues(t, 200, s.Sent)
				require.EqualValues(t, 200, s.Rejected)
				require.Len(t, allLetters(t, c.StateDir), want)
			})
		})
	}
}

// Two at once would write one journal.
func TestReplayNeedsTheStateFolderAlone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := config(t)
		build := func() *leat.Pipeline {
			p := leat.New("p", c)
			leat.To(leat.From(p, replayed(1).Endless()), leattest.Collect[int]())
			return p
		}
		ctx, cancel := context.WithCancel(t.Context())
		wait := start(ctx, build())
		time.Sleep(time.Second)
		_, err := leat.Replay(t.Context(), build(), nil)
		require.EqualError(t, err, fmt.Sprintf("leat: pipeline p: the state folder %s is in use: Replay needs it alone; stop the pipeline that runs on it, or wait for its end", c.StateDir))
		cancel()
		require.NoError(t, wait())
		replay(t, build(), nil)

		_, err = leat.Replay(ctx, build(), nil)
		require.ErrorIs(t, err, context.Canceled)
	})
}

// A failing iterator sends nothing and loses nothing.
func TestReplayIteratorFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, sink, broken := config(t), leattest.Collect[int](), true
		build := func() *leat.Pipeline {
			p := leat.New("p", c)
			leat.To(via(leat.From(p, replayed(1, 2, 3)), "s", rowwise(func(r int) (int, error) {
				if broken {
					return 0, errOdd
				}
				return r, nil
			})), sink)
			return p
		}
		require.NoError(t, run(t, build()))
		broken = false
		_, err := leat.Replay(t.Context(), build(), func(yield func(leat.DeadLetter, error) bool) {
			for l := range lettersIn(c.StateDir) {
				yield(l, nil)
				break
			}
			yield(leat.DeadLetter{}, errDisk)
		})
		require.ErrorIs(t, err, errDisk)
		require.Empty(t, sink.Committed())
		_, err = leat.Replay(t.Context(), build(), func(func(leat.DeadLetter, error) bool) { panic("boo") })
		require.ErrorContains(t, err, "panic: boo")
		require.EqualValues(t, 3, replay(t, build(), lettersIn(c.StateDir)).Sent)
		require.Equal(t, []int{1, 2, 3}, sink.Committed())

		_, err = leat.Replay(t.Context(), leat.New("", c), nil)
		require.ErrorContains(t, err, "the pipeline has no name")
	})
}

// A damaged journal is an error with the place; a lost or older one is found out by the
// positions (rule A2-1).
func TestReplayJournalDamage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, sink, broken := config(t), leattest.Collect[int](), true
		build := func() *leat.Pipeline {
			p := leat.New("p", c)
			leat.To(via(leat.From(p, replayed(1, 2)), "s", rowwise(func(r int) (int, error) {
				if broken {
					return 0, errOdd
				}
				return r, nil
			})), sink)
			return p
		}
		require.NoError(t, run(t, build()))
		broken = false
		replay(t, build(), lettersIn(c.StateDir))
		path := filepath.Join(c.StateDir, "replay.jsonl")
		good, err := os.ReadFile(path)
		require.NoError(t, err)
		lines := strings.SplitAfter(string(good), "\n")
		for text, want := range map[string]string{
			lines[1]:                       "line 1: it does not begin with the log's id",
			lines[0] + lines[1] + lines[1]: "line 3: no letter, or offset 1 after 1",
			lines[0] + "{}\n" + lines[1]:   "line 2: its checksum is wrong",
			lines[0] + string(sealed.Append(nil, []byte(`{"offset":5}`))): "line 2: no letter, or offset 5 after 0",
			`{"log":"x","version":3}` + "\n":                              "line 1: it has version 3, and this program knows 2",
			strings.Replace(string(good), `"offset":1`, `"offset":0`, 1):  "line 2: its checksum is wrong",
			string(good[:len(good)-1]) + "\x0b":                           "line end is damaged",
			strings.Replace(string(good), "\"}\n", "\"]\n", 3):            "the last line: its checksum is wrong",
			string(good[:len(good)-2]) + "]\n":                            "its checksum is wrong",
			lines[0] + lines[1]:                                           "rule A2-1: " + path + " ends at 2, but letters up to 3 have been replayed",
			"":                                                            "rule A2-1: sink collect holds a position of log",
		} {
			require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
			_, err := leat.Replay(t.Context(), build(), only(lettersIn(c.StateDir), func(l *leat.DeadLetter) bool { return text == "" }))
			require.ErrorContains(t, err, want)
		}
		// Letters that are new to an older copy do not get offsets that the sinks have passed.
		require.NoError(t, os.WriteFile(path, []byte(lines[0]+lines[1]), 0o600))
		for range 2 {
			_, err = leat.Replay(t.Context(), build(), lettersIn(c.StateDir))
			require.ErrorContains(t, err, "rule A2-1: "+path+" ends at 2, but letters up to 3 have been replayed")
		}
		require.NoError(t, os.WriteFile(path, []byte(string(good)+`{"offset":3,"let`), 0o600))
		require.Equal(t, 2, replay(t, build(), lettersIn(c.StateDir)).Already, "a torn line is a crash's")
	})
}

// rule A2-1: of an older copy of the whole state folder the positions know no better than the
// journal, but the sink does: a new letter must not get an offset that it has passed.
func TestReplayOfAnOlderStateFolder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, sink, broken := config(t), leattest.Collect[int](), true
		build := func() *leat.Pipeline {
			p := leat.New("p", c)
			leat.To(via(leat.From(p, replayed(1, 2, 3)), "s", rowwise(func(r int) (int, error) {
				if broken {
					return 0, errOdd
				}
				return r, nil
			})), sink)
			return p
		}
		letter := func(offset leat.Offset) iter.Seq2[leat.DeadLetter, error] {
			return only(lettersIn(c.StateDir), func(l *leat.DeadLetter) bool { return l.Offset == offset })
		}
		require.NoError(t, run(t, build()))
		broken = false
		replay(t, build(), letter(0))
		older := filepath.Join(t.TempDir(), "older")
		require.NoError(t, os.CopyFS(older, os.DirFS(c.StateDir)))
		replay(t, build(), letter(1))
		require.Equal(t, []int{1, 2}, sink.Committed())
		newest := c.StateDir

		c.StateDir = older
		for range 2 {
			_, err := leat.Replay(t.Context(), build(), letter(2))
			require.ErrorContains(t, err, "rule A2-1: "+filepath.Join(older, "replay.jsonl")+" ends at 2, but letters up to 3 have been replayed")
		}
		require.Equal(t, []int{1, 2}, sink.Committed())

		c.StateDir = newest
		replay(t, build(), letter(2))
		require.Equal(t, []int{1, 2, 3}, sink.Committed())
	})
}

// sums is a running sum per partition.
type sums struct {
	mu sync.Mutex
	of map[string]int
}

func (s *sums) Process(_ context.Context, in, out *leat.Batch[int]) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, r := range in.Rows() {
		s.of[in.Partition()] += r
		out.Append(s.of[in.Partition()], i)
	}
	return nil
}
func (s *sums) Restore(partition string, saved [][]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := 0
	if len(saved) > 0 {
		if err := json.Unmarshal(saved[len(saved)-1], &v); err != nil {
			return err
		}
	}
	s.of[partition] = v
	return nil
}
func (s *sums) Delta(partition string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return json.Marshal(s.of[partition])
}
func (s *sums) Snapshot(partition string) ([]byte, error) { return s.Delta(partition) }

// Rules H1 and C5: a stage with state sees a replayed row as one of the partition it was
// first read from; and what has passed such a stage is not sent again.
func TestReplayThroughState(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, sink, broken := config(t), leattest.Collect[int](), true
		build := func(n int) *leat.Pipeline {
			p := leat.New("p", c)
			good := via(leat.From(p, replayed(ints(n)...).Partitions(2)), "good", rowwise(func(r int) (int, error) {
				if broken && r >= 6 {
					return 0, errOdd
				}
				return r, nil
			}))
			leat.To(leat.Via(good, "sum", &sums{of: map[string]int{}}), sink)
			sink.RejectIf(func(r int) error {
				if broken && r == 2 {
					return errOdd
				}
				return nil
			})
			return p
		}
		require.NoError(t, run(t, build(10))) // 0 2 4 and 1 3 5 pass
		require.Equal(t, []int{0, 1, 4, 6, 9}, sorted(sink.Committed()))
		broken = false
		sink.FailCommit(sink.Calls("Commit")+1, leat.ErrAborted)
		p := build(10)
		s := replay(t, p, lettersIn(c.StateDir))
		require.Equal(t, map[string]int{`the row has passed stage "sum", which remembers rows and would count it twice`: 1}, s.Why)
		require.EqualValues(t, 4, s.Sent)
		// 6 and 8 belong to the even numbers, 7 and 9 to the odd ones.
		require.Equal(t, []int{0, 1, 4, 6, 9, 12, 16, 20, 25}, sorted(sink.Committed()))
		require.Equal(t, 1, p.Stats().Run.Rewinds)

		p = build(12)
		require.NoError(t, run(t, p))
		requireBalance(t, p.Stats())
		require.Equal(t, []int{0, 1, 4, 6, 9, 12, 16, 20, 25, 30, 36}, sorted(sink.Committed()), "the state went on from there")
	})
}

// first passes a number once, by the origin of the one that won.
type first struct{ sums }

func (f *first) Repeatable() bool { return true }

func (f *first) Process(_ context.Context, in, out *leat.Batch[int]) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, r := range in.Rows() {
		o := in.Origin(i)
		key := fmt.Sprintf("%s/%d", o.Partition, r)
		if at, seen := f.of[key]; seen && at != int(o.Offset) {
			continue
		}
		f.of[key] = int(o.Offset)
		out.Append(r, i)
	}
	return nil
}
func (f *first) Restore(_ string, saved [][]byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range saved {
		if err := json.Unmarshal(b, &f.of); err != nil {
			return err
		}
	}
	return nil
}
func (f *first) Delta(string) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return json.Marshal(f.of)
}
func (f *first) Snapshot(p string) ([]byte, error) { return f.Delta(p) }

func TestReplayOfAWinnerC5(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, one, two, broken := config(t), leattest.Collect[int]().Named("one"), leattest.Collect[int]().Named("two"), true
		build := func() *leat.Pipeline {
			p := leat.New("p", c)
			good := via(leat.From(p, replayed(1, 2, 1, 9, 2, 3)), "good", rowwise(func(r int) (int, error) {
				if broken && r == 9 {
					return 0, errOdd
				}
				return r, nil
			}))
			leat.To(leat.Via(good, "first", &first{sums{of: map[string]int{}}}), one, two)
			two.RejectIf(func(r int) error {
				if broken && r == 2 {
					return errOdd
				}
				return nil
			})
			return p
		}
		require.NoError(t, run(t, build()))
		require.Equal(t, []int{1, 3}, two.Committed())
		broken = false
		s := replay(t, build(), only(lettersIn(c.StateDir), func(l *leat.DeadLetter) bool {
			if string(l.Raw) == "9" {
				l.Raw = []byte("3") // mended into a duplicate
			}
			return true
		}))
		require.EqualValues(t, 2, s.Sent)
		require.Equal(t, []int{1, 2, 3}, sorted(one.Committed()), "a duplicate is dropped")
		require.Equal(t, []int{1, 2, 3}, sorted(two.Committed()), "rule C5: a row is never a duplicate of itself")
	})
}

// Wherever a replay is cut off, the next one goes on: nothing is lost, nothing comes
// twice, and the counters balance (rules A8, B4, E7).
func TestReplayCutOff(t *testing.T) { // not parallel: failpoints are global
	errCut := errors.New("cut off")
	defer failpoint.Set(nil)
	calls, cuts := 0, 0
	for cut := 1; cut == 1 || calls >= cut-1; cut++ {
		for _, how := range []error{errCut, leat.ErrAborted, leat.Transient(errCut)} {
			calls = 0
			dir, err := os.MkdirTemp("/dev/shm", "leat-replay")
			if err != nil {
				dir = t.TempDir()
			}
			defer os.RemoveAll(dir)
			armed := false
			var mu sync.Mutex
			call := func(who, name string) error {
				mu.Lock()
				defer mu.Unlock()
				if !armed {
					return nil
				}
				if calls++; calls != cut {
					return nil
				}
				cuts++
				if who == "engine" && how != errCut { // the store and the journal know one kind of failure
					return errCut
				}
				if name != "Write" && name != "Commit" && errors.Is(how, leat.ErrAborted) {
					return leat.Transient(errCut)
				}
				return how
			}
			a, b := leattest.Collect[int]().Named("a"), leattest.Collect[int]().Named("b")
			a.OnCall(func(name string) error { return call("a", name) })
			b.OnCall(func(name string) error { return call("b", name) })
			failpoint.Set(func(name string) error {
				if strings.HasPrefix(name, "engine/") || name == "replay/append" {
					return call("engine", name)
				}
				return nil
			})
			broken := 1
			build := func() *leat.Pipeline {
				p := leat.New("p", leat.Config{StateDir: dir, Logger: silent, CheckpointEvery: time.Hour, Breaker: leat.Breaker{Share: -1},
					Retry: leat.Retry{First: time.Nanosecond, Max: time.Nanosecond}})
				made := via(leat.From(p, replayed(ints(8)...)), "make", flat(func(r int) []int { return []int{10 * r, 10*r + 7} }))
				leat.To(made, a)
				leat.To(via(made, "seven", rowwise(func(r int) (int, error) {
					if r%10 == 7 && (broken == 1 || broken == 2 && r > 40) {
						return 0, errOdd
					}
					return r, nil
				})), b)
				b.RejectIf(func(r int) error {
					if broken == 2 && r%20 == 17 {
						return errOdd
					}
					return nil
				})
				return p
			}
			require.NoError(t, build().Run(t.Context()))
			require.Len(t, a.Committed(), 16)
			require.Len(t, b.Committed(), 8)

			broken = 2
			armed = true
			s, err := leat.Replay(t.Context(), build(), lettersIn(dir))
			armed = false
			name := fmt.Sprintf("cut %d by %v: %v %+v", cut, how, err, s)
			if err == nil {
				require.EqualValues(t, 8, s.Sent, name)
			}
			p := build()
			replay(t, p, lettersIn(dir)) // goes on, and takes the refused ones over
			requireBalance(t, p.Stats())
			broken = 0
			for range 2 {
				replay(t, build(), lettersIn(dir))
			}
			want := append(ints(0), a.Committed()...)
			require.Len(t, want, 16, name)
			require.Equal(t, sorted(want), sorted(b.Committed()), name)
			p = build()
			require.NoError(t, p.Run(t.Context()))
			requireBalance(t, p.Stats())
			require.Equal(t, int64(16), node(t, p.Stats(), "b").Out, name)
			require.Equal(t, int64(16), node(t, p.Stats(), "a").Out, name)
			require.Len(t, b.Committed(), 16, name)
			seen := map[string]bool{}
			for _, l := range allLetters(t, dir) {
				require.False(t, seen[l.ID], "rule B3-2: %s", name)
				seen[l.ID] = true
			}
		}
	}
	require.Greater(t, cuts, 60, "the test has gone blind")
}

// Whatever refuses whatever, over several replays that may be cut off, in the end each
// sink has what it would have had if nothing had been refused.
func TestReplayRandomly(t *testing.T) {
	t.Parallel()
	fan := func(r int) []int {
		out := []int{10 * r}
		for k := range r % 4 {
			out = append(out, 10*r+k+1)
		}
		return out
	}
	type flow = leat.Flow[int]
	graphs := []func(f flow, check func(flow, string) flow, to func(flow, string)){
		func(f flow, check func(flow, string) flow, to func(flow, string)) {
			made := via(check(f, "a"), "fan", flat(fan))
			b := check(made, "b")
			to(b, "B")
			c := via(check(b, "c"), "again", flat(func(r int) []int { return []int{1000 + r, 2000 + r} }))
			to(check(c, "d"), "D")
			to(made, "M")
		},
		func(f flow, check func(flow, string) flow, to func(flow, string)) {
			made := via(f, "fan", flat(fan))
			a := check(via(made, "plus", rowwise(func(r int) (int, error) { return r + 5000, nil })), "a")
			b := check(made, "b")
			m := check(leat.Merge(a, b), "m")
			to(m, "M")
			to(via(m, "again", flat(func(r int) []int { return []int{10000 + r, 20000 + r} })), "N")
			to(check(b, "e"), "E")
		},
		func(f flow, check func(flow, string) flow, to func(flow, string)) {
			a := check(f, "a")
			made := via(a, "fan", flat(fan))
			to(check(leat.Merge(made, check(a, "b"), check(f, "c")), "m"), "M")
		},
	}
	lives := 0
	seeds := 100
	if os.Getenv("LEAT_LONG") != "" {
		seeds = 5000
	}
	for seed := range seeds {
		dir, err := os.MkdirTemp("/dev/shm", "leat-replay") // fsync costs nothing there
		if err != nil {
			dir = t.TempDir()
		}
		rnd := rand.New(rand.NewPCG(uint64(seed), 1))
		program, refuses := 0, true // what is cut off is finished by the same program (rule A2-2)
		refused := func(node string, r int) error {
			h := fnv.New64a()
			fmt.Fprint(h, seed, program, node, r)
			if refuses && (h.Sum64()>>7)%5 == 0 {
				return errOdd
			}
			return nil
		}
		sinks := map[string]*leattest.Collector[int]{}
		build := func() *leat.Pipeline {
			p := leat.New("p", leat.Config{StateDir: dir, Logger: silent, Breaker: leat.Breaker{Share: -1},
				Retry: leat.Retry{First: time.Nanosecond, Max: time.Nanosecond}})
			check := func(f flow, name string) flow {
				return via(f, name, rowwise(func(r int) (int, error) { return r, refused(name, r) }))
			}
			graphs[seed%len(graphs)](leat.From(p, replayed(ints(7)...)), check, func(f flow, name string) {
				if sinks[name] == nil {
					sinks[name] = leattest.Collect[int]().Named(name)
					sinks[name].RejectIf(func(r int) error { return refused(name, r) })
				}
				leat.To(f, sinks[name])
			})
			return p
		}
		require.NoError(t, build().Run(t.Context()))
		for program = 1; ; {
			lives++
			refuses = program < 5
			if s := sinks["M"]; refuses && rnd.IntN(3) == 0 {
				s.FailCommit(s.Calls("Commit")+1, []error{errDisk, leat.ErrAborted, leat.Transient(errDisk)}[rnd.IntN(3)])
			}
			p := build()
			s, err := leat.Replay(t.Context(), p, lettersIn(dir))
			if err != nil {
				require.ErrorIs(t, err, errDisk)
				continue
			}
			requireBalance(t, p.Stats())
			if !refuses && s.Sent == 0 {
				break
			}
			program++
			require.Less(t, program, 12, "seed %d does not end", seed)
		}
		got := map[string][]int{}
		for name, s := range sinks {
			got[name] = sorted(s.Committed())
		}
		require.NoError(t, os.RemoveAll(dir))
		sinks, dir = map[string]*leattest.Collector[int]{}, t.TempDir() // the same without a refusal
		require.NoError(t, build().Run(t.Context()))
		for name, s := range sinks {
			require.Equal(t, sorted(s.Committed()), got[name], "seed %d, sink %s", seed, name)
		}
	}
	require.Greater(t, lives, 5*seeds)
}

// A file that is not there is no empty file: a wrong name must not look like success.
func TestReplayOfAFileThatIsNotThere(t *testing.T) {
	t.Parallel()
	p := leat.New("p", config(t))
	leat.To(leat.From(p, leattest.Rows(1)), leattest.Collect[int]())
	_, err := leat.Replay(t.Context(), p, leat.DeadLetters(filepath.Join(t.TempDir(), "none.jsonl")))
	require.ErrorIs(t, err, fs.ErrNotExist)
}
