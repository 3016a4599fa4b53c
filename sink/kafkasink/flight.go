package kafkasink

import (
	"sync/atomic"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kgo"
)

// flight is the records of one batch, with their memory, from Write until the last of
// them is acknowledged.
type flight struct {
	p       *producer
	records []kgo.Record
	rows    []int // of each record, its row in the batch
	spans   []span
	headers []kgo.RecordHeader
	bytes   []byte // keys, values and headers' values, one after another
	left    atomic.Int32
	failed  atomic.Bool
	errs    []error       // of each record; nil: nobody asks
	done    chan struct{} // closed when left is 0; nil: nobody waits
	promise func(*kgo.Record, error)
}

// span is where a record's parts are, as long as bytes and headers grow.
type span struct {
	key, value [2]int // -1: none
	headers    [2]int
	first      int // where the values of the headers begin
	chosen     int // the partition that Config.Partition chose; -1: none
}

// maxKept is how large a flight's memory may be to be used again.
const maxKept = 4 << 20

func (p *producer) newFlight() *flight {
	f, ok := p.flights.Get().(*flight)
	if !ok {
		f = &flight{bytes: []byte{}} // not nil: an empty value is none otherwise
		f.promise = f.settle
	}
	f.p = p
	return f
}

// add makes room for the record of a row. bytes and headers may hold what a row that
// failed has left: it is skipped.
func (f *flight) add(row int) (*kgo.Record, *span) {
	f.records = append(f.records, kgo.Record{})
	f.rows = append(f.rows, row)
	f.spans = append(f.spans, span{
		key: [2]int{-1, -1}, value: [2]int{-1, -1},
		headers: [2]int{len(f.headers), len(f.headers)}, first: len(f.bytes), chosen: -1,
	})
	return &f.records[len(f.records)-1], &f.spans[len(f.spans)-1]
}

// drop takes back what the last add has added.
func (f *flight) drop() {
	n := len(f.records) - 1
	f.records, f.rows, f.spans = f.records[:n], f.rows[:n], f.spans[:n]
}

func (f *flight) put(b []byte) [2]int {
	from := len(f.bytes)
	f.bytes = append(f.bytes, b...)
	return [2]int{from, len(f.bytes)}
}

// seal gives the records their memory, which grows no more.
func (f *flight) seal() {
	part := func(at [2]int) []byte { return f.bytes[at[0]:at[1]:at[1]] }
	for i := range f.records {
		r, s := &f.records[i], &f.spans[i]
		if s.key[0] >= 0 {
			r.Key = part(s.key)
		}
		if s.value[0] >= 0 {
			r.Value = part(s.value)
		}
		if s.headers[1] > s.headers[0] {
			r.Headers = f.headers[s.headers[0]:s.headers[1]:s.headers[1]]
			at := s.first
			for k := range r.Headers {
				h := &r.Headers[k]
				if h.Value == nil {
					continue
				}
				n := len(h.Value)
				h.Value = part([2]int{at, at + n})
				at += n
			}
		}
	}
}

// settle is the promise of each record. kgo calls it from one goroutine, and has no use
// for the record afterwards.
func (f *flight) settle(r *kgo.Record, err error) {
	if err != nil {
		f.failed.Store(true)
		f.p.fail(r.Topic, err)
		if f.errs != nil {
			at := uintptr(unsafe.Pointer(r)) - uintptr(unsafe.Pointer(&f.records[0]))
			f.errs[at/unsafe.Sizeof(*r)] = err
		}
	}
	f.land()
}

func (f *flight) land() {
	if f.left.Add(-1) != 0 {
		return
	}
	if f.done != nil {
		close(f.done)
		return
	}
	f.recycle()
}

// recycle keeps the memory for another batch, unless kgo may still look at it.
func (f *flight) recycle() {
	if f.failed.Load() || cap(f.bytes) > maxKept {
		return
	}
	p := f.p
	clear(f.records)
	clear(f.headers)
	f.records, f.rows, f.spans, f.headers, f.bytes = f.records[:0], f.rows[:0], f.spans[:0], f.headers[:0], f.bytes[:0]
	f.p, f.errs, f.done = nil, nil, nil
	p.flights.Put(f)
}
