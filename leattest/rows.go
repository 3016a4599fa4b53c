package leattest

import (
	"context"
	"errors"
	"fmt"
	"sync"

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
	endless bool

	mu        sync.Mutex
	committed map[string]leat.Position
	commits   int
	closed    int
}

// Rows makes a source of these rows. The offset of a row is its index in its
// partition; there is one partition unless Partitions says otherwise.
func Rows[T any](rows ...T) *MemSource[T] {
	return &MemSource[T]{name: "rows", batch: 100, parts: [][]T{rows}, failAt: map[int64][]error{}, committed: map[string]leat.Position{}}
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
// partition. Called several times for one offset, it fails that often.
func (s *MemSource[T]) FailAt(offset int64, err error) *MemSource[T] {
	s.failAt[offset] = append(s.failAt[offset], err)
	return s
}

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
		ask = append(ask, leat.Partition{Name: s.partition(i), Log: "memory"})
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
		next[i] = int(p.Next)
		if next[i] > len(s.parts[i]) {
			return fmt.Errorf("rule A2-1: position %d is beyond the last of %d rows", p.Next, len(s.parts[i]))
		}
	}
	for {
		left, sent := 0, 0
		for i := range s.parts {
			if next[i] >= len(s.parts[i]) {
				continue
			}
			left++
			if len(s.parts) > 1 && in.Held(s.partition(i)) {
				continue
			}
			end := min(next[i]+s.batch, len(s.parts[i]))
			if err := s.fault(next[i], end); err != nil {
				return err
			}
			if err := in.Send(s.chunk(i, next[i], end)); err != nil {
				return err
			}
			next[i] = end
			sent++
		}
		if left == 0 {
			break
		}
		if sent == 0 { // all that is left is held: take the pipeline's own pace
			for i := range s.parts {
				if next[i] < len(s.parts[i]) {
					end := min(next[i]+s.batch, len(s.parts[i]))
					if err := in.Send(s.chunk(i, next[i], end)); err != nil {
						return err
					}
					next[i] = end
					break
				}
			}
		}
	}
	in.CaughtUp()
	if s.endless {
		<-ctx.Done()
	}
	return nil
}

func (s *MemSource[T]) fault(from, to int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for o := from; o < to; o++ {
		if errs := s.failAt[int64(o)]; len(errs) > 0 {
			s.failAt[int64(o)] = errs[1:]
			return errs[0]
		}
	}
	return nil
}

func (s *MemSource[T]) chunk(part, from, to int) leat.Chunk[T] {
	rows := s.parts[part][from:to]
	return leat.Chunk[T]{
		Partition: s.partition(part), First: int64(from), Next: int64(to), Bytes: int64(64 * len(rows)),
		Decode: func(_ context.Context, out *leat.Batch[T]) error {
			for i, r := range rows {
				out.Append(r, i)
			}
			return nil
		},
		Locate: func(records []int) []leat.Origin {
			found := make([]leat.Origin, len(records))
			for k, i := range records {
				found[k] = leat.Origin{Offset: int64(from + i), Raw: fmt.Appendf(nil, "%v", rows[i])}
				if s.raw != nil {
					found[k].Raw = s.raw(rows[i])
				}
			}
			return found
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
