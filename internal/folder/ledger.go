package folder

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/leatgo/leat/internal/durable"
	"github.com/leatgo/leat/internal/engine"
	"github.com/leatgo/leat/internal/failpoint"
	"github.com/leatgo/leat/internal/sealed"
)

// LedgerFile is the ledger's name in a source's state folder.
const LedgerFile = "ledger.jsonl"

// ledgerVersion is that of the lines this program writes; their last field is a checksum. It reads those of
// version 1 too.
const ledgerVersion = 2

// event is one line of the ledger. Lines are only ever appended. The first one
// carries Log and Version.
type event struct {
	Event    string    `json:"event"` // log, file, schema, status, progress, fault, moved, refused, abandon
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
	Attempt  int32     `json:"attempt,omitempty"`
	Verdict  bool      `json:"verdict,omitempty"` // final status: Entry.Judged
	Again    int32     `json:"again,omitempty"`   // file: Entry.Again
	To       Place     `json:"to,omitempty"`      // moved; file: where Reprocess found it
	As       string    `json:"as,omitempty"`
	Columns  []string  `json:"columns,omitempty"` // schema: those of the file
	Change   string    `json:"change,omitempty"`  // schema: Entry.Drift
}

// ledger is the file and what it says. It is not safe for concurrent use.
type ledger struct {
	path     string
	f        *os.File // nil when read only
	size     int64    // of the part that is whole
	safe     int64    // of the part that is durable
	broken   error    // a failed sync: what is on disk is not known any more
	dirty    bool     // lines were appended since the last sync
	log      string
	format   int      // version of its lines
	entries  []*Entry // by Seq, from 1
	refused  map[string]*refusedName
	refusals int                  // lines of them
	counts   map[int64][]progress // of entries that are not final, by Seq
	schema   []string             // the columns of the last file that was entered to be read and has some

	// The latest entry with a name, and the latest with a hash that was entered to be
	// read. Keys are hashes of them; the entries before it are in Entry.sameName and
	// sameHash.
	seed   maphash.Seed
	names  map[uint64]int32
	hashes map[uint64]int32
	slab   []Entry
}

// refusedName is a name that got no place in the log.
type refusedName struct {
	reason string
	at     time.Time
	after  int // entries there were
	nth    int
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
	fresh, err := neverBegun(path)
	if err != nil {
		return nil, err
	}
	if fresh {
		first, err := json.Marshal(event{Event: "log", Time: now(), Log: newLogID(), Version: ledgerVersion})
		if err != nil {
			return nil, err
		}
		if err := durable.WriteFile(path, sealed.Append(nil, first), 0o600); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	l, err := readLedger(path, f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if l.format < ledgerVersion {
		if err := errors.Join(upgradeLedger(l), f.Close()); err != nil {
			return nil, fmt.Errorf("folder: upgrade %s: %w", path, err)
		}
		return openLedger(dir)
	}
	l.f = f
	info, err := f.Stat()
	if err == nil && l.size < info.Size() { // the torn last line; rule D3: entries are synced before use, so nothing relies on it
		if err = errors.Join(f.Truncate(l.size), f.Sync()); err != nil {
			err = fmt.Errorf("folder: repair %s: %w", path, err)
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	// rule D6: what the process before wrote may be in memory only, if it was killed before
	// its fsync. Nothing is built on it before the first sync, which Start makes.
	l.dirty, l.safe = true, l.size
	return l, nil
}

// neverBegun tells whether there is no ledger, or its very first line is torn: then
// no file was ever entered.
func neverBegun(path string) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	data := make([]byte, 4<<10) // more than a first line has
	n, err := io.ReadFull(f, data)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return false, err
	}
	data = data[:n]
	return err != nil && bytes.IndexByte(data, '\n') < 0 && !looksWhole(data), nil
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
func readLedger(path string, text io.Reader) (*ledger, error) {
	l := &ledger{
		path: path, refused: map[string]*refusedName{}, counts: map[int64][]progress{},
		seed: maphash.MakeSeed(), names: map[uint64]int32{}, hashes: map[uint64]int32{},
	}
	r := bufio.NewReaderSize(text, 64<<10)
	var long []byte
	for line := 1; ; line++ {
		b, err := r.ReadSlice('\n')
		if err == bufio.ErrBufferFull {
			long = append(long[:0], b...)
			for err == bufio.ErrBufferFull {
				b, err = r.ReadSlice('\n')
				long = append(long, b...)
			}
			b = long
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("folder: read %s: %w", path, err)
		}
		n := int64(len(b))
		if err := l.readLine(b[:n-1], line == 1); err != nil {
			torn := line > 1 && (errors.Is(err, sealed.Err) || l.format == 1 && !json.Valid(b[:n-1]))
			if _, perr := r.Peek(1); torn && perr == io.EOF {
				break
			}
			return nil, &CorruptError{Path: path, Line: line, Byte: l.size, Err: err}
		}
		l.size += n
	}
	if l.log == "" {
		return nil, &CorruptError{Path: path, Line: 1, Err: errors.New("it does not begin with a log line")}
	}
	return l, nil
}

func (l *ledger) readLine(b []byte, first bool) error {
	var ev event
	if l.format != 1 { // the first line says which it is
		err := sealed.Check(b)
		if err != nil && (!first || json.Unmarshal(b, &ev) != nil || ev.Version != 1) {
			return err
		}
		ev = event{}
	}
	if err := json.Unmarshal(b, &ev); err != nil {
		return err
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
		if ev.Version < 1 || ev.Version > ledgerVersion {
			return fmt.Errorf("it has format version %d, this program reads versions up to %d: use a newer program", ev.Version, ledgerVersion)
		}
		if ev.Log == "" {
			return errors.New("the log line has no id")
		}
		l.log, l.format = ev.Log, ev.Version
		return nil
	case "file":
		return l.applyFile(ev)
	case "refused":
		l.refused[ev.Name] = &refusedName{reason: ev.Error, at: ev.Time, after: len(l.entries), nth: l.refusals}
		l.refusals++
		return nil
	}
	if ev.Seq < 1 || ev.Seq > int64(len(l.entries)) {
		return fmt.Errorf("event %q of file %d, but %d files are entered", ev.Event, ev.Seq, len(l.entries))
	}
	e := l.entries[ev.Seq-1]
	switch ev.Event {
	case "schema":
		l.schema, e.Drift = ev.Columns, ev.Change
	case "status":
		return l.applyStatus(e, ev)
	case "progress":
		if !e.Final() {
			p := l.counts[e.Seq]
			if n := len(p); n > 0 && p[n-1].next >= ev.Next { // after a sink was reset
				p = slices.DeleteFunc(p, func(p progress) bool { return p.next >= ev.Next })
			}
			l.counts[e.Seq] = append(p, progress{ev.Next, ev.Line, ev.Rows, ev.Rejected})
			e.Rows, e.Rejected = ev.Rows, ev.Rejected
		}
	case "fault":
		if !e.Final() {
			e.Faulted, e.Error, e.Sent = true, ev.Error, max(ev.Next, e.Base)
		}
	case "moved":
		l.applyMoved(e, ev)
	case "abandon":
		e.Abandoned = true
		if !e.Final() {
			e.Status, e.Error, e.finished = Failed, ev.Error, ev.Time.UnixNano()
			delete(l.counts, e.Seq)
		}
	default:
		return fmt.Errorf("unknown event %q", ev.Event)
	}
	return nil
}

// applyMoved also follows the file for the entries that Reprocess has followed up:
// it is the same file.
func (l *ledger) applyMoved(e *Entry, ev *event) {
	from, as := e.Moved, e.MovedTo
	for o := e; o != nil; o = l.before(o) {
		if o.Name == e.Name && (o == e || o.hash == e.hash && from != InFolder && o.Moved == from && o.MovedTo == as) {
			o.Moved, o.MovedTo, o.Settled = ev.To, ev.As, true
			if ev.As == e.Name {
				o.MovedTo = e.Name // one string for both
			}
		}
		if e.Again == 0 {
			return
		}
	}
}

func (l *ledger) applyFile(ev *event) error {
	if ev.Seq != int64(len(l.entries))+1 {
		return fmt.Errorf("file %d follows file %d", ev.Seq, len(l.entries))
	}
	if ev.Base != l.end() {
		return fmt.Errorf("file %d begins at offset %d, but the file before it ends at %d", ev.Seq, ev.Base, l.end())
	}
	if ev.Name == "" || ev.Size < 0 || ev.Extent < 0 || ev.Base > math.MaxInt64-ev.Extent || ev.Seq > math.MaxInt32 {
		return fmt.Errorf("file %d has an impossible name, size or extent", ev.Seq)
	}
	hash, err := parseHash(ev.Hash)
	if err != nil {
		return fmt.Errorf("file %d: %w", ev.Seq, err)
	}
	switch ev.Status {
	case Pending, Skipped, Failed:
	default:
		return fmt.Errorf("file %d is entered with status %q", ev.Seq, ev.Status)
	}
	if len(l.slab) == cap(l.slab) {
		l.slab = make([]Entry, 0, 256)
	}
	l.slab = append(l.slab, Entry{
		Seq: ev.Seq, Name: ev.Name, hash: hash, Size: ev.Size, modSec: ev.ModTime.Unix(), modNano: int32(ev.ModTime.Nanosecond()),
		Base: ev.Base, Extent: ev.Extent, entered: ev.Time.UnixNano(),
		Status: ev.Status, Error: ev.Error, Attempt: ev.Attempt, Again: ev.Again, Sent: ev.Base, Moved: ev.To, MovedTo: ev.As,
	})
	e := &l.slab[len(l.slab)-1]
	l.entries = append(l.entries, e)
	key := l.nameKey(e.Name)
	e.sameName, l.names[key] = l.names[key], int32(e.Seq)
	if e.Final() {
		e.finished = e.entered
		return nil
	}
	key = hashKey(hash)
	e.sameHash, l.hashes[key] = l.hashes[key], int32(e.Seq)
	return nil
}

func (l *ledger) nameKey(name string) uint64 { return maphash.String(l.seed, name) }

func hashKey(h [32]byte) uint64 { return binary.LittleEndian.Uint64(h[:]) }

// entry gives an entry by its number; nil for 0.
func (l *ledger) entry(seq int32) *Entry {
	if seq == 0 {
		return nil
	}
	return l.entries[seq-1]
}

// before gives the next older entry that may have the same name.
func (l *ledger) before(e *Entry) *Entry { return l.entry(e.sameName) }

// latest gives the latest entry with a name.
func (l *ledger) latest(name string) *Entry {
	e := l.entry(l.names[l.nameKey(name)])
	for e != nil && e.Name != name {
		e = l.before(e)
	}
	return e
}

// version gives the latest entry with a name and a hash.
func (l *ledger) version(name string, hash [32]byte) *Entry {
	e := l.entry(l.names[l.nameKey(name)])
	for e != nil && (e.hash != hash || e.Name != name) {
		e = l.before(e)
	}
	return e
}

// read gives the oldest entry by which a content was, or will be, read.
func (l *ledger) read(hash [32]byte) (found *Entry) {
	for e := l.entry(l.hashes[hashKey(hash)]); e != nil; e = l.entry(e.sameHash) {
		if e.hash == hash && !e.Unread() {
			found = e
		}
	}
	return found
}

func (l *ledger) applyStatus(e *Entry, ev *event) error {
	switch ev.Status {
	case Processing:
		if e.Final() {
			return fmt.Errorf("file %d is begun again after status %q", e.Seq, e.Status)
		}
		e.Status = Processing
		e.Attempt++
		if e.started == 0 {
			e.started = ev.Time.UnixNano()
		}
	case OK, Failed:
		e.Status, e.Error, e.finished, e.Judged = ev.Status, ev.Error, ev.Time.UnixNano(), ev.Verdict
		e.Rows, e.Rejected, e.Sent = ev.Rows, ev.Rejected, max(ev.Next, e.Base)
		delete(l.counts, e.Seq)
	default:
		return fmt.Errorf("file %d gets the unknown status %q", e.Seq, ev.Status)
	}
	return nil
}

// drift says in words how columns differ from those of the last file; ok, whether they
// do, or are the first.
func (l *ledger) drift(columns []string) (change string, ok bool) {
	if columns == nil || slices.Equal(columns, l.schema) {
		return "", false
	}
	if l.schema == nil {
		return "", true
	}
	var words []string
	for _, c := range columns {
		if !slices.Contains(l.schema, c) {
			words = append(words, fmt.Sprintf("+%q", c))
		}
	}
	for _, c := range l.schema {
		if !slices.Contains(columns, c) {
			words = append(words, fmt.Sprintf("-%q", c))
		}
	}
	if len(words) == 0 {
		return "in another order", true
	}
	const most = 20
	if n := len(words) - most; n > 0 {
		words = append(words[:most], fmt.Sprintf("and %d more", n))
	}
	return strings.Join(words, " "), true
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
	var one bytes.Buffer
	var lines []byte
	enc := json.NewEncoder(&one)
	enc.SetEscapeHTML(false)
	for i := range events {
		if events[i].Time.IsZero() {
			events[i].Time = now()
		}
		one.Reset()
		if err := enc.Encode(&events[i]); err != nil {
			return err
		}
		lines = sealed.Append(lines, one.Bytes())
	}
	err := failpoint.Hit("folder/append")
	if err == nil {
		_, err = l.f.WriteAt(lines, l.size)
	}
	if err != nil {
		err = fmt.Errorf("folder: write %s: %w", l.path, err)
		if terr := l.f.Truncate(l.size); terr != nil { // half a line in the middle of the file must not stay
			l.broken = errors.Join(err, terr)
			return l.broken
		}
		if durable.Full(err) {
			err = engine.Transient(err) // rule B8: when there is room again, it goes on
		}
		return err
	}
	l.size += int64(len(lines))
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
// the kernel may have dropped the pages, so a second try would lie. They are cut off,
// or else the next process would find them, in memory, and believe them.
func (l *ledger) sync() error {
	if l.broken != nil {
		return l.broken
	}
	if !l.dirty {
		return nil
	}
	if err := l.f.Sync(); err != nil {
		l.broken = fmt.Errorf("folder: sync %s: %w", l.path, err)
		if terr := l.f.Truncate(l.safe); terr != nil {
			l.broken = errors.Join(l.broken, terr)
		}
		return l.broken
	}
	l.dirty, l.safe = false, l.size
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
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	l, err := readLedger(path, f)
	if err != nil {
		return nil, err
	}
	refused := make([]Entry, 0, len(l.refused))
	after := make(map[string]*refusedName, len(l.refused))
	for name, r := range l.refused {
		refused = append(refused, refusedEntry(name, r.reason, r.at))
		after[name] = r
	}
	slices.SortFunc(refused, func(a, b Entry) int {
		x, y := after[a.Name], after[b.Name]
		if x.after != y.after {
			return x.after - y.after
		}
		return x.nth - y.nth
	})
	out := make([]Entry, 0, len(l.entries)+len(refused))
	for i, e := range l.entries {
		for len(refused) > 0 && after[refused[0].Name].after <= i {
			out, refused = append(out, refused[0]), refused[1:]
		}
		out = append(out, *e)
	}
	return append(out, refused...), nil
}

func refusedEntry(name, reason string, at time.Time) Entry {
	return Entry{Name: name, Status: Failed, Error: reason, Refused: true, entered: at.UnixNano(), finished: at.UnixNano()}
}

// byHand opens the ledger in dir for an operator's change. No pipeline may be
// running.
func byHand(dir string, change func(*ledger) error) (err error) {
	if _, err := os.Stat(filepath.Join(dir, LedgerFile)); err != nil {
		return err
	}
	lock, err := tryLock(filepath.Join(dir, lockFile))
	if err != nil {
		return err
	}
	if lock == nil {
		return fmt.Errorf("folder: %s is in use by a running pipeline", dir)
	}
	defer lock.Close()
	l, err := openLedger(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	if err := change(l); err != nil {
		return err
	}
	return l.sync()
}

// Abandon gives up the rest of a file by hand, so that it is never asked for
// again: the latest version of name whose rows are not all durable, else the
// latest. No pipeline may be running.
func Abandon(dir, name string) error {
	return byHand(dir, func(l *ledger) error {
		e := l.latest(name)
		for o := e; o != nil; o = l.before(o) {
			if o.Name == name && !o.Final() {
				e = o
				break
			}
		}
		if e == nil {
			return fmt.Errorf("folder: %s was never entered into %s", name, l.path)
		}
		if e.Abandoned {
			return nil
		}
		return l.append(event{Event: "abandon", Seq: e.Seq, Error: fmt.Sprintf("given up by hand after %d rows", e.Rows)})
	})
}

// Reprocess enters the latest version of name once more, with a range of offsets of
// its own, so that the next run reads it again from where it lies. No pipeline may
// be running.
func Reprocess(dir, name string) error {
	return byHand(dir, func(l *ledger) error {
		e := l.latest(name)
		switch {
		case e == nil && l.refused[name] != nil:
			return fmt.Errorf("folder: %s was refused, never read: %s. Mend that; the next run reads it by itself", name, l.refused[name].reason)
		case e == nil:
			return fmt.Errorf("folder: %s was never entered into %s", name, l.path)
		case !e.Final():
			return fmt.Errorf("folder: %s is %s: the next run reads it anyway; only a finished file can be read again", name, e.Status)
		}
		ev := event{
			Event: "file", Seq: int64(len(l.entries)) + 1, Name: e.Name, Hash: e.Hash(), Size: e.Size, ModTime: e.ModTime(),
			Base: l.end(), Extent: e.Extent, Status: Pending, Attempt: e.Attempt, Again: e.Again + 1,
		}
		if e.Moved != Lost {
			ev.To, ev.As = e.Moved, e.MovedTo
		}
		if ev.Base+ev.Extent < ev.Base {
			return fmt.Errorf("folder: the log %s is full", l.path)
		}
		if err := l.append(ev); err != nil {
			return err
		}
		return failpoint.Hit("folder/reprocess-written")
	})
}
