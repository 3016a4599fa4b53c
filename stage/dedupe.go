package stage

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"
	"unsafe"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/keyset"
)

// Dedupe lets the first row of each key pass and drops the later ones, which are counted
// as filtered:
//
//	once := leat.Via(rows, "once", &stage.Dedupe[Evento, string]{
//		Key:  func(e *Evento) string { return e.ID },
//		Time: func(e *Evento) time.Time { return e.Creado },
//		TTL:  24 * time.Hour,
//	})
//
// Which row is the first is decided within a partition, in the order of its offsets
// (rules C2, C6): equal keys must be in one partition, as those of a Kafka topic are when
// the key, or what it follows from, is the message's key. Check refuses a Dedupe behind
// several sources.
//
// What Dedupe remembers is saved in the same commit as the positions, so whatever crashes
// and restarts there are, the same rows pass (rules C1, C4, G12). A row is never taken
// for a duplicate of itself: dead letters of nodes behind Dedupe can be replayed at any
// time, also when their key has been forgotten (rule C5).
//
// # Time
//
// Without a TTL keys are remembered for ever, and memory and state grow with each new
// one. With a TTL a key is forgotten in event time, so that it does not matter how fast
// rows are read: when the watermark has come to the time of its first row plus TTL. The
// watermark is the greatest time seen in the partition, less OutOfOrderness and 1 µs; it moves row
// by row, duplicates included, and a row is judged before it moves it (rule G2-1). So a
// row passes if and only if no row that passed before it has its key and a time less than
// TTL behind the watermark. Times count in whole microseconds.
//
// A row whose own time is TTL or more behind the watermark can't be judged: the row that
// it repeats may be forgotten. It is rejected with class [leat.Late], for people to look
// at; PassLate lets such rows pass, unremembered. A greater TTL, or OutOfOrderness, makes them rare. A
// row without a time (zero, or before the year -30000 or after 30000) is rejected with
// class [leat.Contract].
//
// # Memory
//
// Keys are kept as hashes of 128 bits with a secret seed (rule C3). A million keys take
// 37 MB, 45 MB with a TTL, and 24 MB or 32 MB in the state folder. A partition of few keys
// takes 12 to 65 KB, with a TTL 45 to 100 KB in the long run. Memory grows in small steps, and goes back as keys are forgotten: in
// blocks of 1,024 in the order in which they came, so the key of a row that was late stays as long as
// those of its neighbours. That row is forgotten in time all the same.
//
// All fields are set before the pipeline runs, and not changed. Key, Time and OnDuplicate
// are called for rows that other branches may read too: they must not change them. They
// run concurrently for different partitions and may be called again for a row that is
// read again. A panic in one of them rejects the row with class [leat.Transform] (rule A9).
type Dedupe[In any, K comparable] struct {
	// Key is what makes two rows the same. K is a string, an integer, a boolean, or an
	// array or struct of those.
	Key func(row *In) K

	// TTL is how long, in event time, a key is remembered. 0 is for ever. When it grows
	// (leat.Config.Reconfigure), what the smaller one has forgotten stays forgotten, and rows
	// that are as old can't be judged.
	TTL time.Duration

	// Time is the row's event time; needed when TTL is set.
	Time func(row *In) time.Time

	// OutOfOrderness is how far a row may be behind the greatest time before it and still
	// be on time: so much longer keys are remembered. Defaults to 0.
	OutOfOrderness time.Duration

	// MaxFutureSkew is how far the time of a row may be ahead of its arrival (rule G10):
	// a message's append time, a file's mtime. One further ahead is rejected with class
	// [leat.FutureTime] and does not move the watermark: a single wrong year would make
	// Dedupe forget everything. Defaults to 1 h; -1 switches it off. Where the source knows no
	// arrival (Origin.Time), as a table's, it does nothing: check times before Dedupe.
	MaxFutureSkew time.Duration

	// PassLate lets rows pass that are too old to be judged, instead of rejecting them.
	PassLate bool

	// OnDuplicate, if set, is called for each row that is dropped, to log it, say. The
	// row is valid only during the call.
	OnDuplicate func(row *In)

	once  sync.Once
	bytes *keyBytes
	fault error // of K

	size dedupeSize // of all memory

	mu      sync.Mutex
	memory  map[string]*dedupeMemory // by partition
	scratch sync.Pool                // of *dedupeScratch
}

// dedupeScratch is what Process computes of the rows of one batch before it looks at its
// memory.
type dedupeScratch struct {
	keys  []keyset.Key
	times []int64
	buf   []byte
}

func (d *Dedupe[In, K]) init() {
	d.once.Do(func() {
		d.bytes, d.fault = keyBytesOf[K]()
		d.memory = map[string]*dedupeMemory{}
	})
}

// Validate implements leat.Validator.
func (d *Dedupe[In, K]) Validate() error {
	d.init()
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("stage.Dedupe: "+format, args...))
	}
	if d.Key == nil {
		fault("Key: %w", errNoFunc)
	}
	if d.fault != nil {
		fault("Key: %w", d.fault)
	}
	switch {
	case d.TTL < 0:
		fault("TTL can't be negative; 0 is for ever")
	case d.TTL > 0 && d.TTL < time.Microsecond:
		fault("TTL %v: times count in whole microseconds", d.TTL)
	case d.TTL > 0 && d.Time == nil:
		fault("a TTL needs Time: keys expire in event time (rule C2)")
	case d.TTL == 0 && d.Time != nil:
		fault("Time is set, but TTL is not: keys would be remembered for ever")
	}
	if d.OutOfOrderness < 0 {
		fault("OutOfOrderness can't be negative")
	}
	if d.MaxFutureSkew < -1 {
		fault("MaxFutureSkew can't be negative; -1 switches it off")
	}
	return errors.Join(faults...)
}

// AppendOnly is true without a TTL: nothing is ever forgotten.
func (d *Dedupe[In, K]) AppendOnly() bool { return d.TTL == 0 }

// Fingerprint implements leat.Fingerprinted: what a key's bytes are, and when they are
// forgotten.
func (d *Dedupe[In, K]) Fingerprint() string {
	d.init()
	return fmt.Sprintf("dedupe key=%s ttl=%v outoforderness=%v maxfutureskew=%v", d.bytes.shape, d.TTL, d.OutOfOrderness, d.skew())
}

// Repeatable implements leat.Repeatable (rule C5).
func (d *Dedupe[In, K]) Repeatable() bool { return true }

// SingleSource implements leat.SingleSource (rule C6).
func (d *Dedupe[In, K]) SingleSource() bool { return true }

// StateSize tells how many keys are remembered, some that have expired included, and the
// memory for them; what is forgotten counts until the next checkpoint as far as there are new ones instead.
// It is safe for concurrent use.
func (d *Dedupe[In, K]) StateSize() (keys, bytes int64) {
	return d.size.keys.Load(), d.size.bytes.Load()
}

func (d *Dedupe[In, K]) skew() time.Duration {
	switch {
	case d.TTL == 0 || d.MaxFutureSkew < 0:
		return -1
	case d.MaxFutureSkew == 0:
		return time.Hour
	}
	return d.MaxFutureSkew
}

// of is the memory of a partition.
func (d *Dedupe[In, K]) of(partition string) *dedupeMemory {
	d.init()
	d.mu.Lock()
	defer d.mu.Unlock()
	m := d.memory[partition]
	if m == nil {
		m = newDedupeMemory(d.TTL > 0, &d.size)
		d.memory[partition] = m
	}
	return m
}

// Process implements leat.Stage.
//
// What the user's functions give is computed first, for all rows: so whatever they do,
// the memory is never left in the middle of a batch.
func (d *Dedupe[In, K]) Process(_ context.Context, in, out *leat.Batch[In]) error {
	m, rows := d.of(in.Partition()), in.Rows()
	s, _ := d.scratch.Get().(*dedupeScratch)
	if s == nil {
		s = &dedupeScratch{}
	}
	defer d.scratch.Put(s)

	judge := dedupeJudge[In]{
		memory: m, in: in, out: out, offsets: in.Offsets(),
		ttl: d.TTL.Microseconds(), bound: d.OutOfOrderness.Microseconds(), skew: d.skew(), passLate: d.PassLate,
		kept: newRowSet(len(rows)), dropped: newRowSet(len(rows)),
	}
	good := newRowSet(len(rows))
	if err := eachRow(len(rows), out, func(at *int) error { return d.look(s, m.seed, rows, out, good, at) }); err != nil {
		return err
	}
	if in.Repeated() {
		judge.again(s, good)
	} else {
		judge.all(s, good)
		m.sweep(judge.ttl, judge.bound, len(rows))
	}
	m.measure()
	if d.OnDuplicate != nil {
		d.tell(rows, out, judge.dropped)
	}
	if passed := judge.kept.len(); passed < len(rows) {
		out.Grow(passed)
	}
	for from, to := judge.kept.run(0); from < to; from, to = judge.kept.run(to) {
		out.AppendRows(in, from, to)
	}
	return nil
}

// look finds key and time of the rows from *at on, and puts those that have both in good.
func (d *Dedupe[In, K]) look(s *dedupeScratch, seed keySeed, rows []In, out *leat.Batch[In], good rowSet, at *int) error {
	if len(s.keys) < len(rows) {
		s.keys, s.times = make([]keyset.Key, len(rows)), make([]int64, len(rows))
	}
	timed := d.TTL > 0
	for i := *at; i < len(rows); i++ {
		*at = i
		key := d.Key(&rows[i])
		s.keys[i], s.buf = d.bytes.hash(seed, unsafe.Pointer(&key), s.buf)
		if timed {
			t, ok := microseconds(d.Time(&rows[i]))
			if !ok {
				out.Reject(i, leat.Contract, &leat.FieldError{Rule: "time", Msg: "the row has no event time, or an impossible one"})
				continue
			}
			s.times[i] = t
		}
		good.add(i, 1)
	}
	return nil
}

// tell calls OnDuplicate for the rows in dropped.
func (d *Dedupe[In, K]) tell(rows []In, out *leat.Batch[In], dropped rowSet) {
	_ = eachRow(len(rows), out, func(at *int) error {
		for i := dropped.next(*at, 0); i < len(rows); i = dropped.next(i+1, 0) {
			*at = i
			d.OnDuplicate(&rows[i])
		}
		return nil
	})
}

// farthest bounds times, in seconds from 1970: within it sums of microseconds can't
// overflow.
const farthest = 1 << 40

// microseconds since 1970; the zero time is none.
func microseconds(t time.Time) (int64, bool) {
	sec := t.Unix()
	if sec < -farthest || sec > farthest || t.IsZero() {
		return 0, false
	}
	return t.UnixMicro(), true
}

// noTime stands for no time: before all others.
const noTime = math.MinInt64
