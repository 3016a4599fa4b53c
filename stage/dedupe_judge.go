package stage

import (
	"errors"
	"fmt"
	"time"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/keyset"
)

// dedupeJudge decides about the rows of one batch. It calls nothing of the user's.
type dedupeJudge[In any] struct {
	memory     *dedupeMemory
	in, out    *leat.Batch[In]
	offsets    []leat.Offset
	ttl, bound int64 // µs
	skew       time.Duration
	passLate   bool

	kept, dropped rowSet
	arrivals      []leat.Origin // of the rows from firstArrival on, once they were asked for
	firstArrival  int
	asked         int
}

// block is how many keys are looked for at a time: enough for their memory to come at
// the same time, few enough for it to be there still.
const block = 32

// all judges rows that are new, in order.
func (j *dedupeJudge[In]) all(s *dedupeScratch, good rowSet) {
	m := j.memory
	for i := range j.offsets {
		if i%block == 0 {
			for _, k := range s.keys[i:min(i+block, len(j.offsets))] {
				m.touched += m.set.Touch(k)
			}
		}
		if !good.has(i) {
			continue
		}
		place := j.place(i)
		if !m.set.Timed() {
			j.add(i, s.keys[i], place, 0, noTime)
			continue
		}
		at := s.times[i]
		if at > m.newest && !j.credible(i, at) {
			continue
		}
		// Rule C2: forgotten when first + ttl <= watermark.
		limit := m.limit(j.ttl, j.bound)
		if at <= limit {
			j.late(i, at, limit)
			continue
		}
		j.add(i, s.keys[i], place, at, limit)
		m.newest = max(m.newest, at)
	}
}

func (j *dedupeJudge[In]) add(i int, k keyset.Key, place uint64, at, limit int64) {
	was, found := j.memory.set.Add(k, place, at, limit)
	switch {
	case !found:
		j.kept.add(i, 1)
	case was == place: // rule C5: itself
		j.kept.add(i, 1)
	default:
		j.dropped.add(i, 1)
	}
}

func (j *dedupeJudge[In]) late(i int, at, limit int64) {
	if j.passLate {
		j.kept.add(i, 1)
		return
	}
	j.out.Reject(i, leat.Late, &leat.FieldError{Rule: "late", Msg: fmt.Sprintf(
		"the row is from %s; here keys from before %s are forgotten by now, so nobody can tell whether it is a duplicate: "+
			"keep keys longer (TTL, OutOfOrderness), or let such rows pass (PassLate)",
		time.UnixMicro(at).UTC().Format(time.RFC3339Nano), time.UnixMicro(limit+1).UTC().Format(time.RFC3339Nano))})
}

// credible tells whether a row may be newer than all before it (rule G10); if not, it is
// rejected. Arrivals grow, or nearly so, and are dear to ask for: so the greatest known
// one is remembered, and the row's own is asked for only when that does not do.
func (j *dedupeJudge[In]) credible(i int, at int64) bool {
	m, skew := j.memory, j.skew.Microseconds()
	if j.skew < 0 || m.arrival != noTime && at <= m.arrival+skew {
		return true
	}
	arrived, known := microseconds(j.arrival(i))
	if !known {
		return true
	}
	m.arrival = max(m.arrival, arrived)
	if at <= m.arrival+skew {
		return true
	}
	j.out.Reject(i, leat.FutureTime, &leat.FieldError{Rule: "future", Msg: fmt.Sprintf(
		"the row is from %s, which is more than %v after it arrived (%s)",
		time.UnixMicro(at).UTC().Format(time.RFC3339Nano), j.skew, time.UnixMicro(arrived).UTC().Format(time.RFC3339Nano))})
	return false
}

// arrival asks for one row, and if that happens again in a batch for all the others in
// one walk.
func (j *dedupeJudge[In]) arrival(i int) time.Time {
	if j.asked++; j.asked == 1 {
		return j.in.Origin(i).Time
	}
	if j.arrivals == nil {
		rows := make([]int, 0, len(j.offsets)-i)
		for k := i; k < len(j.offsets); k++ {
			rows = append(rows, k)
		}
		j.arrivals, j.firstArrival = j.in.Origins(rows), i
	}
	return j.arrivals[i-j.firstArrival].Time
}

// again judges rows that were judged before and of which one at least has passed (rule
// C5): the same must pass again. Nothing is remembered: it was, and may have been
// forgotten since.
//
// The one row of a record passes. Of several, those that pass decide which is which for
// the nodes behind, so nothing may be guessed: where it is not known any more what became
// of them, the row is rejected, and the record waits with a letter.
func (j *dedupeJudge[In]) again(s *dedupeScratch, good rowSet) {
	m := j.memory
	for i := range j.offsets {
		if !good.has(i) {
			continue
		}
		if !j.oneOfSeveral(i) {
			j.kept.add(i, 1)
			continue
		}
		was, found := m.set.Get(s.keys[i], m.limit(j.ttl, j.bound))
		switch {
		case found && was == j.place(i):
			j.kept.add(i, 1)
		case found && (!m.set.Timed() || placedBefore(was, j.offsets[i], j.in.Ordinal(i))):
			j.dropped.add(i, 1)
		default:
			j.out.Reject(i, leat.Transform, errForgotten)
		}
	}
}

var errForgotten = errors.New("several rows come from this record, and by now it is forgotten which of them were duplicates: " +
	"a row of it that a later node refused can't be told from the others; bring it in by hand, and keep keys longer (TTL) than letters are left alone")

func (j *dedupeJudge[In]) oneOfSeveral(i int) bool {
	return i > 0 && j.offsets[i-1] == j.offsets[i] || i+1 < len(j.offsets) && j.offsets[i+1] == j.offsets[i] || j.in.Ordinal(i) > 0
}

// place names row i in its partition by one word.
func (j *dedupeJudge[In]) place(i int) uint64 {
	return placeOf(j.offsets[i], j.in.Ordinal(i))
}

// placeOf is the offset, for a row that is its record's first. The multiples of this odd
// number, 2^64 over the golden ratio, lie as far apart as can be: two places are equal only
// for offsets more than 2^43 apart, as long as a record makes fewer than a million rows.
func placeOf(offset leat.Offset, ordinal int) uint64 {
	return uint64(offset) + uint64(ordinal)*0x9E3779B97F4A7C15
}

// placedBefore tells whether place is that of a row before this one, also when its record made
// up to a thousand rows.
func placedBefore(place uint64, offset leat.Offset, ordinal int) bool {
	for n := range 1000 {
		at := leat.Offset(place - placeOf(0, n))
		if at >= 0 && at < offset || at == offset && n < ordinal {
			return true
		}
	}
	return false
}
