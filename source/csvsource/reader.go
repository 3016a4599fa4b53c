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
	header  *header       // of the file that was read last
	start   leat.Position // of this life

	rejectsFiles bool // rule B2
	sent         bool // since the engine was last told that it has everything
}

// sendError is an error of the engine, to be returned as it is.
type sendError struct{ err error }

func (e *sendError) Error() string { return e.err.Error() }

// scan reads what one scan of the folder finds.
func (r *reader[T]) scan(ctx context.Context) error {
	for e, err := range r.folder.Entries(ctx) {
		if err == nil {
			err = r.file(ctx, e)
		}
		if err != nil {
			return err
		}
	}
	return r.folder.Settle(ctx)
}

// file reads one file. Its faults are written to the ledger; an error ends the
// run.
func (r *reader[T]) file(ctx context.Context, e *folder.Entry) error {
	f, err := r.folder.Begin(ctx, e)
	if f == nil || err != nil {
		return transient(err)
	}
	if r.rejectsFiles && f.Fresh() {
		verdict, err := r.try(ctx, f)
		switch {
		case err != nil:
			return r.end(ctx, f, err)
		case verdict != nil:
			return f.Refuse(verdict, !errors.Is(verdict, folder.ErrChanged))
		}
	}
	return r.end(ctx, f, r.records(ctx, f))
}

// end closes a file that was read to its end, or as far as err let it.
func (r *reader[T]) end(ctx context.Context, f *folder.Reading, err error) error {
	var sent *sendError
	switch {
	case errors.As(err, &sent) || ctx.Err() != nil:
		f.Leave()
		return errors.Join(err, ctx.Err())
	case err != nil && !isDamage(err): // the disk or the network
		return transient(f.Broken(fmt.Errorf("%w; the records before line %d were read, the rest of the file was not", err, r.cutter.Line())))
	}
	return f.End(err)
}

// transient lets the engine rewind and try again what may go better then.
func transient(err error) error {
	var again *folder.ReadError
	if errors.As(err, &again) {
		return leat.Transient(err)
	}
	return err
}

// try passes over a whole file before any of its rows is sent (rule B2). It returns
// why the file is to be refused whole; an error is one of the engine, or of the disk
// or the network.
func (r *reader[T]) try(ctx context.Context, f *folder.Reading) (verdict, err error) {
	h, done, err := r.open(f)
	if err != nil {
		return wholly(err)
	}
	defer done()
	bad := 0
	var first error
	for {
		ch, err := r.next(ctx, f, h)
		if err == io.EOF {
			break
		}
		if err != nil {
			return wholly(err)
		}
		faults, fault, err := r.in.Try(ctx, ch.send(r.behind(f, ch)))
		if err != nil {
			return nil, &sendError{err}
		}
		if bad += faults; first == nil {
			first = fault
		}
	}
	if bad == 0 {
		return nil, nil
	}
	return &rejectedWhole{bad, first}, nil
}

// wholly makes damage a verdict: a file of which not all can be read is not wanted
// in part either.
func wholly(err error) (verdict, _ error) {
	if isDamage(err) {
		return fmt.Errorf("rejected whole: %w", err), nil
	}
	return nil, err
}

// rejectedWhole is the verdict on a file with bad rows.
type rejectedWhole struct {
	bad   int
	first error
}

func (e *rejectedWhole) Error() string { return fmt.Sprintf("%s, the first: %v", e.ForLog(), e.first) }

// ForLog keeps what a row's error may quote out of logs. The ledger has all of it.
func (e *rejectedWhole) ForLog() string {
	if e.bad == 1 {
		return "rejected whole: 1 bad row"
	}
	return fmt.Sprintf("rejected whole: %d bad rows", e.bad)
}

// open begins with the text of a file, behind its header.
func (r *reader[T]) open(f *folder.Reading) (*header, func(), error) {
	file := f.Reader()
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, nil, err
	}
	src, done, err := openText(f.Entry.Name, file)
	if err != nil {
		return nil, nil, err
	}
	r.cutter.Reset(src)
	h, err := readHeader(r.cutter, r.row)
	if err != nil {
		done()
		return nil, nil, err
	}
	if r.header == nil || r.header.raw != h.raw {
		r.header = h // else what the last one has learned serves again
	}
	return r.header, done, nil
}

// behind is the offset behind a chunk. The last one takes the file's whole range, so
// that the position after it is the next file's.
func (r *reader[T]) behind(f *folder.Reading, ch *chunk[T]) int64 {
	if ch.piece.Last {
		return f.Entry.End()
	}
	return f.Entry.Base + ch.piece.End
}

// records sends the file's records from where this life starts.
func (r *reader[T]) records(ctx context.Context, f *folder.Reading) error {
	e := f.Entry
	h, done, err := r.open(f)
	if err != nil {
		return err
	}
	defer done()
	c := r.cutter
	stop := int64(-1)
	if f.Stop >= 0 {
		stop = f.Stop - e.Base
	}
	// What a crash made the ledger lose count of.
	if from := f.CountFrom - e.Base; f.CountFrom < f.From && f.CountFrom < e.End() {
		if from > c.Offset() {
			if err := c.SkipTo(from, f.CountLine); err != nil {
				return r.skipError(err)
			}
		}
		switch until := f.From - e.Base; {
		case f.OnlyCount:
			c.Stop(stop)
		case until > c.Offset():
			c.Stop(until)
		}
		if f.OnlyCount || f.From-e.Base > c.Offset() {
			if err := r.count(ctx, f, h); err != nil {
				return r.located(err)
			}
		}
	}
	if f.OnlyCount {
		return nil
	}
	c.Stop(stop)
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
		next := r.behind(f, ch)
		if err := f.Sent(next, ch.piece.EndLine, ch.count); err != nil {
			return &sendError{err}
		}
		r.sent = true
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
		base: f.Entry.Base, file: f.Entry.Name, arrived: f.Entry.ModTime(), count: new(folder.Count),
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
		ch.release()
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
