package folder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/leatgo/leat/internal/failpoint"
)

// ErrChanged is what reading gives when a file is no longer the one that was entered.
var ErrChanged = errors.New("the file is no longer the one that was entered into the ledger")

// HeldError ends a run: rows of a file are delivered, or may be, and the rest of
// exactly this file can't be read. Going on would leave a hole, or give other rows
// the same offsets.
type HeldError struct {
	File   string
	Hash   string
	Offset int64 // everything before it is delivered
	Err    error
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("folder: %s can't be read to its end: %v. Sinks hold rows of it, up to offset %d at least, and keep them. "+
		"Put back the original (sha256 %s) under this name and run again, or give the rest of it up with Abandon",
		e.File, e.Err, e.Offset, e.Hash)
}

func (e *HeldError) Unwrap() error { return e.Err }

// ReadError is a failed reading of a file that is to be tried again: nothing shows
// that anything is wrong with the file itself.
type ReadError struct {
	File        string
	Attempt, Of int // Of is 0 when there is no limit
	Err         error
}

func (e *ReadError) Error() string {
	if e.Of == 0 {
		return fmt.Sprintf("folder: read %s (attempt %d): %v", e.File, e.Attempt, e.Err)
	}
	return fmt.Sprintf("folder: read %s (attempt %d of %d): %v", e.File, e.Attempt, e.Of, e.Err)
}

func (e *ReadError) Unwrap() error { return e.Err }

// Count is how many records a chunk held. It is filled when the chunk is decoded,
// perhaps more than once with the same numbers, by any goroutine.
type Count struct {
	rows, rejected atomic.Int64
}

// Set says what the chunk held: all records, and those of them that were rejected.
func (c *Count) Set(rows, rejected int64) {
	c.rows.Store(rows)
	c.rejected.Store(rejected)
}

// Get gives what was set.
func (c *Count) Get() (rows, rejected int64) { return c.rows.Load(), c.rejected.Load() }

// Reading is a file that is being read. Its methods but for Sent's counts are for
// one goroutine.
type Reading struct {
	Entry *Entry

	// From is the offset from which on records are to be sent. Those between
	// CountFrom and From are to be counted only (see Counted): the ledger lost count
	// of them in a crash. CountLine is the line at CountFrom, 0 if it is not known.
	From, CountFrom, CountLine int64

	// Stop is the offset behind which nothing is to be sent, because an earlier
	// reading ended there; -1: there is none. Until then no fault is to be expected.
	Stop int64

	// Only counting: everything of the file (of one at fault, what was read of it) is
	// durable, but the crash came before the ledger heard of it.
	OnlyCount bool

	folder *Folder
	file   *checkedFile
	replay bool // the entry is final: its rows are wanted again, its status stays
	strict bool // a sink holds rows of it since an earlier life, by their offsets (rule E7)

	// Below is guarded by folder.mu.
	rows, rejected int64 // counted and covered
	marks          []mark
	last           int64 // Next of the last chunk; 0: none
	doneAt         int64 // what a checkpoint must cover
	done           bool
	outcome        Status
	fault          string
	covered        int64 // Next of the last chunk in rows and rejected
	coveredLine    int64
	noted          int64 // covered at the last progress line
}

// mark is a chunk that was sent and is not yet covered by a checkpoint.
type mark struct {
	next, line int64
	count      *Count
}

// Begin opens an entry for reading. A file that is gone or changed and of which
// nothing was ever sent is failed: Begin then returns nil, nil and the run goes on.
func (f *Folder) Begin(ctx context.Context, e *Entry) (*Reading, error) {
	f.mu.Lock()
	r := &Reading{
		Entry: e, folder: f, replay: e.Final(),
		From: e.Base, CountFrom: e.Base,
		Stop:   -1,
		strict: e.Final() || max(f.start, f.ahead) > e.Base,
	}
	if (e.Faulted || e.Status == Failed) && e.Sent > e.Base && e.Sent < e.End() {
		r.Stop = e.Sent
	}
	if f.known && f.start > e.Base {
		r.From = min(f.start, e.End())
		r.OnlyCount = f.start >= e.End() || e.Faulted && f.start >= e.Sent
	}
	if r.replay {
		r.CountFrom = r.From
	}
	for _, p := range f.led.counts[e.Seq] {
		if p.next <= r.From && p.next > r.CountFrom {
			r.CountFrom, r.CountLine, r.rows, r.rejected = p.next, p.line, p.rows, p.rejected
		}
	}
	r.noted = r.CountFrom
	f.mu.Unlock()

	file, err := f.reopen(ctx, e)
	if cerr := ctx.Err(); cerr != nil {
		if file != nil {
			file.Close()
		}
		return nil, cerr
	}
	defer f.announce()
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case err == nil:
		r.file = &checkedFile{ctx: ctx, f: file.File, info: file.info}
	case !lasting(err) && f.tryAgain(e):
		return nil, f.readError(e, err)
	case r.OnlyCount:
		// Everything of it is durable: only the count is lost.
		f.log.Warn("a file that was read whole can't be counted again", "file", e.Name, "error", err)
		r.done, r.doneAt = true, f.sent
		r.outcome, r.fault = r.uncounted(err)
		f.readings = append(f.readings, r)
		return nil, f.finishLocked()
	case f.c.Watch > 0 && f.replaced(): // the folder is away, and may come back: that says nothing about its files
		return nil, &ReadError{File: e.Name, Attempt: int(e.Attempt) + 1, Err: err}
	case r.strict:
		return nil, &HeldError{File: e.Name, Hash: e.Hash(), Offset: r.From, Err: err}
	default:
		f.log.Error("a file can't be read", "file", e.Name, "error", err)
		return nil, f.verdictLocked(e, fmt.Errorf("%w; nothing of it was delivered", err), false)
	}
	if !r.replay && !r.OnlyCount {
		if err := f.led.append(event{Event: "status", Seq: e.Seq, Status: Processing}); err != nil {
			return nil, errors.Join(err, r.file.f.Close())
		}
		if err := failpoint.Hit("folder/begun"); err != nil {
			return nil, errors.Join(err, r.file.f.Close())
		}
	}
	f.readings = append(f.readings, r)
	return r, nil
}

// lasting tells an error of opening that will be the same at the next attempt.
func lasting(err error) bool {
	var r refusal
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, ErrChanged) || errors.As(err, &r)
}

// tryAgain counts a failed reading and tells whether there is to be another one.
func (f *Folder) tryAgain(e *Entry) bool {
	f.failures[e.Seq]++
	return f.c.Attempts == 0 || f.failures[e.Seq] < f.c.Attempts
}

func (f *Folder) readError(e *Entry, err error) error {
	return &ReadError{File: e.Name, Attempt: f.failures[e.Seq], Of: f.c.Attempts, Err: err}
}

// verdictLocked fails a file of which nothing was delivered. It needs no checkpoint.
func (f *Folder) verdictLocked(e *Entry, why error, judged bool) error {
	if err := failpoint.Hit("folder/verdict"); err != nil {
		return err
	}
	err := f.led.append(event{Event: "status", Seq: e.Seq, Status: Failed, Error: why.Error(), Next: e.Base, Verdict: judged})
	if err != nil {
		return err
	}
	if err := failpoint.Hit("folder/verdict-written"); err != nil {
		return err
	}
	if errors.Is(why, ErrChanged) || errors.Is(why, fs.ErrNotExist) || errors.Is(why, fs.ErrPermission) {
		f.suspect(e.Name) // the next scan may find it mended
	}
	f.brieflyLocked(e, why)
	f.verdicts = append(f.verdicts, e)
	return nil
}

// Fresh tells whether no sink can hold a row of the file: nothing was sent of it in
// this life, and no earlier one committed anything of it.
func (r *Reading) Fresh() bool { return !r.strict && r.last == 0 }

// Refuse closes a fresh file and fails it: nothing of it is delivered. judged says
// that this is because of its content, so that the same is not tried again.
func (r *Reading) Refuse(why error, judged bool) error {
	f := r.folder
	defer f.announce()
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := r.file.f.Close(); err != nil {
		f.log.Debug("close a file", "file", r.Entry.Name, "error", err)
	}
	f.log.Error("a file is refused whole; the ledger has the details", "file", r.Entry.Name, "error", forLog(why), "rule", "B2")
	f.drop(r)
	return f.verdictLocked(r.Entry, why, judged)
}

// drop takes a reading out that needs no checkpoint.
func (f *Folder) drop(r *Reading) {
	f.readings = slices.DeleteFunc(f.readings, func(o *Reading) bool { return o == r })
}

// uncounted is the outcome of a file that is read whole but can't be counted again.
func (r *Reading) uncounted(err error) (Status, string) {
	if r.Entry.Faulted {
		return Failed, r.Entry.Error
	}
	return OK, fmt.Sprintf("read whole, but its rows could not be counted after a crash: %v", err)
}

// Reader is the file's bytes from the start. A Read fails with ErrChanged when the file
// is not what was entered, and when ctx of Begin ends. A ReadAt may come from any
// goroutine and does not look at ctx: what was sent is to be decoded while a run ends.
func (r *Reading) Reader() Reader { return r.file }

// Reader is what formats read files by.
type Reader interface {
	io.ReadSeeker
	io.ReaderAt
}

// Counted adds records between CountFrom and From, which a crash made the ledger
// lose count of.
func (r *Reading) Counted(rows, rejected int64) {
	r.folder.mu.Lock()
	defer r.folder.mu.Unlock()
	r.rows += rows
	r.rejected += rejected
}

// Sent says that a chunk whose records end before next, at line, is about to be
// handed over. To be called before it is.
func (r *Reading) Sent(next, line int64, count *Count) error {
	r.folder.mu.Lock()
	defer r.folder.mu.Unlock()
	if err := r.folder.syncVerdicts(); err != nil {
		return err
	}
	r.marks = append(r.marks, mark{next, line, count})
	r.last = next
	r.folder.sent = next
	return nil
}

// End closes the file. err says why it was not read to its end: damage fails the
// file (rows before it stay) and the run goes on; ErrChanged does too, unless a
// sink holds rows of it since an earlier life, which ends the run with a HeldError. The
// status is written when a checkpoint covers what was sent.
func (r *Reading) End(err error) error {
	cerr := r.file.f.Close()
	f := r.folder
	defer f.announce()
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		err = cerr
	}
	if errors.Is(err, ErrChanged) && r.strict && !r.OnlyCount {
		return &HeldError{File: r.Entry.Name, Hash: r.Entry.Hash(), Offset: max(r.From, r.last), Err: err}
	}
	return r.endLocked(err, errors.Is(err, ErrChanged), !errors.Is(err, ErrChanged))
}

// Broken closes the file because reading failed with an error that says nothing
// about it: of the disk or the network. As long as there are attempts left it
// returns a *ReadError. After that the file is failed, as by End; but if a sink
// holds rows behind the fault since an earlier life, another sink would miss them
// for ever, so the run ends with a HeldError.
func (r *Reading) Broken(err error) error {
	f := r.folder
	defer f.announce()
	f.mu.Lock()
	defer f.mu.Unlock()
	if cerr := r.file.f.Close(); cerr != nil {
		f.log.Debug("close a file", "file", r.Entry.Name, "error", cerr)
	}
	if f.tryAgain(r.Entry) {
		return f.readError(r.Entry, err)
	}
	err = fmt.Errorf("given up after %d attempts: %w", f.failures[r.Entry.Seq], err)
	delete(f.failures, r.Entry.Seq)
	at := max(r.From, r.last)
	if r.replay || !r.OnlyCount && at < min(f.ahead, r.Entry.End()) {
		return &HeldError{File: r.Entry.Name, Hash: r.Entry.Hash(), Offset: at, Err: err}
	}
	return r.endLocked(err, true, false)
}

// endLocked settles the outcome. lost says that the error is not the content's, so
// that it tells nothing of what was read before; judged that it is.
func (r *Reading) endLocked(err error, lost, judged bool) error {
	f := r.folder
	r.done, r.outcome = true, OK
	switch {
	case r.Entry.Faulted && !r.replay: // what an earlier life has decided
		r.outcome, r.fault = Failed, r.Entry.Error
	case err == nil:
	case r.OnlyCount && lost:
		r.outcome, r.fault = r.uncounted(err)
	case r.replay:
	default:
		r.outcome, r.fault = Failed, err.Error()
		f.log.Error("a file failed; the ledger has the details", "file", r.Entry.Name, "error", forLog(err))
		f.brieflyLocked(r.Entry, err)
		if r.Fresh() {
			f.drop(r)
			return f.verdictLocked(r.Entry, fmt.Errorf("%w; nothing of it was delivered", err), judged)
		}
	}
	// A file without rows is done when all that was sent before it is.
	r.doneAt = f.sent
	if err := f.finishLocked(); err != nil || !slices.Contains(f.readings, r) {
		return err
	}
	if r.outcome == Failed && !r.Entry.Faulted && !r.OnlyCount && !r.replay {
		if err := f.led.append(event{Event: "fault", Seq: r.Entry.Seq, Error: r.fault, Next: r.reached()}); err != nil {
			return err
		}
		f.faults = true
		return failpoint.Hit("folder/fault-written")
	}
	return nil
}

// Leave closes the file without a word about it: the run ends.
func (r *Reading) Leave() { _ = r.file.f.Close() }

// opened is a file and what it looked like.
type opened struct {
	*os.File
	info fs.FileInfo
}

// reopen opens the file of an entry, wherever it is by now, and proves that it is
// the one that was entered.
func (f *Folder) reopen(ctx context.Context, e *Entry) (*opened, error) {
	var file *os.File
	var info fs.FileInfo
	var err error
	f.mu.Lock()
	place, as := e.Moved, e.MovedTo
	f.mu.Unlock()
	if place == ToProcessed || place == ToFailed {
		file, info, err = openPlain(filepath.Join(f.c.moveDir(place), filepath.FromSlash(as)))
		if errors.Is(err, fs.ErrNotExist) { // perhaps it was put back
			if back, binfo, berr := f.open(e.Name); berr == nil {
				file, info, err = back, binfo, nil
			}
		}
	} else {
		file, info, err = f.open(e.Name)
	}
	if err != nil {
		return nil, fmt.Errorf("it can't be opened: %w", err)
	}
	if info.Size() != e.Size {
		file.Close()
		return nil, fmt.Errorf("%w: it has %d bytes instead of %d", ErrChanged, info.Size(), e.Size)
	}
	if !writable(info.ModTime()).Equal(e.ModTime()) || f.doubtful(e, info) { // touched, or restored from a backup: the content decides
		hash, _, err := hashAll(ctx, file)
		if err == nil && hash != e.hash {
			err = fmt.Errorf("%w: its content has another hash", ErrChanged)
		}
		if err == nil {
			_, err = file.Seek(0, io.SeekStart)
		}
		if err != nil {
			file.Close()
			return nil, err
		}
	}
	return &opened{file, info}, nil
}

func openPlain(path string) (*os.File, fs.FileInfo, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|nonBlock, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = refusal("it is not a regular file but " + kindOf(info.Mode()))
	}
	if err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	return file, info, nil
}

// checkedFile reads a file that must stay as it was when it was opened. What a
// read returns was there before the check, so a change never slips through with
// the bytes it changed, but for one that keeps size and time.
type checkedFile struct {
	ctx  context.Context
	f    *os.File
	info fs.FileInfo
	pos  int64
}

func (c *checkedFile) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	if err := failpoint.Hit("folder/read"); err != nil {
		return 0, err
	}
	n, err := c.f.Read(p)
	c.pos += int64(n)
	return c.checked(n, err, c.pos)
}

// ReadAt implements io.ReaderAt.
func (c *checkedFile) ReadAt(p []byte, at int64) (int, error) {
	if err := failpoint.Hit("folder/read"); err != nil {
		return 0, err
	}
	n, err := c.f.ReadAt(p, at)
	return c.checked(n, err, at+int64(n))
}

// checked is what a read that came to pos may return.
func (c *checkedFile) checked(n int, err error, pos int64) (int, error) {
	now, serr := c.f.Stat()
	switch {
	case serr != nil:
		return 0, serr
	case now.Size() != c.info.Size():
		return 0, fmt.Errorf("%w: while it was read its size went from %d to %d bytes", ErrChanged, c.info.Size(), now.Size())
	case !now.ModTime().Equal(c.info.ModTime()):
		return 0, fmt.Errorf("%w: it was written to while it was read (%s)", ErrChanged, now.ModTime().UTC().Format(time.RFC3339Nano))
	case err == io.EOF && pos < c.info.Size():
		return 0, fmt.Errorf("%w: it ends after %d of %d bytes", ErrChanged, pos, c.info.Size())
	}
	return n, err
}

func (c *checkedFile) Seek(offset int64, whence int) (int64, error) {
	pos, err := c.f.Seek(offset, whence)
	if err == nil {
		c.pos = pos
	}
	return pos, err
}
