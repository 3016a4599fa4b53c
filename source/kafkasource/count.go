package kafkasource

import (
	"maps"
	"slices"

	"github.com/leatgo/leat"
)

// sent is a chunk that MaxMessages counts.
type sent struct {
	next    int64
	records int64
}

// left is how many records may still be sent, at most n.
func (s *Source[T]) left(n int) int {
	if s.config.MaxMessages == 0 {
		return n
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return int(min(int64(n), s.config.MaxMessages-s.counted))
}

func (s *Source[T]) count(tp topicPartition, next int64, records int) {
	if s.config.MaxMessages == 0 {
		return
	}
	s.mu.Lock()
	s.counted += int64(records)
	s.counts[tp] = append(s.counts[tp], sent{next, int64(records)})
	s.mu.Unlock()
}

// recount takes back what is read again after a rewind.
func (s *Source[T]) recount(tp topicPartition, from int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	chunks := s.counts[tp]
	for len(chunks) > 0 && chunks[len(chunks)-1].next > from {
		s.counted -= chunks[len(chunks)-1].records
		chunks = chunks[:len(chunks)-1]
	}
	s.counts[tp] = chunks
}

// recountLost takes back what was sent, and not committed, of partitions that others read now: it is theirs to
// count. At the start of a Run nothing else can come of it.
func (s *Source[T]) recountLost() {
	s.mu.Lock()
	tps := slices.Collect(maps.Keys(s.counts))
	s.mu.Unlock()
	for _, tp := range tps {
		if s.own.token(tp) == 0 {
			s.recount(tp, 0)
		}
	}
}

// forget drops what can't be read again.
func (s *Source[T]) forget(cp leat.Checkpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for tp, chunks := range s.counts {
		to := cp.Positions[tp.String()].Next
		for len(chunks) > 0 && chunks[0].next <= to {
			chunks = chunks[1:]
		}
		s.counts[tp] = chunks
	}
}
