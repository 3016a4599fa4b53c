package kafkasource

import (
	"context"
	"time"

	"github.com/leatgo/leat/internal/kafka"
)

// lag is how far the reading of a partition is behind.
type lag struct {
	sent, end int64
	at        time.Time // when the end was told
}

// Lag implements leat.Lagger: how many offsets lie between what was sent and the end, up to which
// records can be read, as of the last fetch, or of the last five seconds where nothing is
// fetched. Markers of transactions and compacted records count.
func (s *Source[T]) Lag() map[string]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]int64, len(s.lag))
	for tp, l := range s.lag {
		out[tp.String()] = max(l.end-l.sent, 0)
	}
	return out
}

// tellLag notes what was sent and fetched.
func (r *reading[T]) tellLag() {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	for _, p := range r.order {
		l := r.s.lag[p.topicPartition]
		if l.sent = p.sent; !l.at.After(p.arrived) {
			l.end, l.at = p.end, p.arrived
		}
		r.s.lag[p.topicPartition] = l
	}
}

const lagEvery = 5 * time.Second

// watchLag asks for the ends that no fetch tells, since partitions are held or the engine takes no rows: the lag
// is what is looked at then.
func (s *Source[T]) watchLag(ctx context.Context) {
	for kafka.Sleep(ctx, lagEvery) == nil {
		silent := map[topicPartition]uint64{}
		s.mu.Lock()
		for tp, l := range s.lag {
			if time.Since(l.at) >= lagEvery {
				silent[tp] = 0
			}
		}
		s.mu.Unlock()
		end, err := s.ends(ctx, silent)
		if err != nil {
			s.logger().Debug("the lag of partitions that are not fetched can't be told", "err", err)
			continue
		}
		now := time.Now()
		s.mu.Lock()
		for tp := range silent {
			if l, ok := s.lag[tp]; ok && now.Sub(l.at) >= lagEvery {
				l.end, l.at = end[tp], now
				s.lag[tp] = l
			}
		}
		s.mu.Unlock()
	}
}
