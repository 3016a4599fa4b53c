package leat_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
)

// wrapped is a Collector whose Write goes through f first.
type wrapped struct {
	*leattest.Collector[int]
	write func(b *leat.Batch[int]) error
}

func (w wrapped) Write(ctx context.Context, b *leat.Batch[int]) error {
	if err := w.write(b); err != nil {
		return err
	}
	return w.Collector.Write(ctx, b)
}

func without(n int, bad ...int) []int {
	return slices.DeleteFunc(ints(n), func(i int) bool { return slices.Contains(bad, i) })
}

func offsets(bad ...int) []int64 {
	var out []int64
	for _, b := range bad {
		out = append(out, int64(b))
	}
	return out
}

// A sink that can't take some rows says so in every way there is.
func TestOneBadRowNeverTakesItsNeighbours(t *testing.T) {
	bad := []int{0, 137, 138, 199, 250, 999}
	isBad := func(i int) bool { return slices.Contains(bad, i) }
	for name, write := range map[string]func(b *leat.Batch[int]) error{
		"a permanent error (bisect)": func(b *leat.Batch[int]) error {
			if slices.ContainsFunc(b.Rows(), isBad) {
				return errDisk
			}
			return nil
		},
		"RowErrors": func(b *leat.Batch[int]) error {
			e := &leat.RowErrors{}
			for i, r := range b.Rows() {
				if isBad(r) {
					e.Rows = append(e.Rows, leat.RowError{Row: i, Err: errDisk})
				}
			}
			if len(e.Rows) == 0 {
				return nil
			}
			return fmt.Errorf("wrapped: %w", e)
		},
		"RowErrors, one at a time, twice over, unsorted": func(b *leat.Batch[int]) error {
			e := &leat.RowErrors{}
			for i, r := range slices.Backward(b.Rows()) {
				if isBad(r) && len(e.Rows) < 4 {
					e.Rows = append(e.Rows, leat.RowError{Row: i, Err: errDisk}, leat.RowError{Row: i, Err: errDisk})
				}
			}
			if len(e.Rows) == 0 {
				return nil
			}
			return e
		},
		"ErrAborted joined with RowErrors": func(b *leat.Batch[int]) error {
			for i, r := range b.Rows() {
				if isBad(r) {
					return errors.Join(leat.ErrAborted, &leat.RowErrors{Rows: []leat.RowError{{Row: i, Err: errDisk}}})
				}
			}
			return nil
		},
		"ErrAborted joined with RowErrors, twice over": func(b *leat.Batch[int]) error {
			e := &leat.RowErrors{}
			for i, r := range b.Rows() {
				if isBad(r) {
					e.Rows = append(e.Rows, leat.RowError{Row: i, Err: errDisk}, leat.RowError{Row: i, Err: errDisk})
				}
			}
			if len(e.Rows) == 0 {
				return nil
			}
			return errors.Join(leat.ErrAborted, e)
		},
		"panic": func(b *leat.Batch[int]) error {
			if slices.ContainsFunc(b.Rows(), isBad) {
				panic("boom")
			}
			return nil
		},
	} {
		for _, size := range []int{1, 7, 100} {
			t.Run(fmt.Sprintf("%s/%d", name, size), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					c := config(t)
					letters := &memLetters{}
					c.DeadLetters = letters
					sink := leattest.Collect[int]()
					p := leat.New("reject", c)
					leat.To(leat.From(p, leattest.Rows(ints(1000)...).Batches(size)), leat.Sink[int](wrapped{sink, write}))
					began := time.Now()
					require.NoError(t, run(t, p))
					require.Equal(t, without(1000, bad...), sink.Committed(), "rule B5: the neighbours are delivered, in order")
					require.Equal(t, offsets(bad...), letters.offsets(), "rule B5: exactly the bad rows are dead letters")
					for _, l := range letters.all() {
						assert.Equal(t, leat.SinkReject, l.Class)
						assert.Equal(t, "collect", l.Sink)
						assert.Equal(t, fmt.Sprint(l.Offset), string(l.Raw), "rule B4: the original bytes")
						if name == "panic" {
							assert.Contains(t, l.Stack, "engine_reject_test.go", "rule A9: with its stack")
						}
					}
					s := p.Stats()
					requireBalance(t, s)
					assert.Equal(t, int64(len(bad)), node(t, s, "collect").Rejected, "rule A8")
					assert.Equal(t, int64(1000-len(bad)), node(t, s, "collect").Out, "rule B6: a reject is not a delivery")
					assert.Zero(t, time.Since(began), "rule E8: with the row named there is no need to wait")
				})
			})
		}
	}
}

func TestRowErrorsOfARowThatIsNotThere(t *testing.T) {
	for name, also := range map[string]error{"alone": nil, "with ErrAborted": leat.ErrAborted} {
		for _, row := range []int{-1, 10} {
			t.Run(fmt.Sprint(name, row), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					p := leat.New("reject", config(t))
					leat.To(leat.From(p, leattest.Rows(ints(10)...)), leat.Sink[int](wrapped{leattest.Collect[int](), func(*leat.Batch[int]) error {
						return errors.Join(also, &leat.RowErrors{Rows: []leat.RowError{{Row: row, Err: errDisk}}})
					}}))
					require.ErrorContains(t, run(t, p), "refused row", "rule A9: a wrong sink must not take the process down")
				})
			})
		}
	}
}

func TestLettersOfOneRecordHaveTheirOwnIDs(t *testing.T) {
	for name, refuse := range map[string]func(b *leat.Batch[int]) error{
		"RowErrors": func(b *leat.Batch[int]) error {
			e := &leat.RowErrors{}
			for i, r := range b.Rows() {
				if r%10 != 0 {
					e.Rows = append(e.Rows, leat.RowError{Row: i, Err: errDisk})
				}
			}
			if len(e.Rows) == 0 {
				return nil
			}
			return e
		},
		"bisect": func(b *leat.Batch[int]) error {
			if slices.ContainsFunc(b.Rows(), func(r int) bool { return r%10 != 0 }) {
				return errDisk
			}
			return nil
		},
		"one by one": func(b *leat.Batch[int]) error {
			for i, r := range b.Rows() {
				if r%10 != 0 {
					return &leat.RowErrors{Rows: []leat.RowError{{Row: i, Err: errDisk}}}
				}
			}
			return nil
		},
		"aborted": func(b *leat.Batch[int]) error {
			for i, r := range b.Rows() {
				if r%10 != 0 {
					return errors.Join(leat.ErrAborted, &leat.RowErrors{Rows: []leat.RowError{{Row: i, Err: errDisk}}})
				}
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := config(t)
				letters := &memLetters{}
				c.DeadLetters = letters
				c.Breaker.Share = -1
				p := leat.New("reject", c)
				sink := leattest.Collect[int]()
				five := via(leat.From(p, leattest.Rows(ints(20)...).Batches(7)), "five", flat(func(i int) []int {
					return []int{10 * i, 10*i + 1, 10*i + 2, 10*i + 3, 10 * (i + 1)}
				}))
				odd := via(five, "odd", rowwise(func(i int) (int, error) {
					if i%10 == 1 || i%10 == 2 {
						return 0, errDisk
					}
					return i, nil
				}))
				leat.To(odd, leat.Sink[int](wrapped{sink, refuse}))
				require.NoError(t, run(t, p))
				require.Len(t, sink.Committed(), 40)
				byNode := map[string]map[string]bool{}
				for _, l := range letters.all() {
					if byNode[l.Node] == nil {
						byNode[l.Node] = map[string]bool{}
					}
					byNode[l.Node][l.ID] = true
				}
				assert.Len(t, byNode["odd"], 40, "rule B3-2: bad rows of one record have letters of their own")
				assert.Len(t, byNode["collect"], 20, "rule B3-2")
				requireBalance(t, p.Stats())
			})
		})
	}
}

// Where only one row is left of each record, its letter is still that of the row it was.
func TestLettersOfWhatIsLeftOfARecord(t *testing.T) {
	pair := flat(func(i int) []int { return []int{10 * i, 10*i + 1} })
	check := func(t *testing.T, build func(pairs leat.Flow[int])) {
		bubble(t, func(t *testing.T) {
			c := config(t)
			letters := &memLetters{}
			c.DeadLetters = letters
			c.Breaker.Share = -1
			p := leat.New("reject", c)
			build(via(leat.From(p, leattest.Rows(ints(6)...).Batches(2)), "pair", pair))
			require.NoError(t, run(t, p))
			ids := map[string]bool{}
			for _, l := range letters.all() {
				ids[l.ID] = true
			}
			require.Len(t, ids, 12, "rule B3-2")
			requireBalance(t, p.Stats())
		})
	}
	t.Run("sink", func(t *testing.T) {
		check(t, func(pairs leat.Flow[int]) {
			leat.To(pairs, leat.Sink[int](wrapped{leattest.Collect[int](), func(b *leat.Batch[int]) error {
				e := &leat.RowErrors{}
				for i, r := range b.Rows() {
					if r%10 == 0 {
						e.Rows = append(e.Rows, leat.RowError{Row: i, Err: errDisk})
					}
				}
				if len(e.Rows) > 0 {
					return e
				}
				return errDisk // which the engine halves
			}}))
		})
	})
	t.Run("stage with state", func(t *testing.T) {
		check(t, func(pairs leat.Flow[int]) {
			count := newCounting()
			count.err = func(int) error { return errDisk }
			leat.To(leat.Via(pairs, "count", leat.Stage[int, string](count)), leattest.Collect[string]())
		})
	})
}

// The letters of a pipeline that is rewound and restarted are those of one that is not.
func TestLettersAreTheSameAfterAReplay(t *testing.T) {
	ids := func(t *testing.T, prepare func(s *leattest.Collector[int], src *leattest.MemSource[int]), again bool) (ids []string, l *memLetters) {
		c := config(t)
		l = &memLetters{}
		c.DeadLetters = l
		src := leattest.Rows(ints(2000)...)
		sink := leattest.Collect[int]().RejectIf(func(i int) error {
			if i%50 == 3 {
				return errDisk
			}
			return nil
		})
		prepare(sink, src)
		build := func() *leat.Pipeline {
			p := leat.New("reject", c)
			rows := wait(leat.From(p, src), "pace", paced(100, 300*time.Millisecond))
			three := via(rows, "three", flat(func(i int) []int { return []int{i, i, i} }))
			leat.To(via(three, "bad", rowwise(func(i int) (int, error) {
				if i%50 == 7 {
					panic("seven")
				}
				return i, nil
			})), sink)
			return p
		}
		if again {
			require.Error(t, run(t, build()))
		}
		require.NoError(t, run(t, build()))
		for _, d := range l.all() {
			ids = append(ids, d.ID)
		}
		slices.Sort(ids)
		return ids, l
	}
	t.Parallel()
	var want []string
	t.Run("clean", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			want, _ = ids(t, func(*leattest.Collector[int], *leattest.MemSource[int]) {}, false)
		})
		require.Len(t, want, 240)
	})
	t.Run("rewinds", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			got, l := ids(t, func(s *leattest.Collector[int], src *leattest.MemSource[int]) {
				s.FailCommit(2, leat.ErrAborted).FailWrite(17, leat.ErrAborted)
				src.FailAt(1500, leat.Transient(errDisk))
			}, false)
			require.Equal(t, want, got, "rule B3-2: the same rows have the same ids")
			require.Greater(t, l.writes, len(got), "rule B3-2: some were written twice and changed nothing")
		})
	})
	t.Run("restart", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			got, _ := ids(t, func(s *leattest.Collector[int], _ *leattest.MemSource[int]) { s.FailCommit(3, errDisk) }, true)
			require.Equal(t, want, got, "rule B3-2")
		})
	})
}

// B4: headers are bytes, and a value of no bytes is not the same as none (a tombstone).
func TestDeadLetterFileKeepsBytes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "letters.jsonl")
	log := leat.DeadLetterFile(path)
	require.NoError(t, log.Open(t.Context(), leat.Env{}))
	want := []leat.DeadLetter{
		{ID: "1", Headers: map[string]string{"trace": "\x80\x81\x00", "\xff": "x", "\xfe": "y", "text": "ñ"}, Raw: []byte("\xff")},
		{ID: "2", Key: []byte{}, Raw: []byte{}},
		{ID: "3"},
		{ID: "4", Arrived: time.UnixMilli(1_795_759_239_875_739).UTC()}, // microseconds
		{ID: "5", Arrived: time.UnixMilli(-1 << 62).UTC()},
	}
	require.NoError(t, log.Append(t.Context(), want))
	require.NoError(t, log.Close())
	var got []leat.DeadLetter
	require.NoError(t, leat.ReadDeadLetters(path, func(l leat.DeadLetter) error { got = append(got, l); return nil }))
	assert.Equal(t, want, got)
}

func TestDeadLetterFileHasEachLetterOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := config(t)
		sink := leattest.Collect[int]().FailCommit(2, leat.ErrAborted).FailCommit(5, errDisk)
		build := func() *leat.Pipeline {
			p := leat.New("file", c)
			rows := wait(leat.From(p, leattest.Rows(ints(1000)...)), "pace", paced(100, 500*time.Millisecond))
			leat.To(via(rows, "bad", rowwise(func(i int) (int, error) {
				if i%10 == 0 {
					return 0, &leat.FieldError{Column: "n", Rule: "ten", Msg: "no tens"}
				}
				return i, nil
			})), sink)
			return p
		}
		require.Error(t, run(t, build()))
		p := build()
		require.NoError(t, run(t, p))
		seen := map[string]int{}
		require.NoError(t, leat.ReadDeadLetters(filepath.Join(c.StateDir, "dead-letters.jsonl"), func(l leat.DeadLetter) error {
			seen[l.ID]++
			assert.Equal(t, []any{"n", "ten", "bad", "rows", leat.Transform}, []any{l.Column, l.Rule, l.Node, l.Source, l.Class}, "rule B4")
			assert.Equal(t, fmt.Sprint(l.Offset), string(l.Row), "rule B4: the row")
			return nil
		}))
		require.Len(t, seen, 100)
		for id, n := range seen {
			assert.Equal(t, 1, n, "rule B3-2: letter %s is there more than once", id)
		}
		assert.Equal(t, int64(100), p.Stats().Rejected["Transform/n/ten"])
	})
}

func TestLettersAreDurableBeforeCommits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		j := &journal{}
		letters := &memLetters{journal: j}
		c := config(t)
		c.DeadLetters = letters
		check := func(who string) error {
			j.add(who)
			if n := letters.unsynced(); n > 0 {
				return fmt.Errorf("rule B3: %s while %d letters are not durable", who, n)
			}
			return nil
		}
		sink := leattest.Collect[int]().RejectIf(func(i int) error {
			if i%100 == 50 {
				return errDisk
			}
			return nil
		}).OnCall(func(call string) error {
			if call == "Commit" {
				return check("sink.Commit")
			}
			return nil
		})
		src := source(func(_ context.Context, in leat.Intake[int]) error { return sendAll(in, 2000, 100) })
		var told []int64
		src.commit = func(_ context.Context, cp leat.Checkpoint) error {
			told = append(told, cp.Positions[""].Next)
			j.add("source.Commit")
			// Letters of rows after the cut may be on their way; those before it may not.
			for o := range cp.Positions[""].Next {
				if o%100 == 10 || o%100 == 50 {
					if !slices.Contains(letters.offsets(), o) {
						return fmt.Errorf("rule B3: the position is at %d and row %d has no letter", cp.Positions[""].Next, o)
					}
				}
			}
			return nil
		}
		p := leat.New("durable", c)
		rows := wait(leat.From(p, src), "pace", paced(100, 350*time.Millisecond))
		leat.To(via(rows, "bad", rowwise(func(i int) (int, error) {
			if i%100 == 10 {
				return 0, errDisk
			}
			return i, nil
		})), sink)
		require.NoError(t, run(t, p))
		require.Len(t, letters.all(), 40)
		require.Greater(t, len(told), 4)
		// Between an Append and the next Commit of anyone there is a Sync.
		dirty := false
		for _, line := range j.all() {
			switch {
			case strings.HasSuffix(line, "Append"):
				dirty = true
			case strings.HasSuffix(line, "Sync"):
				dirty = false
			case line == "sink.Commit":
				require.False(t, dirty, "rules B3, B3-1: %q in %q", line, j.all())
			}
		}
		requireBalance(t, p.Stats())
	})
}

func TestNothingMovesPastARowWithoutItsLetter(t *testing.T) {
	for _, what := range []string{"Append", "Sync", "sink row", "panic"} {
		t.Run(what, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := config(t)
				good := c
				call := map[string]string{"sink row": "Append", "panic": "Append"}[what]
				if call == "" {
					call = what
				}
				n := 0
				c.DeadLetters = &memLetters{fail: func(name string) error {
					if name != call {
						return nil
					}
					if n++; call == "Sync" && n <= 2 {
						return nil
					}
					if what == "panic" {
						panic("the log is mad")
					}
					return errDisk
				}}
				src, sink := leattest.Rows(ints(1000)...), leattest.Collect[int]()
				build := func(c leat.Config, sink *leattest.Collector[int]) *leat.Pipeline {
					p := leat.New("letters", c)
					rows := wait(leat.From(p, src), "pace", paced(100, 400*time.Millisecond))
					out := via(rows, "bad", rowwise(func(i int) (int, error) {
						if i == 750 && what != "sink row" {
							return 0, errDisk
						}
						return i, nil
					}))
					sink.RejectIf(func(i int) error {
						if i == 750 {
							return errDisk
						}
						return nil
					})
					leat.To(out, sink)
					return p
				}
				err := run(t, build(c, sink))
				require.ErrorContains(t, err, "rule B3")
				assert.LessOrEqual(t, sink.Positions()["rows"].Next, int64(750), "rule B3: nothing moves past the row")
				assert.LessOrEqual(t, src.Committed()[""].Next, int64(750), "rule B3: nothing moves past the row")
				letters := &memLetters{}
				good.DeadLetters = letters
				next := sink.Successor()
				require.NoError(t, run(t, build(good, next)))
				assert.Equal(t, without(1000, 750), next.Committed(), "rule B3: nothing is lost")
				assert.Equal(t, offsets(750), letters.offsets())
			})
		})
	}
}

func TestTransientLettersAreRetried(t *testing.T) {
	for _, call := range []string{"Open", "Append", "Sync"} {
		t.Run(call, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := config(t)
				n := 0
				letters := &memLetters{fail: func(name string) error {
					if name == call {
						if n++; n <= 3 {
							return leat.Transient(errDisk)
						}
					}
					return nil
				}}
				c.DeadLetters = letters
				sink := leattest.Collect[int]().RejectIf(func(i int) error {
					if i == 5 {
						return errDisk
					}
					return nil
				})
				p := pipeTo(c, leattest.Rows(ints(10)...), sink)
				began := time.Now()
				require.NoError(t, run(t, p), "rule B8: what is transient is retried")
				requireBackoff(t, time.Since(began), 7*time.Second)
				assert.Equal(t, offsets(5), letters.offsets())
				assert.Equal(t, without(10, 5), sink.Committed())
			})
		})
	}
}

func TestPolicies(t *testing.T) {
	boom := rowwise(func(i int) (int, error) {
		if i == 555 {
			return 0, errDisk
		}
		return i, nil
	})
	t.Run("Skip", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			c := config(t)
			letters := &memLetters{}
			c.DeadLetters, c.OnReject = letters, map[leat.Class]leat.Policy{leat.Transform: leat.SkipRow, leat.SinkReject: leat.SkipRow}
			p := leat.New("policy", c)
			sink := leattest.Collect[int]().RejectIf(func(i int) error {
				if i == 777 {
					return errDisk
				}
				return nil
			})
			leat.To(via(leat.From(p, leattest.Rows(ints(1000)...)), "boom", boom), sink)
			require.NoError(t, run(t, p))
			assert.Equal(t, without(1000, 555, 777), sink.Committed())
			assert.Empty(t, letters.all(), "rule B2: Skip drops the row")
			assert.Equal(t, map[string]int64{"Transform/-/-": 1, "SinkReject/-/-": 1}, p.Stats().Rejected, "rule B2: and counts it")
			requireBalance(t, p.Stats())
		})
	})
	for _, where := range []string{"stage", "sink"} {
		t.Run("FailPartition, "+where, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := config(t)
				letters := &memLetters{}
				c.DeadLetters, c.OnReject = letters, map[leat.Class]leat.Policy{leat.Transform: leat.FailPartition, leat.SinkReject: leat.FailPartition}
				p := leat.New("policy", c)
				sink := leattest.Collect[int]()
				rows := wait(leat.From(p, leattest.Rows(ints(1000)...)), "pace", paced(100, time.Second))
				if where == "stage" {
					rows = via(rows, "boom", boom)
				} else {
					sink.RejectIf(func(i int) error {
						if i == 555 {
							return errDisk
						}
						return nil
					})
				}
				leat.To(rows, sink)
				err := run(t, p)
				require.ErrorIs(t, err, errDisk)
				var e *leat.Error
				require.ErrorAs(t, err, &e)
				assert.Equal(t, int64(555), e.Offset, "rule B2: the error names the row")
				assert.Equal(t, "rows", e.Partition)
				assert.Empty(t, letters.all())
				assert.LessOrEqual(t, sink.Positions()["rows"].Next, int64(500), "rule B2: the pipeline stops before the row")
				assert.NotEmpty(t, sink.Committed())
			})
		})
	}
}

func TestBreaker(t *testing.T) {
	badFrom := func(n int) func(context.Context, *leat.Batch[int], *leat.Batch[int]) error {
		return rowwise(func(i int) (int, error) {
			if i >= n {
				return 0, errDisk
			}
			return i, nil
		})
	}
	// The verdict depends on rows, not on batches.
	for _, size := range []int{1, 7, 100, 5000} {
		t.Run(fmt.Sprintf("by rows, batches of %d", size), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := config(t)
				letters := &memLetters{}
				c.DeadLetters = letters
				c.Breaker = leat.Breaker{Share: 0.5, Window: 200, Min: 50}
				sink := leattest.Collect[int]()
				p := leat.New("breaker", c)
				leat.To(via(leat.From(p, leattest.Rows(ints(5000)...).Batches(size)), "bad", badFrom(3000)), sink)
				err := run(t, p)
				require.ErrorContains(t, err, "circuit breaker: 101 of the last 200 rows", "rule B7")
				assert.Zero(t, sink.Positions()["rows"].Next, "rule B7: nothing after the last checkpoint is kept")
			})
		})
	}
	t.Run("in a sink", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			c := config(t)
			c.DeadLetters = &memLetters{}
			c.Breaker = leat.Breaker{Window: 200, Min: 50}
			sink := leattest.Collect[int]().RejectIf(func(int) error { return errDisk })
			require.ErrorContains(t, run(t, pipeTo(c, leattest.Rows(ints(5000)...), sink)), "circuit breaker", "rule B7")
		})
	})
	t.Run("in a sink, few among many", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			c := config(t)
			c.DeadLetters = &memLetters{}
			sink := leattest.Collect[int]().RejectIf(func(i int) error {
				if i%25 == 0 {
					return errDisk
				}
				return nil
			})
			require.NoError(t, run(t, pipeTo(c, leattest.Rows(ints(20000)...).Batches(10000), sink)),
				"rule B7: 4 % do not trip it, in whatever order the sink names them")
			assert.Len(t, sink.Committed(), 19200)
		})
	})
	t.Run("needs a minimum", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			c := config(t)
			c.DeadLetters = &memLetters{}
			p := leat.New("breaker", c)
			leat.To(via(leat.From(p, leattest.Rows(ints(99)...)), "bad", badFrom(0)), leattest.Collect[int]())
			require.NoError(t, run(t, p), "rule B7: fewer than Min rows do not trip it")
			c.StateDir = t.TempDir()
			p = leat.New("breaker", c)
			leat.To(via(leat.From(p, leattest.Rows(ints(100)...)), "bad", badFrom(0)), leattest.Collect[int]())
			require.ErrorContains(t, run(t, p), "circuit breaker: 100 of the last 100 rows", "rule B7")
		})
	})
	t.Run("a window smaller than the minimum", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			c := config(t)
			c.DeadLetters = &memLetters{}
			c.Breaker = leat.Breaker{Window: 50} // Min stays 100
			p := leat.New("breaker", c)
			leat.To(via(leat.From(p, leattest.Rows(ints(99)...)), "bad", badFrom(0)), leattest.Collect[int]())
			require.NoError(t, run(t, p), "rule B7: fewer than Min rows do not trip it")
			for _, size := range []int{1, 30, 5000} {
				c.StateDir = t.TempDir()
				p = leat.New("breaker", c)
				leat.To(via(leat.From(p, leattest.Rows(ints(5000)...).Batches(size)), "bad", badFrom(3000)), leattest.Collect[int]())
				require.ErrorContains(t, run(t, p), "circuit breaker: 26 of the last 50 rows", "rule B7")
			}
		})
	})
	t.Run("off", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			c := config(t)
			c.DeadLetters = &memLetters{}
			c.Breaker.Share = -1
			p := leat.New("breaker", c)
			leat.To(via(leat.From(p, leattest.Rows(ints(3000)...)), "bad", badFrom(0)), leattest.Collect[int]())
			require.NoError(t, run(t, p), "rule B7: -1 is off")
			assert.Equal(t, int64(3000), node(t, p.Stats(), "bad").Rejected)
		})
	})
}

// Panics in every place of user code: the process survives (rule A9).
func TestPanicsOfStages(t *testing.T) {
	for name, st := range map[string]func(context.Context, *leat.Batch[int], *leat.Batch[int]) error{
		"a row": rowwise(func(i int) (int, error) {
			if i == 123 || i == 124 {
				panic("boom")
			}
			return i, nil
		}),
		"an index out of range": func(_ context.Context, in, out *leat.Batch[int]) error {
			for i, r := range in.Rows() {
				if r == 123 || r == 124 {
					out.Append(in.Rows()[in.Len()], i)
				}
				out.Append(r, i)
			}
			return nil
		},
		"an error for the whole batch": func(_ context.Context, in, out *leat.Batch[int]) error {
			for i, r := range in.Rows() {
				if r == 123 || r == 124 {
					return errDisk
				}
				out.Append(r, i)
			}
			return nil
		},
	} {
		for _, kind := range []string{"parallel", "blocking", "behind state"} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					c := config(t)
					letters := &memLetters{}
					c.DeadLetters = letters
					sink := leattest.Collect[int]()
					p := leat.New("panic", c)
					rows := leat.From(p, leattest.Rows(ints(1000)...))
					switch kind {
					case "parallel":
						rows = via(rows, "st", st)
					case "blocking":
						rows = wait(rows, "st", st)
					default:
						numbered := leat.Via(rows, "count", leat.Stage[int, string](newCounting()))
						back := via(numbered, "back", rowwise(func(s string) (n int, err error) {
							_, err = fmt.Sscanf(s[strings.Index(s, ":"):], ":%d", &n)
							return n, err
						}))
						rows = via(back, "st", st)
					}
					leat.To(rows, sink)
					require.NoError(t, run(t, p))
					require.Equal(t, without(1000, 123, 124), sink.Committed(), "rule A9: one bad row costs its neighbours nothing")
					require.Equal(t, offsets(123, 124), letters.offsets(), "rule A9")
					for _, l := range letters.all() {
						assert.Equal(t, leat.Transform, l.Class)
						if name != "an error for the whole batch" {
							assert.Contains(t, l.Stack, "engine_reject_test.go", "rule A9: with its stack")
						}
					}
					requireBalance(t, p.Stats())
					assert.Zero(t, p.Stats().Run.Rewinds)
				})
			})
		}
	}
}

func TestPanicsElsewhereEndThePipelineOnly(t *testing.T) {
	boom := func() error { panic("boom") }
	for name, build := range map[string]func(c *leat.Config) (leat.Source[int], leat.Sink[int]){
		"Source.Run": func(*leat.Config) (leat.Source[int], leat.Sink[int]) {
			return source(func(context.Context, leat.Intake[int]) error { return boom() }), leattest.Collect[int]()
		},
		"Source.Commit": func(*leat.Config) (leat.Source[int], leat.Sink[int]) {
			s := source(func(_ context.Context, in leat.Intake[int]) error { return sendAll(in, 10, 5) })
			s.commit = func(context.Context, leat.Checkpoint) error { return boom() }
			return s, leattest.Collect[int]()
		},
		"Decode": func(*leat.Config) (leat.Source[int], leat.Sink[int]) {
			return source(func(_ context.Context, in leat.Intake[int]) error {
				if _, err := in.Assign(leat.Partition{}); err != nil {
					return err
				}
				ch := chunk(0, 10)
				ch.Decode = func(context.Context, *leat.Batch[int]) error { return boom() }
				return in.Send(ch)
			}), leattest.Collect[int]()
		},
		"Locate": func(c *leat.Config) (leat.Source[int], leat.Sink[int]) {
			return source(func(_ context.Context, in leat.Intake[int]) error {
				if _, err := in.Assign(leat.Partition{}); err != nil {
					return err
				}
				ch := chunk(0, 10)
				ch.Locate = func([]int) []leat.Origin { _ = boom(); return nil }
				return in.Send(ch)
			}), &plainSink{name: "s", write: func(*leat.Batch[int]) error { return errDisk }}
		},
		"Release": func(c *leat.Config) (leat.Source[int], leat.Sink[int]) {
			return source(func(_ context.Context, in leat.Intake[int]) error {
				if _, err := in.Assign(leat.Partition{}); err != nil {
					return err
				}
				ch := chunk(0, 10)
				ch.Release = func() { _ = boom() }
				return in.Send(ch)
			}), leattest.Collect[int]()
		},
		"Open": func(*leat.Config) (leat.Source[int], leat.Sink[int]) {
			return leattest.Rows(1), leattest.Collect[int]().OnCall(func(c string) error {
				if c == "Open" {
					return boom()
				}
				return nil
			})
		},
		"Restore": func(*leat.Config) (leat.Source[int], leat.Sink[int]) {
			return leattest.Rows(1), leattest.Collect[int]().OnCall(func(c string) error {
				if c == "Restore" {
					return boom()
				}
				return nil
			})
		},
		"Commit": func(*leat.Config) (leat.Source[int], leat.Sink[int]) {
			return leattest.Rows(1), leattest.Collect[int]().OnCall(func(c string) error {
				if c == "Commit" {
					return boom()
				}
				return nil
			})
		},
		"Close": func(*leat.Config) (leat.Source[int], leat.Sink[int]) {
			return leattest.Rows(1), leattest.Collect[int]().OnCall(func(c string) error {
				if c == "Close" {
					return boom()
				}
				return nil
			})
		},
		"DeadLetterLog.Open": func(c *leat.Config) (leat.Source[int], leat.Sink[int]) {
			c.DeadLetters = &memLetters{fail: func(call string) error {
				if call == "Open" {
					return boom()
				}
				return nil
			}}
			return leattest.Rows(1), leattest.Collect[int]()
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := config(t)
				src, sink := build(&c)
				err := run(t, pipeTo(c, src, sink))
				require.ErrorContains(t, err, "boom", "rule A9: the process survives, the user hears of it")
			})
		})
	}
}

func TestPanicsOfObserversAreHarmless(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := config(t)
		c.Observe = func(leat.Event) { panic("an observer") }
		sink := leattest.Collect[int]().FailWrite(3, leat.Transient(errDisk)).FailCommit(1, leat.ErrAborted)
		require.NoError(t, run(t, pipeTo(c, leattest.Rows(ints(1000)...), sink)), "rule A9")
		require.Equal(t, ints(1000), sink.Committed())
	})
}

// The retries of a stage that waits must not use up the slots for decoding.
func TestRetriesOfBlockingStagesGiveTheirSlotsBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var mu sync.Mutex
		failed := map[int]bool{}
		p := leat.New("slots", config(t))
		sink := leattest.Collect[int]()
		leat.To(wait(leat.From(p, leattest.Rows(ints(20000)...)), "call", func(_ context.Context, in, out *leat.Batch[int]) error {
			mu.Lock()
			first := !failed[in.Rows()[0]]
			failed[in.Rows()[0]] = true
			mu.Unlock()
			if first {
				return leat.Transient(errDisk)
			}
			for i, r := range in.Rows() {
				out.Append(r, i)
			}
			return nil
		}), sink)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		require.NoError(t, p.Run(ctx))
		require.Equal(t, ints(20000), sink.Committed(), "rule A5: decoding goes on")
	})
}

// A stage may keep some rows of a record and reject others.
func TestRecordPartlyRejected(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := config(t)
		c.DeadLetters = &memLetters{}
		p := leat.New("partly", c)
		sink := leattest.Collect[int]()
		leat.To(via(leat.From(p, leattest.Rows(ints(100)...)), "split", func(_ context.Context, in, out *leat.Batch[int]) error {
			for i, r := range in.Rows() {
				out.Append(r, i)
				if r%20 == 0 {
					out.Reject(i, leat.Transform, errDisk)
				}
			}
			return nil
		}), sink)
		require.NoError(t, run(t, p))
		requireBalance(t, p.Stats())
	})
}

func TestTransientNeverReachesTheLetters(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := config(t)
		letters := &memLetters{}
		c.DeadLetters = letters
		var n atomic.Int64
		sink := leattest.Collect[int]()
		p := leat.New("transient", c)
		leat.To(leat.From(p, leattest.Rows(ints(1000)...)), leat.Sink[int](wrapped{sink, func(*leat.Batch[int]) error {
			if n.Add(1)%2 == 1 {
				return leat.Transient(errDisk)
			}
			return nil
		}}))
		require.NoError(t, run(t, p))
		require.Empty(t, letters.all(), "rule B1: transient never goes to the dead letters")
		require.Equal(t, ints(1000), sink.Committed())
	})
}
