// Package textfile is the lake format of files that are a run of records, one
// after the other, with or without compression: CSV and JSON lines.
//
// A compressed file is a run of gzip members, or zstd frames, of about 1 MiB of
// text each, which all decompressors read as one. So all open files share one
// compressor, and their memory is bounded by what lake.Config.Buffer allows
// (rule F8).
package textfile

import (
	"bytes"
	"fmt"
	"io"
	"runtime/debug"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/engine"
	"github.com/leatgo/leat/internal/lake"
	"github.com/leatgo/leat/internal/row"
)

// Compression is how files are compressed.
type Compression uint8

// The compressions.
const (
	None Compression = iota
	Gzip
	Zstd
)

// String gives the name of the compression.
func (c Compression) String() string {
	switch c {
	case None:
		return "none"
	case Gzip:
		return "gzip"
	case Zstd:
		return "zstd"
	}
	return fmt.Sprintf("compression(%d)", uint8(c))
}

// blockSize is how much text is compressed at once.
const blockSize = 1 << 20

// Config describes the records.
type Config[T any] struct {
	Ext         string // of a file without compression, with its dot
	Schema      string
	Header      []byte // begins each file
	Compression Compression

	// Append appends the record of a row to dst, with its end of line. An error is
	// the row's own fault; so is a panic.
	Append func(dst []byte, row *T) ([]byte, error)
}

// New makes a format.
func New[T any](c Config[T]) (lake.Format[T], error) {
	f := &format[T]{config: c, ext: c.Ext}
	switch c.Compression {
	case Gzip:
		f.ext += ".gz"
		z := gzip.NewWriter(io.Discard)
		f.compress = func(text []byte) error {
			z.Reset(&f.block)
			if _, err := z.Write(text); err != nil {
				return err
			}
			return z.Close()
		}
	case Zstd:
		f.ext += ".zst"
		z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(blockSize))
		if err != nil {
			return nil, err
		}
		f.compress = func(text []byte) error {
			f.block.Write(z.EncodeAll(text, f.block.AvailableBuffer()))
			return nil
		}
	}
	return f, nil
}

type format[T any] struct {
	config   Config[T]
	ext      string
	text     []byte // the records of the last Prepare
	ends     []int  // where each ends
	compress func(text []byte) error
	block    bytes.Buffer // what compress makes
}

func (f *format[T]) Ext() string    { return f.ext }
func (f *format[T]) Schema() string { return f.config.Schema }

// Prepare makes the records of all rows.
func (f *format[T]) Prepare(rows []T) (refused []leat.RowError) {
	f.text, f.ends = f.text[:0], f.ends[:0]
	for len(f.ends) < len(rows) {
		if err := f.prepare(rows); err != nil {
			refused = append(refused, leat.RowError{Row: len(f.ends), Err: err})
			f.ends = append(f.ends, len(f.text))
		}
	}
	return refused
}

// prepare goes on until a row is refused.
func (f *format[T]) prepare(rows []T) (err error) {
	defer func() {
		if v := recover(); v != nil { // rule A9: a user's MarshalText may panic
			err = &row.Refusal{Rule: "panic", Err: &engine.PanicError{Value: v, Stack: debug.Stack()}}
		}
	}()
	for i := len(f.ends); i < len(rows); i++ {
		out, err := f.config.Append(f.text, &rows[i])
		if err != nil {
			return err
		}
		f.text = out
		f.ends = append(f.ends, len(out))
	}
	return nil
}

func (f *format[T]) Create(w io.Writer) (lake.File, error) {
	if f.compress == nil {
		n, err := w.Write(f.config.Header)
		return &plain[T]{f: f, w: w, size: int64(n)}, err
	}
	return &packed[T]{f: f, w: w, text: bytes.Clone(f.config.Header)}, nil
}

// runs calls add for each run of records that lie side by side.
func (f *format[T]) runs(pick []int32, add func(text []byte) error) error {
	if pick == nil {
		return add(f.text)
	}
	for i := 0; i < len(pick); {
		from := int(pick[i])
		to := from + 1
		for i++; i < len(pick) && int(pick[i]) == to; i++ {
			to++
		}
		begin := 0
		if from > 0 {
			begin = f.ends[from-1]
		}
		if err := add(f.text[begin:f.ends[to-1]]); err != nil {
			return err
		}
	}
	return nil
}

// plain is a file without compression.
type plain[T any] struct {
	f    *format[T]
	w    io.Writer
	size int64
}

func (p *plain[T]) Append(pick []int32) error { return p.f.runs(pick, p.add) }

func (p *plain[T]) add(text []byte) error {
	n, err := p.w.Write(text)
	p.size += int64(n)
	return err
}

func (p *plain[T]) Size() int64     { return p.size }
func (p *plain[T]) Buffered() int64 { return 0 }
func (p *plain[T]) Flush() error    { return nil }
func (p *plain[T]) Close() error    { return nil }

// packed is a compressed file.
type packed[T any] struct {
	f       *format[T]
	w       io.Writer
	text    []byte // not compressed yet
	in, out int64  // bytes of text, and what became of them
}

func (p *packed[T]) Append(pick []int32) error { return p.f.runs(pick, p.add) }

func (p *packed[T]) add(text []byte) error {
	for {
		n := min(len(text), blockSize-len(p.text))
		p.text = append(p.text, text[:n]...)
		if len(p.text) < blockSize {
			return nil
		}
		if err := p.Flush(); err != nil {
			return err
		}
		text = text[n:]
	}
}

// Size takes the rest to be as compressible as what came before, or ten to three.
func (p *packed[T]) Size() int64 {
	rest := int64(len(p.text))
	if p.in == 0 {
		return rest * 3 / 10
	}
	return p.out + int64(float64(rest)*float64(p.out)/float64(p.in))
}

func (p *packed[T]) Buffered() int64 { return int64(cap(p.text)) }

func (p *packed[T]) Flush() error {
	if len(p.text) > 0 {
		p.f.block.Reset()
		if err := p.f.compress(p.text); err != nil {
			return err
		}
		n, err := p.w.Write(p.f.block.Bytes())
		if err != nil {
			return err
		}
		p.in, p.out = p.in+int64(len(p.text)), p.out+int64(n)
	}
	if len(p.text) < blockSize {
		p.text = nil // flushed early, to save memory
	} else {
		p.text = p.text[:0]
	}
	return nil
}

func (p *packed[T]) Close() error { return p.Flush() }
