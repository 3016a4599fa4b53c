package folder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
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

	// Only counting: everything of the file is durable, but the crash came before
	// the ledger heard of it.
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
		strict: e.Final() || max(f.start, f.ahead) > e.Base,
	}
	if f.known && f.start > e.Base {
		r.From = min(f.start, e.End())
		r.OnlyCount = f.start >= e.End()
	}
	if r.replay {
		r.CountFrom = r.From
	}
	for _, p := range e.progress {
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
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case err == nil:
		r.file = &checkedFile{ctx: ctx, f: file.File, info: file.info}
	case r.OnlyCount:
		// Everything of it is durable: only the count is lost.
		f.log.Warn("a file that was read whole can't be counted again", "file", e.Name, "error", err)
		r.settleLocked(OK, fmt.Sprintf("read whole, but its rows could not be counted after a crash: %v", err))
		return nil, f.finishLocked()
	case r.strict:
		return nil, &HeldError{File: e.Name, Hash: e.Hash, Offset: r.From, Err: err}
	default:
		f.log.Error("a file can't be read", "file", e.Name, "error", err)
		r.settleLocked(Failed, fmt.Sprintf("%v; nothing of it was delivered", err))
		return nil, f.finishLocked()
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

// settleLocked is the end of a file that never became a reading.
func (r *Reading) settleLocked(s Status, why string) {
	r.done, r.outcome, r.fault, r.doneAt = true, s, why, r.folder.sent
	r.folder.readings = append(r.folder.readings, r)
}

// Reader is the file's bytes from the start. It can seek. A read fails with
// ErrChanged when the file is not what was entered, and when ctx of Begin ends.
func (r *Reading) Reader() io.ReadSeeker { return r.file }

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
func (r *Reading) Sent(next, line int64, count *Count) {
	r.folder.mu.Lock()
	defer r.folder.mu.Unlock()
	r.marks = append(r.marks, mark{next, line, count})
	r.last = next
	r.folder.sent = next
}

// End closes the file. err says why it was not read to its end: damage fails the
// file (rows before it stay) and the run goes on; ErrChanged does too, unless a
// sink holds rows of it since an earlier life, which ends the run with a HeldError. The
// status is written when a checkpoint covers what was sent.
func (r *Reading) End(err error) error {
	cerr := r.file.f.Close()
	f := r.folder
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		err = cerr
	}
	if errors.Is(err, ErrChanged) && r.strict && !r.OnlyCount {
		return &HeldError{File: r.Entry.Name, Hash: r.Entry.Hash, Offset: max(r.From, r.last), Err: err}
	}
	r.done, r.outcome = true, OK
	if err != nil {
		r.outcome, r.fault = Failed, err.Error()
		if r.OnlyCount && errors.Is(err, ErrChanged) {
			r.outcome, r.fault = OK, fmt.Sprintf("read whole, but its rows could not be counted after a crash: %v", err)
		}
		if !r.replay {
			f.log.Error("a file failed", "file", r.Entry.Name, "error", err)
		}
	}
	// A file without rows is done when all that was sent before it is.
	r.doneAt = f.sent
	return f.finishLocked()
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
	switch e.Moved {
	case "":
		file, info, err = f.open(e.Name)
	case Lost:
		err = fmt.Errorf("it was neither in the folder nor where finished files go: %w", fs.ErrNotExist)
	default:
		file, info, err = openPlain(filepath.Join(f.c.moveDir(e.Moved), filepath.FromSlash(e.MovedTo)))
	}
	if err != nil {
		return nil, fmt.Errorf("it can't be opened: %w", err)
	}
	if info.Size() != e.Size {
		file.Close()
		return nil, fmt.Errorf("%w: it has %d bytes instead of %d", ErrChanged, info.Size(), e.Size)
	}
	if !info.ModTime().Equal(e.ModTime) { // touched, or restored from a backup: the content decides
		hash, _, err := hashAll(ctx, file)
		if err == nil && hash != e.Hash {
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
	n, err := c.f.Read(p)
	c.pos += int64(n)
	now, serr := c.f.Stat()
	switch {
	case serr != nil:
		return 0, serr
	case now.Size() != c.info.Size():
		return 0, fmt.Errorf("%w: while it was read its size went from %d to %d bytes", ErrChanged, c.info.Size(), now.Size())
	case !now.ModTime().Equal(c.info.ModTime()):
		return 0, fmt.Errorf("%w: it was written to while it was read (%s)", ErrChanged, now.ModTime().UTC().Format(time.RFC3339Nano))
	case err == io.EOF && c.pos < c.info.Size():
		return 0, fmt.Errorf("%w: it ends after %d of %d bytes", ErrChanged, c.pos, c.info.Size())
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
