package kafkasource

import (
	"bytes"
	"context"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatgo/leat"
)

// chunk is a run of records of one partition. It is immutable until it is released, so
// Decode and Locate may run at any time and as often as the engine likes.
type chunk[T any] struct {
	format  *format[T]
	records []*kgo.Record
}

func (c *chunk[T]) decode(ctx context.Context, out *leat.Batch[T]) error {
	out.Grow(len(c.records))
	return c.format.decode(ctx, c.records, out, 0)
}

// locate gives copies: whoever keeps them need not know of release.
func (c *chunk[T]) locate(records []int) []leat.Origin {
	out := make([]leat.Origin, len(records))
	for i, n := range records {
		rec := c.records[n]
		o := leat.Origin{Offset: rec.Offset, Topic: rec.Topic, Key: bytes.Clone(rec.Key), Time: when(rec), Raw: bytes.Clone(rec.Value)}
		if len(rec.Headers) > 0 {
			o.Headers = make(map[string]string, len(rec.Headers))
			for _, h := range rec.Headers {
				o.Headers[strings.Clone(h.Key)] = string(h.Value)
			}
		}
		out[i] = o
	}
	return out
}

func (c *chunk[T]) offsets(records []int, out []leat.Offset) {
	for i, n := range records {
		out[i] = c.records[n].Offset
	}
}

// onRelease, if set, is told of each chunk's records before their memory is given back:
// the tests overwrite it.
var onRelease func(records []*kgo.Record)

// release gives the records back. Only rows and what locate gave are left.
func (c *chunk[T]) release() {
	if onRelease != nil {
		onRelease(c.records)
	}
	for _, rec := range c.records {
		rec.Recycle()
	}
	c.records = nil
}

// cut takes the next chunk off records, which are not empty: at most limit of them, and not much
// more than chunkBytes. Markers of transactions make no rows, but the position moves
// past them.
func (f *format[T]) cut(records []*kgo.Record, limit int) (c *chunk[T], size int64, rest []*kgo.Record) {
	n, raw := 0, int64(0)
	for n < len(records) && n < limit && raw < chunkBytes {
		rec := records[n]
		raw += int64(len(rec.Key) + len(rec.Value))
		for i := range rec.Headers {
			raw += int64(len(rec.Headers[i].Key) + len(rec.Headers[i].Value))
		}
		n++
	}
	c = &chunk[T]{format: f, records: records[:n:n]}
	return c, raw*(1+f.grows) + int64(n)*(f.size+int64(unsafe.Sizeof(kgo.Record{}))), records[n:]
}

// data leaves out the markers of transactions, in place.
func data(records []*kgo.Record) []*kgo.Record {
	for i, rec := range records {
		if rec.Attrs.IsControl() {
			kept := records[:i]
			for _, rec := range records[i:] {
				if rec.Attrs.IsControl() {
					rec.Recycle()
				} else {
					kept = append(kept, rec)
				}
			}
			return kept
		}
	}
	return records
}

// pool keeps memory of fetches: records, and what compressed batches became. The client
// asks for it, and Recycle gives it back.
type pool struct {
	records sync.Pool // of *[]kgo.Record
	blocks  sync.Pool // of *[]byte
}

// GetRecords implements kgo.PoolRecords.
func (p *pool) GetRecords(n int) []kgo.Record {
	if r, _ := p.records.Get().(*[]kgo.Record); r != nil && cap(*r) >= n {
		return *r
	}
	return make([]kgo.Record, n)
}

// PutRecords implements kgo.PoolRecords.
func (p *pool) PutRecords(r []kgo.Record) { p.records.Put(&r) }

// GetDecompressBytes implements kgo.PoolDecompressBytes.
func (p *pool) GetDecompressBytes(compressed []byte, _ kgo.CompressionCodecType) []byte {
	if b, _ := p.blocks.Get().(*[]byte); b != nil {
		return *b
	}
	return make([]byte, 0, 4*len(compressed))
}

// PutDecompressBytes implements kgo.PoolDecompressBytes.
func (p *pool) PutDecompressBytes(b []byte) { p.blocks.Put(&b) }

// resume is a leader epoch as a position keeps it: a log that was truncated is found out
// by it (KIP-320).
func resume(epoch int32) string {
	if epoch < 0 {
		return ""
	}
	return strconv.Itoa(int(epoch))
}

// epochOf undoes resume.
func epochOf(resume string) int32 {
	n, err := strconv.ParseInt(resume, 10, 32)
	if err != nil {
		return -1
	}
	return int32(n)
}

// when is a record's time. Those of a message format that has none, or that were written
// without one, come with -1: that is no time.
func when(rec *kgo.Record) time.Time {
	if rec.Timestamp.UnixMilli() == -1 {
		return time.Time{}
	}
	return rec.Timestamp.UTC()
}

// recordOf makes the record of a dead letter again.
func recordOf(l *leat.DeadLetter, partition int32, arrived time.Time) *kgo.Record {
	rec := &kgo.Record{Topic: l.Topic, Partition: partition, Offset: l.Offset, Key: l.Key, Value: l.Raw, Timestamp: arrived}
	for k, v := range l.Headers {
		rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: k, Value: []byte(v)})
	}
	return rec
}
