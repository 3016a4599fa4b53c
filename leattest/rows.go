package leattest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/leatgo/leat"
)

// MemSource is a bounded source of rows held in memory. It can be read again,
// row by row at the same offsets (leat.ReplayExact). Configure it before the
// pipeline runs.
type MemSource[T any] struct {
	name    string
	batch   int
	parts   [][]T
	raw     func(T) []byte
	parse   func([]byte) (T, error)
	failAt  map[int64][]error
	bad     map[int64]error
	step    int
	log     string
	slow    time.Duration
	endless bool

	mu        sync.Mutex
	committed map[string]leat.Position
	commits   int
	closed    int
}

// Rows makes a source of these rows. The offset of a row is its index in its
// partition, unless Gaps says otherwise; there is one partition unless Partitions says
// otherwise.
func Rows[T any](rows ...T) *MemSource[T] {
	return &MemSource[T]{name: "rows", batch: 100, parts: [][]T{rows}, failAt: map[int64][]error{}, bad: map[int64]error{}, step: 1, log: "memory",
		committed: map[string]leat.Position{}}
}

// Named sets the source's name. Defaults to "rows".
func (s *MemSource[T]) Named(name string) *MemSource[T] { s.name = name; return s }

// Batches sets how many rows go into one batch. Defaults to 100.
func (s *MemSource[T]) Batches(rows int) *MemSource[T] { s.batch = max(rows, 1); return s }

// Partitions deals the rows out to n partitions, named "0" to "n-1", in turn.
func (s *MemSource[T]) Partitions(n int) *MemSource[T] {
	var all []T
	for _, p := range s.parts {
		all = append(all, p...)
	}
	s.parts = make([][]T, n)
	for i, r := range all {
		s.parts[i%n] = append(s.parts[i%n], r)
	}
	return s
}

// Gaps puts row i of a partition at offset i·step, as a log with markers or after
// compaction has it: nothing may assume offset+1 (rule A2). Defaults to 1.
func (s *MemSource[T]) Gaps(step int) *MemSource[T] { s.step = max(step, 1); return s }

// Log names the offset space. Defaults to "memory". Another one is what a replaced
// folder or topic looks like (rule A2-1).
func (s *MemSource[T]) Log(id string) *MemSource[T] { s.log = id; return s }

// Slow makes the source wait before each batch.
func (s *MemSource[T]) Slow(d time.Duration) *MemSource[T] { s.slow = d; return s }

// Raw sets what a dead letter shows as the original bytes of a row. Defaults to
// its %v form.
func (s *MemSource[T]) Raw(f func(T) []byte) *MemSource[T] { s.raw = f; return s }

// Parse sets how a row is made of its original bytes, so that dead letters can be
// replayed. An error of f rejects the row.
func (s *MemSource[T]) Parse(f func(raw []byte) (T, error)) *MemSource[T] { s.parse = f; return s }

// DecodeLetter implements leat.LetterDecoder.
func (s *MemSource[T]) DecodeLetter(l leat.DeadLetter, out *leat.Batch[T], record int) error {
	if s.parse == nil {
		return errors.New("Parse is not set")
	}
	if row, err := s.parse(l.Raw); err != nil {
		out.Reject(record, leat.Decode, err)
	} else {
		out.Append(row, record)
	}
	return nil
}

// FailAt makes Run return err once, when it comes to this offset of any
// partition; the rows before it have been sent. Called several times for one offset, it
// fails that often. leat.Transient(err) makes the pipeline rewind and read again; any
// other error ends it, once what was sent is committed.
func (s *MemSource[T]) FailAt(offset int64, err error) *MemSource[T] {
	s.failAt[offset] = append(s.failAt[offset], err)
	return s
}

// RejectAt makes the row at this offset, of any partition, one that can't be decoded: it
// is rejected with class Decode and err, as a torn line of a file would be.
func (s *MemSource[T]) RejectAt(offset int64, err error) *MemSource[T] { s.bad[offset] = err; return s }

// Endless makes the source wait for the end of the context after its last row,
// as a broker would: it says CaughtUp and stays.
func (s *MemSource[T]) Endless() *MemSource[T] { s.endless = true; return s }

// Committed is the last complete checkpoint that the source was told of.
func (s *MemSource[T]) Committed() map[string]leat.Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]leat.Position{}
	for k, v := range s.committed {
		out[k] = v
	}
	return out
}

// Name implements leat.Named.
func (s *MemSource[T]) Name() string { return s.name }

// Replay implements leat.Replayer.
func (s *MemSource[T]) Replay() leat.ReplayKind { return leat.ReplayExact }

// Close implements io.Closer.
func (s *MemSource[T]) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed++
	return nil
}

func (s *MemSource[T]) partition(i int) string {
	if len(s.parts) == 1 {
		return ""
	}
	return fmt.Sprint(i)
}

// Run implements leat.Source.
func (s *MemSource[T]) Run(ctx context.Context, in leat.Intake[T]) error {
	var ask []leat.Partition
	for i := range s.parts {
		ask = append(ask, leat.Partition{Name: s.partition(i), Log: s.log})
	}
	at, err := in.Assign(ask...)
	if err != nil {
		return err
	}
	next := make([]int, len(s.parts))
	for i := range s.parts {
		p, ours := at[s.partition(i)]
		if !ours {
			next[i] = len(s.parts[i]) // another process has it
			continue
		}
		next[i] = int((p.Next + int64(s.step) - 1) / int64(s.step))
		if next[i] > len(s.parts[i]) {
			return fmt.Errorf("rule A2-1: position %d is beyond the last of %d rows", p.Next, len(s.parts[i]))
		}
	}
	send := func(i int) error {
		if s.slow > 0 {
			select {
			case <-time.After(s.slow):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		end, err := s.fault(next[i], min(next[i]+s.batch, len(s.parts[i])))
		if err != nil {
			return err
		}
		if err := in.Send(s.chunk(i, next[i], end)); err != nil {
			return err
		}
		next[i] = end
		return nil
	}
	for {
		sent, waiting := 0, -1
		for i := range s.parts {
			switch {
			case next[i] >= len(s.parts[i]):
			case len(s.parts) > 1 && in.Held(s.partition(i)):
				waiting = i
			default:
				if err := send(i); err != nil {
					return err
				}
				sent++
			}
		}
		if sent > 0 {
			continue
		}
		if waiting < 0 {
			break
		}
		if err := send(waiting); err != nil { // all that is left is held: take the pipeline's own pace
			return err
		}
	}
	in.CaughtUp()
	if s.endless {
		<-ctx.Done()
	}
	return nil
}

// fault gives the error of the row at from, or how far rows can be sent before one.
func (s *MemSource[T]) fault(from, to int) (end int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := from; i < to; i++ {
		errs := s.failAt[s.offset(i)]
		if len(errs) == 0 {
			continue
		}
		if i > from {
			return i, nil
		}
		s.failAt[s.offset(i)] = errs[1:]
		return 0, errs[0]
	}
	return to, nil
}

// offset is that of row i.
func (s *MemSource[T]) offset(i int) int64 { return int64(i) * int64(s.step) }

func (s *MemSource[T]) chunk(part, from, to int) leat.Chunk[T] {
	rows := s.parts[part][from:to]
	return leat.Chunk[T]{
		Partition: s.partition(part), First: s.offset(from), Next: s.offset(to-1) + 1, Bytes: int64(64 * len(rows)),
		Decode: func(_ context.Context, out *leat.Batch[T]) error {
			for i, r := range rows {
				if err := s.bad[s.offset(from+i)]; err != nil {
					out.Reject(i, leat.Decode, err)
					continue
				}
				out.Append(r, i)
			}
			return nil
		},
		Locate: func(records []int) []leat.Origin {
			found := make([]leat.Origin, len(records))
			for k, i := range records {
				found[k] = leat.Origin{Offset: s.offset(from + i), Raw: fmt.Appendf(nil, "%v", rows[i])}
				if s.raw != nil {
					found[k].Raw = s.raw(rows[i])
				}
			}
			return found
		},
		Offsets: func(records []int, out []leat.Offset) {
			for k, i := range records {
				out[k] = s.offset(from + i)
			}
		},
	}
}

// Commit implements leat.Source.
func (s *MemSource[T]) Commit(_ context.Context, cp leat.Checkpoint) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.commits++
	for name, p := range cp.Positions {
		s.committed[name] = p
	}
	return nil
}
