package lake

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/leatgo/leat"
)

// lake is the folder and its manifest, as every owner sees it.
type lake struct {
	kind string // begins error texts
	dir  string // absolute
	root *os.Root
	hook hooks
}

// hooks are set by tests to fail.
type hooks struct {
	write func(f *os.File, b []byte) (int, error)
	sync  func(f *os.File) error
	link  func(root *os.Root, old, new string) error
	every int // entries from one snapshot to the next
}

func (h *hooks) defaults() {
	if h.write == nil {
		h.write = (*os.File).Write
	}
	if h.sync == nil {
		h.sync = (*os.File).Sync
	}
	if h.link == nil {
		h.link = (*os.Root).Link
	}
	if h.every == 0 {
		h.every = 64
	}
}

// openLake opens a folder that holds a lake, or will.
func openLake(kind, dir string, hook hooks) (*lake, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(abs)
	if err != nil {
		return nil, err
	}
	hook.defaults()
	return &lake{kind: kind, dir: abs, root: root, hook: hook}, nil
}

// abs is the path of a name relative to the root, for people and for calls that
// os.Root does not have.
func (l *lake) abs(name string) string { return filepath.Join(l.dir, filepath.FromSlash(name)) }

// damaged is an error about the manifest itself. It is never mended by guessing:
// a manifest that begins anew would bring every row again.
func (l *lake) damaged(name string, cause error) error {
	return fmt.Errorf("the manifest file %s is damaged: %w; nothing was changed, and the data files are all there: restore it from a backup, or start over by moving the whole folder %s away", l.abs(name), cause, l.dir)
}

// state is what the entries up to seq come to.
type state struct {
	seq     int64
	last    string // the id of entry seq; "" when that is not known
	owners  map[owner]*ownerRecord
	files   []*FileInfo         // nil where one was removed
	index   map[string]int      // of files, by path
	removed map[string]struct{} // replaced, and perhaps not deleted yet
	lite    bool                // files are not kept
	entries int                 // since the newest snapshot
	bytes   int64               // of those entries
	base    int64               // bytes of the newest snapshot
	schemas map[string]string   // so that equal ones share memory
}

type ownerRecord struct {
	base       int64 // the epoch of partitions that have begun none of their own: version 1 had one for all
	partitions map[string]held
}

// held is a partition of an owner.
type held struct {
	epoch int64
	some  bool // rows are held; else at means nothing (rule E7)
	at    leat.Position
}

// of is a partition, also one that nobody has taken over yet.
func (r *ownerRecord) of(partition string) held {
	h := r.partitions[partition]
	h.epoch = max(h.epoch, r.base)
	return h
}

// fault tells why m can't move a partition now: compare-and-set on epoch and position
// (rules E3, F2).
func (r *ownerRecord) fault(m movement) error {
	switch h := r.of(string(m.Partition)); {
	case m.Epoch != h.epoch:
		return fmt.Errorf("partition %q: it was written in epoch %d, when epoch %d had begun", m.Partition, m.Epoch, h.epoch)
	case h.some != (m.From != nil):
		return fmt.Errorf("partition %q: it begins where nothing was held, or the other way round", m.Partition)
	case h.some && m.From.leat() != h.at:
		return fmt.Errorf("partition %q: it begins at %d, and %d is where the entry before ended", m.Partition, m.From.Next, h.at.Next)
	}
	return nil
}

// fenced names the partitions of a commit that another member has taken, and tells what
// is wrong with the first of them (rule E3).
func (r *ownerRecord) fenced(e *entry) (partitions []string, why error) {
	for _, m := range e.Positions {
		if err := r.fault(m); err != nil {
			partitions = append(partitions, string(m.Partition))
			if why == nil {
				why = err
			}
		}
	}
	return partitions, why
}

func newState() *state {
	return &state{owners: map[owner]*ownerRecord{}, index: map[string]int{}, removed: map[string]struct{}{}, schemas: map[string]string{}}
}

// forget drops the list of files: a sink needs it at its start only.
func (s *state) forget() {
	s.files, s.index, s.removed, s.schemas, s.lite = nil, nil, nil, nil, true
}

// of is what an owner has done; never nil.
func (s *state) of(o owner) *ownerRecord {
	r := s.owners[o]
	if r == nil {
		r = &ownerRecord{partitions: map[string]held{}}
		s.owners[o] = r
	}
	return r
}

func (s *state) schema(text string) string {
	if known, ok := s.schemas[text]; ok {
		return known
	}
	s.schemas[text] = text
	return text
}

func (s *state) isLive(path string) bool { _, ok := s.index[path]; return ok }

// check tells whether e may follow (rule F2: valid iff every from equals the
// previous to). What it refuses is never written, and damage when it is read.
func (s *state) check(e *entry) error {
	if e.Seq != s.seq+1 {
		return fmt.Errorf("it says that it is entry %d, and its place is %d", e.Seq, s.seq+1)
	}
	for _, m := range e.Positions {
		if (m.To != nil) != (e.Kind == kindCommit) {
			return fmt.Errorf("what it says about partition %q is impossible in a %s", m.Partition, e.Kind)
		}
	}
	r := s.of(e.Owner)
	switch e.Kind {
	case kindTakeover:
		if e.Version == 1 && e.Epoch <= r.base {
			return fmt.Errorf("epoch %d of %s comes after epoch %d", e.Epoch, e.Owner, r.base)
		}
		for _, m := range e.Positions {
			if now := r.of(string(m.Partition)).epoch; m.Epoch <= now {
				return fmt.Errorf("epoch %d of partition %q of %s comes after epoch %d", m.Epoch, m.Partition, e.Owner, now)
			}
		}
	case kindCommit:
		if e.Version == 1 && e.Epoch != r.base {
			return fmt.Errorf("%s has written it in epoch %d, when epoch %d had begun", e.Owner, e.Epoch, r.base)
		}
		if _, why := r.fenced(e); why != nil {
			return why
		}
	case kindReplace:
		if e.Owner != compactor {
			return fmt.Errorf("%s can't replace files", e.Owner)
		}
	default:
		return fmt.Errorf("its kind %q is unknown", e.Kind)
	}
	if s.lite {
		return nil
	}
	for _, f := range e.Files {
		if !filepath.IsLocal(filepath.FromSlash(f.Path)) || f.Bytes < 0 || f.Rows < 0 {
			return fmt.Errorf("it names the impossible file %q of %d bytes and %d rows", f.Path, f.Bytes, f.Rows)
		}
		if s.isLive(f.Path) {
			return fmt.Errorf("the file %s is there twice", f.Path)
		}
	}
	for _, p := range e.Removed {
		if !s.isLive(p) {
			return fmt.Errorf("it removes %s, which is not there", p)
		}
	}
	return nil
}

// apply adds an entry that check has let through; size is that of its file.
func (s *state) apply(e *entry, size int) {
	s.seq, s.last = e.Seq, e.ID
	s.entries++
	s.bytes += int64(size)
	r := s.of(e.Owner)
	if e.Kind == kindTakeover {
		r.base = max(r.base, e.Epoch)
	}
	for _, m := range e.Positions {
		h := r.of(string(m.Partition))
		if h.epoch = m.Epoch; m.To != nil {
			h.some, h.at = true, m.To.leat()
		}
		r.partitions[string(m.Partition)] = h
	}
	if s.lite {
		return
	}
	for _, p := range e.Removed {
		s.files[s.index[p]] = nil
		delete(s.index, p)
		s.removed[p] = struct{}{}
	}
	schema := s.schema(e.Schema)
	for _, f := range e.Files {
		s.add(f, e.Owner, e.Seq, schema)
	}
}

func (s *state) add(f file, o owner, seq int64, schema string) {
	info := &FileInfo{Path: f.Path, Bytes: f.Bytes, Rows: f.Rows, Checksum: f.Checksum, Schema: schema,
		Pipeline: string(o.Pipeline), Sink: string(o.Sink), Seq: seq, since: f.Since}
	if f.Min != nil && f.Max != nil {
		info.MinTime, info.MaxTime = *f.Min, *f.Max
	}
	if info.since == 0 {
		info.since = seq
	}
	s.index[f.Path] = len(s.files)
	s.files = append(s.files, info)
}

// live are the files, the oldest rows first.
func (s *state) live() []FileInfo {
	out := make([]FileInfo, 0, len(s.index))
	for _, f := range s.files {
		if f != nil {
			out = append(out, *f)
		}
	}
	slices.SortStableFunc(out, func(a, b FileInfo) int { return int(a.since - b.since) })
	return out
}

// errAgain tells load to look again: somebody has tidied up meanwhile.
type errAgain struct{ cause error }

func (e errAgain) Error() string { return e.cause.Error() }

// load reads the whole manifest. Others may write, and delete what the snapshots
// made superfluous, at the same time (rule F7).
func (l *lake) load() (*state, error) {
	for attempt := 1; ; attempt++ {
		st, err := l.tryLoad()
		again, retry := err.(errAgain)
		switch {
		case err == nil:
			return st, nil
		case !retry:
			return nil, err
		case attempt == 20:
			return nil, again.cause
		}
		time.Sleep(time.Duration(attempt) * time.Millisecond)
	}
}

func (l *lake) tryLoad() (*state, error) {
	names, err := l.list()
	if err != nil {
		return nil, err
	}
	var base, newest int64
	for _, name := range names {
		base = max(base, seqOf(name, snapshotExt))
		newest = max(newest, seqOf(name, entryExt))
	}
	st := newState()
	if base > 0 {
		if st, err = l.readSnapshot(base); errors.Is(err, fs.ErrNotExist) {
			return nil, errAgain{l.damaged(snapshotName(base), err)}
		} else if err != nil {
			return nil, err
		}
	}
	for {
		e, err := l.next(st)
		if err != nil {
			return nil, err
		}
		if e == nil {
			break
		}
	}
	// The last entry is never tidied away, so an end without it is no end.
	if ok, err := l.endsAt(st.seq, st.last); err != nil {
		return nil, err
	} else if !ok {
		return nil, errAgain{l.damaged(entryName(st.seq), errors.New("it is missing"))}
	}
	// Where entries after base were tidied away meanwhile, there may be one of a writer who slept
	// as long as this reader.
	if keep, err := l.keeps(); err != nil {
		return nil, err
	} else if keep > base {
		return nil, errAgain{fmt.Errorf("the manifest %s is tidied away faster than it can be read", l.abs(leatDir))}
	}
	if newest > st.seq {
		return nil, errAgain{l.damaged(entryName(st.seq+1), fmt.Errorf("it is missing, and entry %d is there", newest))}
	}
	return st, nil
}

// endsAt tells whether entry seq is still there. The entries after the snapshot
// before the newest one are never deleted, so who finds none after seq, and seq
// itself there, has seen the end. The id tells it from the entry of a writer that slept while
// its number was used and deleted, and was killed before it found out.
func (l *lake) endsAt(seq int64, id string) (bool, error) {
	if seq == 0 { // there is nothing to be there; who began before the first entry may have slept as well
		names, err := l.list()
		return !slices.ContainsFunc(names, func(name string) bool { return seqOf(name, snapshotExt) > 0 }), err
	}
	if id == "" {
		return l.exists(entryName(seq))
	}
	e, _, err := l.readEntry(seq)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && e.ID == id, err
}

func (l *lake) exists(name string) (bool, error) {
	_, err := l.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// list are the names in the manifest's folder.
func (l *lake) list() ([]string, error) {
	d, err := l.root.Open(leatDir)
	if err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(-1)
	return names, errors.Join(err, d.Close())
}

func (l *lake) readEntry(seq int64) (*entry, int, error) {
	b, err := l.root.ReadFile(entryName(seq))
	if err != nil {
		return nil, 0, err
	}
	e, err := decode(b)
	if err != nil {
		return nil, 0, l.damaged(entryName(seq), err)
	}
	return e, len(b), nil
}

// next adds the entry after st to it; nil when there is none.
func (l *lake) next(st *state) (*entry, error) {
	e, size, err := l.readEntry(st.seq + 1)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := st.check(e); err != nil {
		return nil, l.damaged(entryName(st.seq+1), err)
	}
	st.apply(e, size)
	return e, nil
}

// catchUp reads the entries that have come since st.
func (l *lake) catchUp(st *state) (came []*entry, err error) {
	began, last := st.seq, st.last
	var fault error
	for {
		e, err := l.next(st)
		if e == nil {
			fault = err
			break
		}
		came = append(came, e)
	}
	// What comes after an entry that is there has never been tidied away. So it is
	// the chain.
	ok, err := l.endsAt(began, last)
	if err != nil || ok {
		return came, errors.Join(fault, err)
	}
	// So much has come that entries were tidied away.
	now, err := l.load()
	if err != nil {
		return nil, err
	}
	if st.lite {
		now.forget()
	}
	*st = *now
	return came, nil
}

func (l *lake) readSnapshot(seq int64) (*state, error) {
	name := snapshotName(seq)
	b, err := l.root.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var s snapshot
	if err := unseal(b, &s); err != nil {
		return nil, l.damagedSnapshot(name, err)
	}
	if s.Seq != seq || s.Kind != kindSnapshot {
		return nil, l.damagedSnapshot(name, fmt.Errorf("it is the %s of entry %d", s.Kind, s.Seq))
	}
	st := newState()
	st.seq, st.last, st.base = seq, s.Last, int64(len(b))
	for _, o := range s.Owners {
		r := st.of(o.Owner)
		r.base = o.Epoch
		for _, p := range o.Positions {
			h := held{epoch: p.Epoch}
			if p.At != nil {
				h.some, h.at = true, p.At.leat()
			}
			r.partitions[string(p.Partition)] = h
		}
	}
	for i := range s.Schemas {
		s.Schemas[i] = st.schema(s.Schemas[i])
	}
	st.files = make([]*FileInfo, 0, len(s.Files))
	for _, f := range s.Files {
		if f.Owner < 0 || f.Owner >= len(s.Owners) || f.Schema < 0 || f.Schema >= len(s.Schemas) || st.isLive(f.Path) {
			return nil, l.damagedSnapshot(name, fmt.Errorf("what it says about %s is impossible", f.Path))
		}
		st.add(f.file, s.Owners[f.Owner].Owner, f.Seq, s.Schemas[f.Schema])
	}
	for _, p := range s.Removed {
		st.removed[p] = struct{}{}
	}
	return st, nil
}

// damagedSnapshot knows a better way out: the entries since the snapshot before
// are kept.
func (l *lake) damagedSnapshot(name string, cause error) error {
	return fmt.Errorf("the manifest file %s is damaged: %w; nothing was changed: move it away, the snapshot before it and the entries since then say the same", l.abs(name), cause)
}

// snapshotDue keeps the reading at a start short and the writing in proportion:
// with many files a snapshot is large, and comes after as many more bytes of
// entries.
func (l *lake) snapshotDue(st *state) bool {
	const longest = 2048 // entries
	return st.entries >= l.hook.every && (st.bytes >= st.base/8 || st.entries >= longest)
}

// summary is st as a snapshot.
func (l *lake) summary(st *state) (*snapshot, error) {
	s := &snapshot{Version: version, Seq: st.seq, Last: st.last, Kind: kindSnapshot, Time: time.Now().UTC(), Files: make([]snapshotFile, 0, len(st.index))}
	owners := slices.SortedFunc(maps.Keys(st.owners), func(a, b owner) int {
		if a.Pipeline != b.Pipeline {
			if a.Pipeline < b.Pipeline {
				return -1
			}
			return 1
		}
		if a.Sink < b.Sink {
			return -1
		}
		return 1
	})
	ownerAt, schemaAt := map[owner]int{}, map[string]int{}
	for i, o := range owners {
		r := st.owners[o]
		state := ownerState{Owner: o, Epoch: r.base}
		for _, p := range slices.Sorted(maps.Keys(r.partitions)) {
			h := r.of(p)
			at := heldPosition{Partition: text(p), Epoch: h.epoch}
			if h.some {
				at.At = positionOf(h.at)
			}
			state.Positions = append(state.Positions, at)
		}
		s.Owners = append(s.Owners, state)
		ownerAt[o] = i
	}
	for _, f := range st.live() {
		at, ok := schemaAt[f.Schema]
		if !ok {
			at = len(s.Schemas)
			schemaAt[f.Schema] = at
			s.Schemas = append(s.Schemas, f.Schema)
		}
		out := snapshotFile{Seq: f.Seq, Owner: ownerAt[owner{text(f.Pipeline), text(f.Sink)}], Schema: at,
			file: file{Path: f.Path, Bytes: f.Bytes, Rows: f.Rows, Checksum: f.Checksum, Since: f.since}}
		if f.HasTimes() {
			out.Min, out.Max = &f.MinTime, &f.MaxTime
		}
		s.Files = append(s.Files, out)
	}
	for _, p := range slices.Sorted(maps.Keys(st.removed)) {
		there, err := l.exists(p)
		if err != nil {
			return nil, err
		}
		if there { // else it has been deleted, and nobody needs to know
			s.Removed = append(s.Removed, p)
		}
	}
	return s, nil
}
