package filesource

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/folder"
)

// reader reads files, one after the other, in one life of the pipeline.
type reader[T any] struct {
	folder *folder.Folder
	in     Intake[T]
	format Format[T]
	start  leat.Position // of this life

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
	case err != nil && !IsDamaged(err): // the disk or the network
		return transient(f.Broken(err))
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

// open begins with a file.
func (r *reader[T]) open(ctx context.Context, f *folder.Reading) (Records[T], error) {
	if err := Rewind(f.Reader()); err != nil {
		return nil, err
	}
	e := f.Entry
	return r.format.Open(ctx, File{
		Reader: f.Reader(), Name: e.Name, Size: e.Size, Base: e.Base, Arrived: e.ModTime(),
	})
}

// try passes over a whole file before any of its rows is sent (rule B2). It returns
// why the file is to be refused whole; an error is one of the engine, or of the disk
// or the network.
func (r *reader[T]) try(ctx context.Context, f *folder.Reading) (verdict, err error) {
	records, err := r.open(ctx, f)
	if err != nil {
		return wholly(err)
	}
	defer records.Close()
	bad := 0
	var first error
	for {
		p, err := next(ctx, records)
		if err == io.EOF {
			break
		}
		if err != nil {
			if !IsDamaged(err) {
				err = located(err, records)
			}
			return wholly(err)
		}
		faults, fault, err := r.in.Try(ctx, chunk(p, f, new(folder.Count)))
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
	if IsDamaged(err) {
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

// records sends the file's records from where this life starts.
func (r *reader[T]) records(ctx context.Context, f *folder.Reading) error {
	e := f.Entry
	records, err := r.open(ctx, f)
	if err != nil {
		return err
	}
	defer records.Close()
	stop := int64(-1)
	if f.Stop >= 0 {
		stop = f.Stop - e.Base
	}
	// What a crash made the ledger lose count of.
	if from := f.CountFrom - e.Base; f.CountFrom < f.From && f.CountFrom < e.End() {
		if from > records.Offset() {
			if err := records.SkipTo(from, f.CountLine); err != nil {
				return skipError(err)
			}
		}
		switch until := f.From - e.Base; {
		case f.OnlyCount:
			records.Stop(stop)
		case until > records.Offset():
			records.Stop(until)
		}
		if f.OnlyCount || f.From-e.Base > records.Offset() {
			if err := count(ctx, f, records); err != nil {
				return located(err, records)
			}
		}
	}
	if f.OnlyCount {
		return nil
	}
	records.Stop(stop)
	if from := f.From - e.Base; from > records.Offset() {
		line := int64(0)
		if r.start.Known() && r.start.Next == f.From {
			line = parseResume(r.start.Resume).Line
		}
		if err := records.SkipTo(from, line); err != nil {
			return skipError(err)
		}
	}
	for {
		p, err := next(ctx, records)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return located(err, records)
		}
		count := new(folder.Count)
		c := chunk(p, f, count)
		if err := f.Sent(c.Next, p.Span().EndLine, count); err != nil {
			return &sendError{err}
		}
		r.sent = true
		if err := r.in.Send(c); err != nil {
			return &sendError{err}
		}
	}
}

// next cuts the next piece.
func next[T any](ctx context.Context, records Records[T]) (Piece[T], error) {
	if err := ctx.Err(); err != nil { // much may be buffered
		return nil, err
	}
	return records.Next()
}

// chunk turns a piece into what the engine takes.
func chunk[T any](p Piece[T], f *folder.Reading, count *folder.Count) leat.Chunk[T] {
	span, e := p.Span(), f.Entry
	c := leat.Chunk[T]{
		First:  e.Base + span.Start,
		Next:   e.Base + span.End,
		Resume: resume{Line: span.EndLine}.String(),
		Bytes:  p.Bytes(),
		Decode: func(ctx context.Context, out *leat.Batch[T]) error {
			records, rejected, err := p.Decode(ctx, out, func(record int, err error) { out.Reject(record, leat.Decode, err) })
			if err == nil {
				count.Set(int64(records), int64(rejected))
			}
			return err
		},
		Locate:  p.Locate,
		Offsets: p.Offsets,
		Release: p.Release,
	}
	if span.Last { // it takes the file's whole range, so that the position after it is the next file's
		c.Next = e.End()
	}
	return c
}

// count decodes records that need not be sent.
func count[T any](ctx context.Context, f *folder.Reading, records Records[T]) error {
	for {
		p, err := next(ctx, records)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		n, rejected, err := p.Decode(ctx, new(leat.Batch[T]), func(int, error) {})
		p.Release()
		if err != nil {
			return err
		}
		f.Counted(int64(n), int64(rejected))
	}
}

// located says how far a file could be read.
func located[T any](err error, records Records[T]) error {
	return fmt.Errorf("%w; the records before line %d were read, the rest of the file was not", err, records.Line())
}

// skipError is about a position that lies behind the file's end.
func skipError(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: its text ends before the position that was reached in it", folder.ErrChanged)
	}
	return err
}

// resume is what a position carries beside the offset.
type resume struct {
	Line int64 `json:"line"` // at the offset; 0: not known
}

func (r resume) String() string {
	b, err := json.Marshal(r)
	if err != nil {
		return ""
	}
	return string(b)
}

// parseResume never fails: the offset decides, and an unknown line is counted.
func parseResume(s string) resume {
	var r resume
	if json.Unmarshal([]byte(s), &r) != nil || r.Line < 1 {
		return resume{}
	}
	return r
}
