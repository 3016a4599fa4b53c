package lake

import (
	"bufio"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"time"

	"github.com/leatgo/leat"
)

// outFile is a file that is being written, under its temporary name. It counts
// and sums up what goes to disk.
type outFile struct {
	dir    string
	tmp    string
	number int // in order of creation
	f      *os.File
	buf    *bufio.Writer
	enc    File
	write  func(f *os.File, b []byte) (int, error)

	bytes    int64
	crc      uint32
	rows     int64
	first    leat.Offset
	times    timeRange
	buffered int64
	used     uint64 // when rows were added last
	batch    uint64 // that brought them
	resting  bool   // since then it was told to rest
}

// bufferSize joins the small writes of encoders; large ones go through.
const bufferSize = 32 << 10

// diskWriter is what lies behind the buffer.
type diskWriter outFile

func (w *diskWriter) Write(b []byte) (int, error) {
	n, err := w.write(w.f, b)
	w.bytes += int64(n)
	w.crc = crc32.Update(w.crc, castagnoli, b[:n])
	return n, err
}

// finish makes the file whole and durable.
func (o *outFile) finish(sync func(*os.File) error) error {
	if err := o.enc.Close(); err != nil {
		return err
	}
	if err := o.buf.Flush(); err != nil {
		return err
	}
	// An fsync that failed is never tried again on this file: the kernel may have
	// dropped the pages and would say that all is well.
	if err := sync(o.f); err != nil {
		return err
	}
	err := o.f.Close()
	o.f, o.enc, o.buf = nil, nil, nil
	return err
}

func (o *outFile) entry() file {
	f := file{Tmp: o.tmp, Bytes: o.bytes, Rows: o.rows, Checksum: checksum(o.crc)}
	if o.times.some && !o.times.unknown {
		f.Min, f.Max = &o.times.min, &o.times.max
	}
	return f
}

// sum is the checksum of a file that is there.
func (l *lake) sum(name string) (string, error) {
	in, err := l.root.Open(name)
	if err != nil {
		return "", err
	}
	crc := crc32.New(castagnoli)
	_, err = io.Copy(crc, in)
	return checksum(crc.Sum32()), errors.Join(err, in.Close())
}

// timeRange spans event times.
type timeRange struct {
	min, max time.Time
	some     bool
	unknown  bool // a time was there that the manifest can't hold: no range is better than a wrong one
}

func (r *timeRange) add(t time.Time) {
	t = t.UTC()
	switch y := t.Year(); {
	case t.IsZero():
		return
	case y < 1 || y > 9999:
		r.unknown = true
		return
	case !r.some:
		r.min, r.max, r.some = t, t, true
		return
	}
	if t.Before(r.min) {
		r.min = t
	}
	if t.After(r.max) {
		r.max = t
	}
}

func (r *timeRange) join(o timeRange) {
	r.unknown = r.unknown || o.unknown
	if o.some {
		r.add(o.min)
		r.add(o.max)
	}
}
