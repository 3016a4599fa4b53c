package csvsource

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/csvtext"
	"github.com/leatgo/leat/internal/folder"
	"github.com/leatgo/leat/internal/row"
)

// reader reads files, one after the other, in one life of the pipeline.
type reader[T any] struct {
	folder  *folder.Folder
	in      intake[T]
	log     *slog.Logger
	row     *row.Type
	dialect csvtext.Dialect
	cutter  *csvtext.Cutter
	start   leat.Position // of this life
}

// sendError is an error of the engine, to be returned as it is.
type sendError struct{ err error }

func (e *sendError) Error() string { return e.err.Error() }

// file reads one file. Its faults are written to the ledger; an error ends the
// run.
func (r *reader[T]) file(ctx context.Context, e *folder.Entry) error {
	f, err := r.folder.Begin(ctx, e)
	if f == nil || err != nil {
		return err
	}
	err = r.records(ctx, f)
	var sent *sendError
	if errors.As(err, &sent) || ctx.Err() != nil {
		f.Leave()
		return errors.Join(err, ctx.Err())
	}
	if err != nil && !isDamage(err) {
		// The disk or the network: nothing is wrong with the file.
		f.Leave()
		return leat.Transient(fmt.Errorf("read %s: %w", e.Name, err))
	}
	return f.End(err)
}

// records sends the file's records from where this life starts.
func (r *reader[T]) records(ctx context.Context, f *folder.Reading) error {
	e := f.Entry
	src, done, err := openText(e.Name, f.Reader())
	if err != nil {
		return err
	}
	defer done()
	c := r.cutter
	c.Reset(src)
	h, err := readHeader(c, r.row)
	if err != nil {
		return err
	}
	// What a crash made the ledger lose count of.
	if from := f.CountFrom - e.Base; f.CountFrom < f.From && f.CountFrom < e.End() {
		if from > c.Offset() {
			if err := c.SkipTo(from, f.CountLine); err != nil {
				return r.skipError(err)
			}
		}
		if stop := f.From - e.Base; !f.OnlyCount && stop > c.Offset() {
			c.Stop(stop)
		}
		if f.OnlyCount || f.From-e.Base > c.Offset() {
			if err := r.count(ctx, f, h); err != nil {
				return r.located(err)
			}
		}
		c.Stop(-1)
	}
	if f.OnlyCount {
		return nil
	}
	if from := f.From - e.Base; from > c.Offset() {
		line := int64(0)
		if r.start.Known() && r.start.Next == f.From {
			line = parseResume(r.start.Resume).Line
		}
		if err := c.SkipTo(from, line); err != nil {
			return r.skipError(err)
		}
	}
	for {
		ch, err := r.next(ctx, f, h)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return r.located(err)
		}
		// The last chunk takes the file's whole range, so that the position after it
		// is the next file's.
		next := e.Base + ch.piece.End
		if ch.piece.Last {
			next = e.End()
		}
		f.Sent(next, ch.piece.EndLine, ch.count)
		if err := r.in.Send(ch.send(next)); err != nil {
			return &sendError{err}
		}
	}
}

// isDamage tells faults of the file, the same at each reading, from those of the
// disk or the network.
func isDamage(err error) bool {
	var damage *errText
	var header *headerFault
	return errors.As(err, &damage) || errors.As(err, &header) || errors.Is(err, folder.ErrChanged)
}

// next cuts the next chunk.
func (r *reader[T]) next(ctx context.Context, f *folder.Reading, h *header) (*chunk[T], error) {
	if err := ctx.Err(); err != nil { // much may be buffered
		return nil, err
	}
	p, err := r.cutter.Next()
	if err != nil {
		return nil, err
	}
	return &chunk[T]{
		piece: p, dialect: &r.dialect, header: h,
		base: f.Entry.Base, file: f.Entry.Name, arrived: f.Entry.ModTime, count: new(folder.Count),
	}, nil
}

// count decodes records that need not be sent.
func (r *reader[T]) count(ctx context.Context, f *folder.Reading, h *header) error {
	for {
		ch, err := r.next(ctx, f, h)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		ch.decode(new(leat.Batch[T]), func(int, error) {})
		f.Counted(ch.count.Get())
	}
}

// located says how far a damaged file could be read.
func (r *reader[T]) located(err error) error {
	if !isDamage(err) {
		return err
	}
	return fmt.Errorf("%w; the records before line %d were read, the rest of the file was not", err, r.cutter.Line())
}

// skipError is about a position that lies behind the text's end.
func (r *reader[T]) skipError(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: its text ends before the position that was reached in it", folder.ErrChanged)
	}
	return err
}
