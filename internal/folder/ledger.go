package folder

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/leatgo/leat/internal/durable"
)

// LedgerFile is the ledger's name in a source's state folder.
const LedgerFile = "ledger.jsonl"

const ledgerVersion = 1

// event is one line of the ledger. Lines are only ever appended. The first one
// carries Log and Version.
type event struct {
	Event    string    `json:"event"` // log, file, status, progress, moved, refused, abandon
	Time     time.Time `json:"time"`
	Log      string    `json:"log,omitempty"`
	Version  int       `json:"version,omitempty"`
	Seq      int64     `json:"seq,omitempty"`
	Name     string    `json:"name,omitempty"`
	Hash     string    `json:"hash,omitempty"`
	Size     int64     `json:"size,omitempty"`
	ModTime  time.Time `json:"mtime,omitzero"`
	Base     int64     `json:"base,omitempty"`
	Extent   int64     `json:"extent,omitempty"`
	Status   Status    `json:"status,omitempty"`
	Error    string    `json:"error,omitempty"`
	Next     int64     `json:"next,omitempty"` // progress: up to here; final status: Entry.Sent
	Line     int64     `json:"line,omitempty"`
	Rows     int64     `json:"rows,omitempty"`
	Rejected int64     `json:"rejected,omitempty"`
	Attempt  int       `json:"attempt,omitempty"`
	To       string    `json:"to,omitempty"`
	As       string    `json:"as,omitempty"`
}

// ledger is the file and what it says. It is not safe for concurrent use.
type ledger struct {
	path    string
	f       *os.File // nil when read only
	size    int64    // of the part that is whole
	broken  error    // a failed sync: what is on disk is not known any more
	dirty   bool     // lines were appended since the last sync
	log     string
	entries []*Entry // by Seq, from 1
	refused map[string]*Entry
	order   []*Entry            // entries and refusals as they came
	byName  map[string]*Entry   // latest version
	byHash  map[string][]*Entry // oldest first
}

// CorruptError is a ledger that can't be read. Nothing was changed.
type CorruptError struct {
	Path string
	Line int   // from 1
	Byte int64 // where the line begins
	Err  error
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("folder: the ledger %s is damaged at line %d (byte %d): %v. "+
		"It must not be mended by guessing, because offsets of delivered rows depend on it: put back a copy from a backup of the whole state folder, "+
		"or, to read all files again from the start, remove the state folder together with what the sinks keep of this pipeline",
		e.Path, e.Line, e.Byte, e.Err)
}

func (e *CorruptError) Unwrap() error { return e.Err }

// openLedger opens or creates the ledger in dir, which exists. The caller holds
// the lock.
func openLedger(dir string) (*ledger, error) {
	path := filepath.Join(dir, LedgerFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && bytes.IndexByte(data, '\n') < 0 && !looksWhole(data) {
		// New, or its very first line is torn: then no file was ever entered.
		first, err := json.Marshal(event{Event: "log", Time: now(), Log: newLogID(), Version: ledgerVersion})
		if err != nil {
			return nil, err
		}
		data = append(first, '\n')
		if err := durable.WriteFile(path, data, 0o600); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	l, err := readLedger(path, data)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	l.f = f
	if l.size < int64(len(data)) { // the torn last line; rule D3: entries are synced before use, so nothing relies on it
		err := errors.Join(f.Truncate(l.size), f.Sync())
		if err != nil {
			return nil, errors.Join(fmt.Errorf("folder: repair %s: %w", path, err), f.Close())
		}
	}
	return l, nil
}

// looksWhole tells a foreign file, which is not to be overwritten, from a torn
// first line.
func looksWhole(data []byte) bool {
	return len(data) > 0 && data[0] != '{' && data[0] != 0
}

func newLogID() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// now is the time as the ledger keeps it: the same before and after a restart.
func now() time.Time { return time.Now().UTC().Round(0) }

// readLedger reads the whole text. What follows the last line end, and a last line
// that can't be read, was torn by a crash: it is left out, and l.size says so.
func readLedger(path string, data []byte) (*ledger, error) {
	l := &ledger{
		path: path, refused: map[string]*Entry{},
		byName: map[string]*Entry{}, byHash: map[string][]*Entry{},
	}
	for line := 1; ; line++ {
		rest := data[l.size:]
		n := bytes.IndexByte(rest, '\n')
		if n < 0 {
			break
		}
		err := l.readLine(rest[:n], line == 1)
		if err != nil {
			if line > 1 && n+1 == len(rest) && !json.Valid(rest[:n]) {
				break
			}
			return nil, &CorruptError{Path: path, Line: line, Byte: l.size, Err: err}
		}
		l.size += int64(n) + 1
	}
	if l.log == "" {
		return nil, &CorruptError{Path: path, Line: 1, Err: errors.New("it does not begin with a log line")}
	}
	return l, nil
}

func (l *ledger) readLine(b []byte, first bool) error {
	var ev event
	dec := json.NewDecoder(bytes.NewReader(b))
	if err := dec.Decode(&ev); err != nil {
		return err
	}
	if rest := bytes.TrimSpace(b[dec.InputOffset():]); len(rest) > 0 {
		return errors.New("text after the end of the line's value")
	}
	if first != (ev.Event == "log") {
		return errors.New("the log line must be the first and only the first")
	}
	return l.apply(&ev)
}

// apply changes what the ledger says by one line.
func (l *ledger) apply(ev *event) error {
	switch ev.Event {
	case "log":
		if ev.Version != ledgerVersion {
			return fmt.Errorf("it has format version %d, this program reads version %d: use a newer program", ev.Version, ledgerVersion)
		}
		if ev.Log == "" {
			return errors.New("the log line has no id")
		}
		l.log = ev.Log
		return nil
	case "file":
		return l.applyFile(ev)
	case "refused":
		e := &Entry{Name: ev.Name, Size: ev.Size, Status: Failed, Error: ev.Error, Refused: true, Entered: ev.Time, Finished: ev.Time}
		if old := l.refused[ev.Name]; old != nil {
			l.order = slices.DeleteFunc(l.order, func(o *Entry) bool { return o == old })
		}
		l.refused[ev.Name] = e
		l.order = append(l.order, e)
		return nil
	}
	if ev.Seq < 1 || ev.Seq > int64(len(l.entries)) {
		return fmt.Errorf("event %q of file %d, but %d files are entered", ev.Event, ev.Seq, len(l.entries))
	}
	e := l.entries[ev.Seq-1]
	switch ev.Event {
	case "status":
		return applyStatus(e, ev)
	case "progress":
		if !e.Final() {
			if n := len(e.progress); n > 0 && e.progress[n-1].next >= ev.Next { // after a sink was reset
				e.progress = slices.DeleteFunc(e.progress, func(p progress) bool { return p.next >= ev.Next })
			}
			e.progress = append(e.progress, progress{ev.Next, ev.Line, ev.Rows, ev.Rejected})
			e.Rows, e.Rejected = ev.Rows, ev.Rejected
		}
	case "moved":
		e.Moved, e.MovedTo = ev.To, ev.As
	case "abandon":
		e.Abandoned = true
		if !e.Final() {
			e.Status, e.Error, e.Finished, e.progress = Failed, ev.Error, ev.Time, nil
		}
	default:
		return fmt.Errorf("unknown event %q", ev.Event)
	}
	return nil
}

func (l *ledger) applyFile(ev *event) error {
	if ev.Seq != int64(len(l.entries))+1 {
		return fmt.Errorf("file %d follows file %d", ev.Seq, len(l.entries))
	}
	if ev.Base != l.end() {
		return fmt.Errorf("file %d begins at offset %d, but the file before it ends at %d", ev.Seq, ev.Base, l.end())
	}
	if ev.Name == "" || ev.Size < 0 || ev.Extent < 0 || ev.Base > math.MaxInt64-ev.Extent {
		return fmt.Errorf("file %d has an impossible name, size or extent", ev.Seq)
	}
	switch ev.Status {
	case Pending, Skipped, Failed:
	default:
		return fmt.Errorf("file %d is entered with status %q", ev.Seq, ev.Status)
	}
	e := &Entry{
		Seq: ev.Seq, Name: ev.Name, Hash: ev.Hash, Size: ev.Size, ModTime: ev.ModTime,
		Base: ev.Base, Extent: ev.Extent, Entered: ev.Time,
		Status: ev.Status, Error: ev.Error, Attempt: ev.Attempt, Sent: ev.Base,
	}
	if e.Final() {
		e.Finished = ev.Time
	}
	l.entries = append(l.entries, e)
	l.order = append(l.order, e)
	l.byName[e.Name] = e
	l.byHash[e.Hash] = append(l.byHash[e.Hash], e)
	return nil
}

func applyStatus(e *Entry, ev *event) error {
	switch ev.Status {
	case Processing:
		if e.Final() {
			return fmt.Errorf("file %d is begun again after status %q", e.Seq, e.Status)
		}
		e.Status = Processing
		e.Attempt++
		if e.Started.IsZero() {
			e.Started = ev.Time
		}
	case OK, Failed:
		e.Status, e.Error, e.Finished = ev.Status, ev.Error, ev.Time
		e.Rows, e.Rejected, e.Sent, e.progress = ev.Rows, ev.Rejected, max(ev.Next, e.Base), nil
	default:
		return fmt.Errorf("file %d gets the unknown status %q", e.Seq, ev.Status)
	}
	return nil
}

// end is where the next file's range begins.
func (l *ledger) end() int64 {
	if n := len(l.entries); n > 0 {
		return l.entries[n-1].End()
	}
	return 0
}

// append writes events and takes them in. They are durable after sync. When
// writing fails nothing has happened.
func (l *ledger) append(events ...event) error {
	if l.broken != nil {
		return l.broken
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	for i := range events {
		if events[i].Time.IsZero() {
			events[i].Time = now()
		}
		if err := enc.Encode(&events[i]); err != nil {
			return err
		}
	}
	if _, err := l.f.WriteAt(buf.Bytes(), l.size); err != nil {
		err = fmt.Errorf("folder: write %s: %w", l.path, err)
		if terr := l.f.Truncate(l.size); terr != nil { // half a line in the middle of the file must not stay
			l.broken = errors.Join(err, terr)
		}
		return err
	}
	l.size += int64(buf.Len())
	l.dirty = true
	for i := range events {
		if err := l.apply(&events[i]); err != nil {
			l.broken = fmt.Errorf("folder: wrote an impossible event to %s: %w", l.path, err)
			return l.broken
		}
	}
	return nil
}

// sync makes what was appended durable. After a failure the ledger takes no more:
// the kernel may have dropped the pages, so a second try would lie.
func (l *ledger) sync() error {
	if l.broken != nil {
		return l.broken
	}
	if !l.dirty {
		return nil
	}
	if err := l.f.Sync(); err != nil {
		l.broken = fmt.Errorf("folder: sync %s: %w", l.path, err)
		return l.broken
	}
	l.dirty = false
	return nil
}

func (l *ledger) close() error {
	if l.f == nil {
		return nil
	}
	return l.f.Close()
}

// History reads the ledger in a source's state folder without changing it, also
// while a pipeline is writing it. Files come in the order in which they were
// entered.
func History(dir string) ([]Entry, error) {
	path := filepath.Join(dir, LedgerFile)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	l, err := readLedger(path, data)
	if err != nil {
		return nil, err
	}
	out := make([]Entry, len(l.order))
	for i, e := range l.order {
		out[i] = *e
		out[i].progress = nil
	}
	return out, nil
}

// Abandon gives up the rest of a file by hand, so that it is never asked for
// again: the latest version of name whose rows are not all durable, else the
// latest. No pipeline may be running.
func Abandon(dir, name string) error {
	lock, err := tryLock(filepath.Join(dir, lockFile))
	if err != nil {
		return err
	}
	if lock == nil {
		return fmt.Errorf("folder: %s is in use by a running pipeline", dir)
	}
	defer lock.Close()
	if _, err := os.Stat(filepath.Join(dir, LedgerFile)); err != nil {
		return err
	}
	l, err := openLedger(dir)
	if err != nil {
		return err
	}
	defer l.close()
	e := l.byName[name]
	for _, o := range l.entries {
		if o.Name == name && !o.Final() {
			e = o
		}
	}
	if e == nil {
		return fmt.Errorf("folder: %s was never entered into %s", name, l.path)
	}
	if e.Abandoned {
		return nil
	}
	ev := event{Event: "abandon", Seq: e.Seq, Error: fmt.Sprintf("given up by hand after %d rows", e.Rows)}
	if err := l.append(ev); err != nil {
		return err
	}
	return l.sync()
}
