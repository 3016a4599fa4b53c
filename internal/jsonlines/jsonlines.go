// Package jsonlines is an append log of JSON lines that survives crashes: what [Log.Sync] has acknowledged is there
// afterwards, and the file holds whole lines only. Dead letters are kept in it (rules B3 to B3-2).
//
// A crash in the middle of a write leaves the beginning of a line. Such a torn line can only be the last one of a file, was
// never acknowledged, and is cut off when the log is opened; [Scan] skips it. A line that is not JSON anywhere else is not
// the work of a crash: it stays untouched, Scan gives it as it is, and the caller decides.
package jsonlines

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/leatgo/leat/internal/durable"
)

const (
	// MaxLine is the longest line, its newline included. A longer one could not be read back.
	MaxLine = 64 << 20

	// bufferSize is what Append gathers before it writes: large enough that a system call per batch of lines does not
	// matter, small enough not to count in the budget of a pipeline.
	bufferSize = 256 << 10
)

// ErrBroken is in every error after which the log refuses all calls. Whether lines since the last successful [Log.Sync] are
// on disk is then unknown; open the log again to find out.
var ErrBroken = errors.New("the log cannot be used any more")

// ErrClosed is what the calls of a closed log return.
var ErrClosed = errors.New("the log is closed")

// file is what a Log needs of an *os.File; tests put faults in.
type file interface {
	io.ReaderAt
	io.WriterAt
	Stat() (fs.FileInfo, error)
	Sync() error
	Truncate(size int64) error
	Close() error
}

// Log is an open log. Its methods are safe for concurrent use.
//
// One process at a time may have a log open; the log takes no lock, its owner's folder has one. A file that changes or
// moves under the log is noticed and breaks it (see [ErrBroken]) rather than losing lines.
type Log struct {
	path string
	open func(path string, flag int) (file, error)

	mu    sync.Mutex
	f     file   // nil between the steps of a Rotate that failed; see reopen
	size  int64  // the file up to here is whole lines
	safe  int64  // and up to here they are durable
	dirty bool   // something is to be synced
	torn  bool   // the file may go on after size: a write failed and so did cutting it off
	buf   []byte // lines not written yet
	err   error  // why the log cannot be used any more
}

// Open opens the log at path and creates it, and its folder (0700, the file 0600), if there is none.
//
// It durably cuts off a torn last line: one that has no newline or is not JSON; one line at most. It then syncs file and
// folder: what a process that was killed had written but not synced is either cut off or durable, so that a reader may
// rely on the lines it finds (rule B3-2: letters that are there are not written again).
func Open(path string) (*Log, error) { return open(path, osOpen) }

func osOpen(path string, flag int) (file, error) {
	f, err := os.OpenFile(path, flag, 0o600)
	if err != nil {
		return nil, err // not a nil *os.File in an interface
	}
	return f, nil
}

func open(path string, openFile func(string, int) (file, error)) (_ *Log, err error) {
	if err := durable.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("jsonlines: %w", err)
	}
	if err := finishRotation(path); err != nil {
		return nil, fmt.Errorf("jsonlines: open %s: %w", path, err)
	}
	f, err := openFile(path, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, fmt.Errorf("jsonlines: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("jsonlines: open %s: %w", path, err)
			_ = f.Close()
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("not a file (%s)", info.Mode().Type())
	}
	size, err := wholeLines(f, info.Size())
	if err != nil {
		return nil, err
	}
	if size < info.Size() {
		if err := f.Truncate(size); err != nil {
			return nil, err
		}
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	if err := durable.SyncDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	return &Log{path: path, open: openFile, f: f, size: size, safe: size}, nil
}

// wholeLines returns how long the file is without a torn last line.
func wholeLines(f io.ReaderAt, size int64) (int64, error) {
	if size == 0 {
		return 0, nil
	}
	// The tail, from the end backwards, until it holds the last line and the newline before it.
	var tail []byte
	for chunk := int64(64 << 10); ; chunk = min(4*chunk, MaxLine+2) {
		start := max(size-chunk, 0)
		tail = make([]byte, size-start)
		if _, err := f.ReadAt(tail, start); err != nil {
			return 0, err
		}
		if start == 0 || bytes.IndexByte(tail[:len(tail)-1], '\n') >= 0 {
			break
		}
		if len(tail) > MaxLine {
			break
		}
	}
	last := tail[bytes.LastIndexByte(tail[:len(tail)-1], '\n')+1:]
	if len(last) > MaxLine {
		// No log of ours ends like this; cutting it off would destroy somebody's data.
		return 0, fmt.Errorf("the last line is longer than %d MiB: this is not a JSON-lines log", MaxLine>>20)
	}
	if last[len(last)-1] == '\n' && json.Valid(last) {
		return size, nil
	}
	return size - int64(len(last)), nil
}

// Append adds lines: one or more, each of them JSON and with a newline at its end. They are checked, because a line that is
// not JSON would be cut off as torn at the next Open; lines are refused as a whole.
//
// Append buffers and does not make anything durable; Sync does. lines is not kept. When a write fails, Append returns the
// error, has not taken lines, and the file is cut back to whole lines before the next try; the same Append may be repeated.
func (l *Log) Append(lines []byte) error {
	if err := check(lines); err != nil {
		return fmt.Errorf("jsonlines: append to %s: %w", l.path, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return l.err
	}
	if len(lines) == 0 {
		return nil
	}
	n := len(l.buf)
	l.buf = append(l.buf, lines...)
	if len(l.buf) >= bufferSize {
		if err := l.flush(); err != nil {
			l.buf = l.buf[:n]
			return err
		}
	}
	l.dirty = true
	return nil
}

func check(lines []byte) error {
	for n := 1; len(lines) > 0; n++ {
		end := bytes.IndexByte(lines, '\n')
		switch {
		case end < 0:
			return fmt.Errorf("line %d has no newline at its end", n)
		case end >= MaxLine:
			return fmt.Errorf("line %d is longer than %d MiB", n, MaxLine>>20)
		case !json.Valid(lines[:end]):
			return fmt.Errorf("line %d is not JSON", n)
		}
		lines = lines[end+1:]
	}
	return nil
}

// Sync makes all appended lines durable. It does nothing when there are none since the last one.
//
// A failed write may be tried again. A failed fsync may not: the kernel has then marked the lost pages as clean and would
// report success the next time. The log is broken from then on and every call returns that error. What was not durable
// before is cut off, or else the next Open would find it, in memory, and believe it.
func (l *Log) Sync() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sync()
}

func (l *Log) sync() error {
	if l.err != nil {
		return l.err
	}
	if err := l.repair(); err != nil {
		return err
	}
	if !l.dirty {
		return nil
	}
	if err := l.flush(); err != nil {
		return err
	}
	if err := l.fsync(); err != nil {
		return err
	}
	// A file that somebody has moved or deleted takes the lines with it: not durable in the sense of rule B3.
	if err := l.stillThere(); err != nil {
		return err
	}
	l.dirty = false
	return nil
}

func (l *Log) fsync() error {
	if err := l.f.Sync(); err != nil {
		if cutErr := l.f.Truncate(min(l.safe, l.size)); cutErr != nil {
			err = fmt.Errorf("%w (and what may be lost could not be cut off: %w)", err, cutErr)
		}
		return l.broken("sync", err)
	}
	l.safe = l.size
	return nil
}

func (l *Log) stillThere() error {
	named, err := os.Stat(l.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("jsonlines: %w", err)
	}
	own, ownErr := l.f.Stat()
	if ownErr != nil {
		return fmt.Errorf("jsonlines: %w", ownErr)
	}
	if err != nil || !os.SameFile(named, own) {
		return l.broken("sync", errors.New("the file was moved or deleted while it was in use; stop the pipeline first"))
	}
	return nil
}

// broken makes err the answer to every later call.
func (l *Log) broken(op string, err error) error {
	l.err = fmt.Errorf("jsonlines: %s %s: %w (%w)", op, l.path, err, ErrBroken)
	return l.err
}

// flush writes the buffer with one write, after what is whole in the file.
func (l *Log) flush() error {
	if len(l.buf) == 0 {
		return nil
	}
	if err := l.reopen(); err != nil {
		return err
	}
	if err := l.repair(); err != nil {
		return err
	}
	if err := l.unchanged(); err != nil {
		return err
	}
	n, err := l.f.WriteAt(l.buf, l.size)
	if err == nil && n < len(l.buf) {
		err = io.ErrShortWrite
	}
	if err != nil {
		l.torn = true
		_ = l.repair() // the next flush tries again
		return fmt.Errorf("jsonlines: write to %s: %w", l.path, err)
	}
	l.size += int64(n)
	if cap(l.buf) > 4*bufferSize {
		l.buf = nil // one large Append is not to hold its memory for ever
	}
	l.buf = l.buf[:0]
	return nil
}

// repair cuts off what a failed write may have left.
func (l *Log) repair() error {
	if !l.torn {
		return nil
	}
	if err := l.f.Truncate(l.size); err != nil {
		return fmt.Errorf("jsonlines: cut %s back to %d bytes after a failed write: %w", l.path, l.size, err)
	}
	l.torn, l.dirty = false, true // the cut is to be durable as well
	return nil
}

// unchanged notices a second writer before its lines are overwritten or ours are torn.
func (l *Log) unchanged() error {
	info, err := l.f.Stat()
	if err != nil {
		return fmt.Errorf("jsonlines: %w", err)
	}
	if info.Size() != l.size {
		return l.broken("write to", fmt.Errorf("the file has %d bytes and should have %d: something else writes to it", info.Size(), l.size))
	}
	return nil
}

// reopen opens the file again after a Rotate that did not get to its end.
func (l *Log) reopen() error {
	if l.f != nil {
		return nil
	}
	f, err := l.open(l.path, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return fmt.Errorf("jsonlines: %w", err)
	}
	if err := durable.SyncDir(filepath.Dir(l.path)); err != nil {
		_ = f.Close()
		return l.broken("create", err)
	}
	l.f = f
	return nil
}

// Size returns the length of the log with all appended lines, written or not. After a Sync it is what [Log.Truncate] takes
// to come back to this point.
func (l *Log) Size() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size + int64(len(l.buf))
}

// Truncate durably cuts the log back to size, which must be the end of a line. It is for an owner that keeps the length it
// has committed elsewhere and opens the log after a crash. A log that is shorter than size has lost lines: an error, and
// nothing is changed.
func (l *Log) Truncate(size int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return l.err
	}
	if size > l.size {
		if err := l.flush(); err != nil {
			return err
		}
	}
	switch {
	case size < 0:
		return fmt.Errorf("jsonlines: truncate %s: the size %d is negative", l.path, size)
	case size > l.size:
		return fmt.Errorf("jsonlines: truncate %s to %d bytes: it has only %d; lines that were committed are missing", l.path, size, l.size)
	}
	if err := l.reopen(); err != nil {
		return err
	}
	if size > 0 {
		var b [1]byte
		if _, err := l.f.ReadAt(b[:], size-1); err != nil {
			return fmt.Errorf("jsonlines: truncate %s: %w", l.path, err)
		}
		if b[0] != '\n' {
			return fmt.Errorf("jsonlines: truncate %s: byte %d is not the end of a line", l.path, size)
		}
	}
	if err := l.f.Truncate(size); err != nil {
		return fmt.Errorf("jsonlines: truncate %s: %w", l.path, err)
	}
	l.size, l.buf, l.torn = size, l.buf[:0], false
	if err := l.fsync(); err != nil {
		return err
	}
	l.dirty = false
	return nil
}

// Rotate syncs the log, gives its file the next free number (letters.jsonl becomes letters-000001.jsonl) and goes on with an
// empty one. Numbers grow and no file is ever overwritten. An empty log is not rotated.
//
// After an error that is not [ErrBroken] the log goes on, with the old file or a new one, and Rotate may be repeated.
func (l *Log) Rotate() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.sync(); err != nil {
		return err
	}
	if l.size == 0 {
		return nil
	}
	if err := l.reopen(); err != nil {
		return err
	}
	err := l.f.Close() // Windows does not rename an open file
	l.f = nil
	if err != nil {
		return fmt.Errorf("jsonlines: rotate %s: %w", l.path, err)
	}
	old, err := rotated(l.path)
	if err != nil {
		return fmt.Errorf("jsonlines: rotate: %w", err)
	}
	n := uint64(1)
	if len(old) > 0 {
		n = old[len(old)-1].n + 1
	}
	for ; ; n++ {
		err = durable.RenameNoReplace(l.path, rotatedName(l.path, n))
		if !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	if link := (*os.LinkError)(nil); errors.As(err, &link) {
		return fmt.Errorf("jsonlines: rotate: %w", err) // not renamed
	}
	l.size, l.safe = 0, 0
	if err != nil {
		return l.broken("rotate", err) // renamed, but perhaps not after a power cut
	}
	return l.reopen()
}

// Close syncs the log and closes it. It closes the file also when it returns an error. Closing twice is harmless.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if errors.Is(l.err, ErrClosed) {
		return nil
	}
	err := l.sync()
	if l.f != nil {
		if closeErr := l.f.Close(); closeErr != nil && err == nil {
			err = fmt.Errorf("jsonlines: close %s: %w", l.path, closeErr)
		}
		l.f = nil
	}
	l.err = fmt.Errorf("jsonlines: %s: %w", l.path, ErrClosed)
	return err
}

type numbered struct {
	n    uint64
	path string
}

func splitName(path string) (dir, stem, ext string) {
	dir, base := filepath.Split(path)
	ext = filepath.Ext(base)
	return dir, strings.TrimSuffix(base, ext), ext
}

func rotatedName(path string, n uint64) string {
	dir, stem, ext := splitName(path)
	return dir + fmt.Sprintf("%s-%06d%s", stem, n, ext)
}

// rotated lists the rotated files of the log at path in order.
func rotated(path string) ([]numbered, error) {
	dir, stem, ext := splitName(path)
	if dir == "" {
		dir = "."
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []numbered
	for _, e := range entries {
		digits, ok := strings.CutPrefix(e.Name(), stem+"-")
		if !ok || !strings.HasSuffix(digits, ext) {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSuffix(digits, ext), 10, 64)
		if p := rotatedName(path, n); err == nil && filepath.Base(p) == e.Name() {
			out = append(out, numbered{n, p})
		}
	}
	slices.SortFunc(out, func(a, b numbered) int {
		if a.n < b.n {
			return -1
		}
		return 1
	})
	return out, nil
}

// finishRotation removes the old name of a file that has its new one too: where there is no rename that does not replace,
// it is a link and a removal, and a crash may have come in between.
func finishRotation(path string) error {
	old, err := rotated(path)
	if err != nil || len(old) == 0 {
		return err
	}
	a, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	b, err := os.Lstat(old[len(old)-1].path)
	if err != nil || !os.SameFile(a, b) {
		return err
	}
	return os.Remove(path) // Open syncs the folder
}

// Files returns the files of the log at path: the rotated ones in order, then the current one. Files that are not there,
// and a folder that is not there, are not an error. A Rotate at the same moment may hide one file.
func Files(path string) ([]string, error) {
	old, err := rotated(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("jsonlines: %w", err)
	}
	var out []string
	for _, r := range old {
		out = append(out, r.path)
	}
	if _, err := os.Lstat(path); err == nil {
		out = append(out, path)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("jsonlines: %w", err)
	}
	return out, nil
}

// Scan calls yield with each complete line of one file, in order and without its newline; line is valid until yield
// returns. A torn last line is skipped, as Open would cut it off. All other lines are given as they are, also those that
// are not JSON. An error of yield ends the scan and is returned as it is; a line longer than [MaxLine] is an error.
//
// The file may be one that a Log is writing to; lines still in the log's buffer are not in it.
func Scan(path string, yield func(line []byte) error) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("jsonlines: %w", err)
	}
	defer f.Close()

	r := bufio.NewReaderSize(f, bufferSize)
	var long []byte // the line so far, when it does not fit into r's buffer
	for n := 1; ; {
		part, err := r.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF):
			return nil // and the rest, if there is one, is torn
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return fmt.Errorf("jsonlines: read %s: %w", path, err)
		}
		if len(long)+len(part) > MaxLine {
			return fmt.Errorf("jsonlines: %s: line %d is longer than %d MiB", path, n, MaxLine>>20)
		}
		if err != nil {
			long = append(long, part...)
			continue
		}
		line := part
		if len(long) > 0 || r.Buffered() == 0 {
			long = append(long, part...) // the Peek below would overwrite part
			line = long
		}
		if r.Buffered() == 0 {
			if _, err := r.Peek(1); errors.Is(err, io.EOF) && !json.Valid(line) {
				return nil // the last line, and torn
			}
		}
		if err := yield(line[:len(line)-1]); err != nil {
			return err
		}
		n++
		if cap(long) > 4*bufferSize {
			long = nil
		}
		long = long[:0]
	}
}
