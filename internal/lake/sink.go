package lake

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"time"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/durable"
	"github.com/leatgo/leat/internal/engine"
	"github.com/leatgo/leat/internal/failpoint"
	"github.com/leatgo/leat/internal/row"
)

// Sink writes rows of type T to files of a lake. Make one with New. It implements
// leat.Sink and leat.Transactional for the sinks that are built on it.
type Sink[T any] struct {
	config Config[T]
	hook   hooks // set by tests

	// Of one life, from Open to Close.
	env    leat.Env
	w      *writer
	format Format[T]
	schema string
	held   map[string]held      // the partitions that Restore has taken, as of the last commit
	wrote  map[string]struct{}  // those whose rows are not committed
	groups map[string]*group[T] // by partition values
	used   []*group[T]          // of this batch
	open   map[*outFile]struct{}
	done   []*outFile // finished, not committed
	clock  uint64     // counts uses of files
	batch  uint64     // counts batches

	first     time.Time // when the first row that is not committed came
	last      time.Time // when the last row came
	committed time.Time // when the last entry was written
	buffered  int64     // memory of all open files
	due       bool      // a file has reached a limit
	gone      error     // why what was written is lost; until Close everything returns it
	inDoubt   bool      // a commit has begun and not ended: its files are left to recovery

	values []string // scratch of route: the partition values of a row
	key    []byte

	// doom outlives a life: trouble that Write met and that a rewind can't mend.
	// Write has no way to stop the pipeline (a plain error of it condemns rows),
	// so the Open of the rewind does.
	doom error

	// seen outlives a life: the last entry there was in the last one.
	seen int64
}

// group is the rows of one batch that go into one folder.
type group[T any] struct {
	dir  string // relative to the root
	err  error  // why there can't be such a folder
	file *outFile
	pick []int32 // rows of this batch
	in   bool    // in used
	time timeRange
}

// New returns a sink. It only remembers c.
func New[T any](c Config[T]) *Sink[T] { return &Sink[T]{config: c} }

// defaults fills in what is zero. Each Open does it again, so a limit that is off stays -1.
func (c *Config[T]) defaults() {
	c.Roll.Bytes = cmp.Or(c.Roll.Bytes, defaultBytes)
	c.Roll.Rows = cmp.Or(c.Roll.Rows, defaultRows)
	c.Roll.Age = cmp.Or(c.Roll.Age, defaultAge)
	c.Roll.Idle = cmp.Or(c.Roll.Idle, defaultIdle)
	c.MaxOpen = cmp.Or(c.MaxOpen, defaultMaxOpen)
	c.Buffer = cmp.Or(c.Buffer, defaultBuffer)
}

// Open brings commits that were cut off to an end and makes sure that all committed files
// are there.
func (s *Sink[T]) Open(_ context.Context, env leat.Env) error {
	if err := s.doom; err != nil {
		s.doom = nil
		return err
	}
	if s.w != nil {
		return fmt.Errorf("%s: Open of a sink that is open", s.config.Kind)
	}
	if err := errors.Join(s.config.Faults()...); err != nil {
		return fmt.Errorf("%s: %w", s.config.Kind, err)
	}
	if err := s.begin(env); err != nil {
		if s.w != nil {
			err = errors.Join(err, s.release())
		}
		return openError(fmt.Errorf("%s: open %s: %w", s.config.Kind, s.config.Dir, err))
	}
	return nil
}

func (s *Sink[T]) begin(env leat.Env) error {
	s.config.defaults()
	format, err := s.config.Format()
	if err != nil {
		return err
	}
	if err := durable.MkdirAll(s.config.Dir, 0o755); err != nil {
		return err
	}
	l, err := openLake(s.config.Kind, s.config.Dir, s.hook)
	if err != nil {
		return err
	}
	o := owner{text(env.Pipeline), text(env.Node)}
	w, err := l.begin(o, format.Ext())
	if err != nil {
		return errors.Join(err, l.root.Close())
	}
	s.env, s.w, s.format, s.schema = env, w, format, format.Schema()
	s.gone, s.inDoubt, s.due, s.buffered = nil, false, false, 0
	s.groups, s.open, s.done, s.used = map[string]*group[T]{}, map[*outFile]struct{}{}, nil, nil
	s.held, s.wrote = map[string]held{}, map[string]struct{}{}
	s.values = make([]string, len(s.config.Partition))
	s.first, s.last, s.committed = time.Time{}, time.Time{}, time.Now()
	if err := w.recover(); err != nil {
		return err
	}
	if w.st.seq == 0 {
		if err := w.virgin(); err != nil {
			return err
		}
	}
	if s.seen == 0 || w.st.seq < s.seen { // a rewind need not search the folders again
		if err := w.newest(); err != nil {
			return err
		}
	}
	if err := w.verify(); err != nil {
		return err
	}
	s.seen = w.st.seq
	w.st.forget()
	return nil
}

// Restore takes the partitions over: the commits of whoever had them fail from now on
// (rule E2). What is in open files is not touched. See leat.Transactional.
func (s *Sink[T]) Restore(_ context.Context, partitions []string) (map[string]leat.Position, error) {
	if err := s.usable(); err != nil {
		return nil, err
	}
	out := make(map[string]leat.Position, len(partitions))
	if len(partitions) == 0 {
		return out, nil
	}
	e := s.w.newEntry(kindTakeover)
	for _, p := range slices.Compact(slices.Sorted(slices.Values(partitions))) {
		e.Positions = append(e.Positions, movement{Partition: text(p)})
	}
	if err := s.w.publish(e); err != nil {
		if s.written() {
			return nil, s.abort(err)
		}
		return nil, openError(s.errorf("take partitions over in", err))
	}
	now := s.w.st.of(s.w.owner)
	for _, m := range e.Positions {
		h := now.of(string(m.Partition))
		h.epoch = m.Epoch // that of another one, if it has taken over since, is not this one's
		s.held[string(m.Partition)] = h
		if h.some && h.at.Known() { // rule E7: a missing position is not 0
			out[string(m.Partition)] = h.at
		}
	}
	s.tidy()
	return out, nil
}

// written tells whether there are rows that are not committed.
func (s *Sink[T]) written() bool { return len(s.open) > 0 || len(s.done) > 0 }

// Write adds the rows of a batch to open files: see leat.Sink.
func (s *Sink[T]) Write(ctx context.Context, b *leat.Batch[T]) error {
	return s.write(ctx, b.Partition(), b.Rows(), b.Offset)
}

func (s *Sink[T]) write(ctx context.Context, partition string, rows []T, offset func(int) leat.Offset) error {
	if err := s.usable(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if len(rows) == 0 {
		return nil
	}
	refused := s.route(rows)
	if refused = union(s.format.Prepare(rows), refused); len(refused) > 0 {
		return &leat.RowErrors{Rows: refused} // nothing of the batch is written yet
	}
	now := time.Now()
	if s.first.IsZero() {
		s.first = now
	}
	s.last = now
	s.batch++
	s.wrote[partition] = struct{}{}
	for _, g := range s.used {
		pick := g.pick
		n, lead := len(pick), 0
		if len(s.config.Partition) == 0 || n == len(rows) {
			pick, n = nil, len(rows)
		} else {
			lead = int(pick[0])
		}
		if err := s.add(g, pick, n, lead, offset); err != nil {
			return s.writeError(err)
		}
	}
	if err := s.rest(); err != nil {
		return s.writeError(err)
	}
	return nil
}

// union joins refused rows in order, each once.
func union(a, b []leat.RowError) []leat.RowError {
	if len(b) == 0 {
		return a
	}
	all := append(slices.Clone(a), b...)
	slices.SortStableFunc(all, func(x, y leat.RowError) int { return x.Row - y.Row })
	return slices.CompactFunc(all, func(x, y leat.RowError) bool { return x.Row == y.Row })
}

// route sorts the rows of a batch by their folder into s.used.
func (s *Sink[T]) route(rows []T) (refused []leat.RowError) {
	for _, g := range s.used {
		g.pick, g.in, g.time = g.pick[:0], false, timeRange{}
	}
	s.used = s.used[:0]
	const most = 4096 // folders to remember
	if len(s.groups) > most {
		maps.DeleteFunc(s.groups, func(_ string, g *group[T]) bool { return g.file == nil })
	}
	if len(s.config.Partition) == 0 {
		g := s.group()
		s.used = append(s.used, g)
		if s.config.EventTime == nil {
			return nil
		}
	}
	for i := 0; i < len(rows); i++ {
		var err error
		if i, err = s.routeFrom(rows, i); err != nil {
			refused = append(refused, leat.RowError{Row: i, Err: err})
		}
	}
	return refused
}

// routeFrom sorts rows until one is refused, and gives that one's number.
func (s *Sink[T]) routeFrom(rows []T, from int) (i int, err error) {
	i = from
	defer func() {
		if v := recover(); v != nil { // rule A9: Value and EventTime are user code
			err = &row.Refusal{Rule: "panic", Err: &engine.PanicError{Value: v, Stack: debug.Stack()}}
		}
	}()
	levels := s.config.Partition
	var g *group[T] // of the row before
	if len(levels) == 0 {
		g = s.used[0]
	}
	for ; i < len(rows); i++ {
		if len(levels) > 0 {
			same := g != nil
			for k := range levels {
				v := levels[k].Value(rows[i])
				same = same && v == s.values[k]
				s.values[k] = v
			}
			if !same {
				g = s.group()
			}
			if g.err != nil {
				return i, g.err
			}
			if !g.in {
				g.in = true
				s.used = append(s.used, g)
			}
			g.pick = append(g.pick, int32(i))
		}
		if s.config.EventTime != nil {
			g.time.add(s.config.EventTime(rows[i]))
		}
	}
	return i, nil
}

// group finds the folder for s.values, which it copies.
func (s *Sink[T]) group() *group[T] {
	s.key = s.key[:0]
	for _, v := range s.values {
		s.key = append(append(s.key, byte(len(v)), byte(len(v)>>8), byte(len(v)>>16), byte(len(v)>>24)), v...)
	}
	if g := s.groups[string(s.key)]; g != nil {
		return g
	}
	g := &group[T]{dir: "."}
	var dir []byte
	for k, v := range s.values {
		if k > 0 {
			dir = append(dir, '/')
		}
		name := s.config.Partition[k].Name
		if dir, g.err = appendLevel(dir, name, v); g.err != nil { // rule F6
			g.err = &row.Refusal{Column: name, Rule: "partition", Err: g.err}
			break
		}
	}
	if g.err != nil {
		return g // not remembered: its values may be of any size
	}
	if len(dir) > 0 {
		g.dir = string(dir)
	}
	s.groups[string(s.key)] = g
	return g
}

// add puts n rows, the first of which is row lead of the batch, into the file of
// their folder.
func (s *Sink[T]) add(g *group[T], pick []int32, n, lead int, offset func(int) leat.Offset) error {
	o := g.file
	if o == nil || o.f == nil {
		if s.config.MaxOpen > 0 && len(s.open) >= s.config.MaxOpen { // rule F4
			oldest := s.pickFile(func(a, b *outFile) bool { return a.used < b.used })
			s.due = true // so that finished files don't pile up
			if err := s.finish(oldest); err != nil {
				return err
			}
		}
		var err error
		if o, err = s.create(g.dir); err != nil {
			return err
		}
		o.first = offset(lead) // a walk, so once per file
		g.file = o
	}
	if err := o.enc.Append(pick); err != nil {
		return err
	}
	s.clock++
	o.used, o.batch, o.resting = s.clock, s.batch, false
	o.rows += int64(n)
	o.times.join(g.time)
	s.holds(o, o.enc.Buffered())
	if r := s.config.Roll; r.Rows > 0 && o.rows >= r.Rows || r.Bytes > 0 && o.enc.Size() >= r.Bytes { // rule F4
		s.due = true
		g.file = nil
		return s.finish(o)
	}
	return s.relieve()
}

// holds notes what a file keeps in memory.
func (s *Sink[T]) holds(o *outFile, bytes int64) {
	s.buffered += bytes - o.buffered
	o.buffered = bytes
}

// relieve keeps the memory of all open files within Buffer (rule F8).
func (s *Sink[T]) relieve() error {
	for s.buffered > s.config.Buffer {
		most := s.pickFile(func(a, b *outFile) bool { return a.buffered > b.buffered })
		if err := most.enc.Flush(); err != nil {
			return err
		}
		before := most.buffered
		if s.holds(most, most.enc.Buffered()); most.buffered >= before {
			return nil // that is all it can do
		}
	}
	return nil
}

// rest has the files that get no rows any more, as when rows come in the order of
// their folders, give back memory before there is too little of it (rule F8).
func (s *Sink[T]) rest() error {
	const batches, least, much = 4, 16, 4 // parts of Buffer: of a file, of all
	for o := range s.open {
		if !o.resting && (s.batch-o.batch < batches || o.buffered < s.config.Buffer/least || s.buffered < s.config.Buffer/much) || o.buffered == 0 {
			continue
		}
		c, ok := o.enc.(Resting)
		if !ok {
			continue
		}
		if err := c.Rest(); err != nil {
			return err
		}
		o.resting = true
		s.holds(o, o.enc.Buffered())
	}
	return nil
}

// pickFile is the first of the open files by an order.
func (s *Sink[T]) pickFile(before func(a, b *outFile) bool) *outFile {
	var best *outFile
	for o := range s.open {
		if best == nil || before(o, best) {
			best = o
		}
	}
	return best
}

func (s *Sink[T]) create(dir string) (*outFile, error) {
	o := &outFile{dir: dir, tmp: s.w.nextTmp(), number: s.w.tmps, write: s.w.hook.write}
	var err error
	if o.f, err = s.w.root.OpenFile(o.tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644); err != nil {
		return nil, err
	}
	s.open[o] = struct{}{}
	o.buf = bufio.NewWriterSize((*diskWriter)(o), bufferSize)
	o.enc, err = s.format.Create(o.buf)
	return o, err
}

func (s *Sink[T]) finish(o *outFile) error {
	if err := o.finish(s.w.hook.sync); err != nil {
		return err
	}
	s.holds(o, 0)
	delete(s.open, o)
	s.done = append(s.done, o)
	return nil
}

// Commit closes all open files and publishes them together with the positions:
// see leat.Sink. While no limit is reached it answers "not yet" (rule E9).
func (s *Sink[T]) Commit(_ context.Context, cp leat.Checkpoint) (done bool, err error) {
	if err := s.usable(); err != nil {
		return false, err
	}
	moves, err := s.moves(cp)
	if err != nil {
		s.gone = s.aborted(err)
		return false, s.errorf("commit", err)
	}
	none := !s.written()
	switch {
	case none && len(moves) == 0:
		return true, nil
	case !s.isDue(cp, none):
		return false, nil
	}
	s.inDoubt = true
	// Rule F3: the positions cover what lies in open files, so none stays open.
	for o := range s.open {
		if c, ok := o.enc.(Resting); ok {
			if err := c.Rest(); err != nil {
				return false, s.commitError(err)
			}
		}
	}
	for len(s.open) > 0 {
		if err := s.finish(s.pickFile(func(a, b *outFile) bool { return a.number < b.number })); err != nil {
			return false, s.commitError(err)
		}
	}
	slices.SortFunc(s.done, func(a, b *outFile) int { return a.number - b.number })
	if err := failpoint.Hit("lake/files-synced"); err != nil {
		return false, s.commitError(err)
	}
	e := s.w.newEntry(kindCommit)
	e.Positions = moves
	if len(s.done) > 0 {
		e.Schema = s.schema
	}
	plans := make([]planned, 0, len(s.done))
	for _, o := range s.done {
		e.Files = append(e.Files, o.entry())
		plans = append(plans, planned{o.dir, o.first})
	}
	if err := s.w.name(e, plans); err != nil {
		return false, s.commitError(err)
	}
	if err := s.w.publish(e); err != nil {
		return false, s.commitError(err)
	}
	for _, m := range moves {
		s.held[string(m.Partition)] = held{m.Epoch, true, m.To.leat()}
	}
	clear(s.wrote)
	s.seen = s.w.st.seq
	for _, g := range s.groups {
		g.file = nil
	}
	s.done, s.due, s.inDoubt = nil, false, false
	s.first, s.committed = time.Time{}, time.Now()
	s.tidy()
	return true, nil
}

// isDue tells whether it is time to close the files; none: there are none, and
// only positions move.
func (s *Sink[T]) isDue(cp leat.Checkpoint, none bool) bool {
	r := s.config.Roll
	switch {
	case cp.Force || cp.CaughtUp:
		return true
	case none:
		// Rows that go elsewhere move the positions all the time; that is not worth
		// an entry each second.
		age := r.Age
		if age < 0 {
			age = defaultAge
		}
		return time.Since(s.committed) >= age
	}
	return s.due || r.Age > 0 && time.Since(s.first) >= r.Age || r.Idle > 0 && time.Since(s.last) >= r.Idle
}

// moves are the positions that a checkpoint moves, in order. Every partition whose rows
// are in the files is among them: its epoch guards them.
func (s *Sink[T]) moves(cp leat.Checkpoint) ([]movement, error) {
	var out []movement
	left := maps.Clone(s.wrote)
	for p, to := range cp.Positions {
		if !to.Known() {
			continue
		}
		from, taken := s.held[p]
		if !taken {
			return nil, fmt.Errorf("partition %q was never restored", p)
		}
		if from.some && (from.at == to || from.at.Log == to.Log && to.Next < from.at.Next) {
			// After a crash the sink may be ahead of the others, and the engine drops
			// what it holds (rule E7): it must not step back.
			if _, rows := s.wrote[p]; !rows {
				continue
			}
			// Unless the source is only similar (rule A2-2): then rows come again, and are
			// written again. The position stays, and its epoch guards them.
			to = from.at
		}
		m := movement{Partition: text(p), Epoch: from.epoch, To: positionOf(to)}
		if from.some {
			m.From = positionOf(from.at)
		}
		delete(left, p)
		out = append(out, m)
	}
	if len(left) > 0 { // rule H4: rows of a partition that was given up without a rewind
		return nil, fmt.Errorf("rows of partitions %q were written, and the checkpoint does not move these", slices.Sorted(maps.Keys(left)))
	}
	slices.SortFunc(out, func(a, b movement) int {
		if a.Partition < b.Partition {
			return -1
		}
		return 1
	})
	return out, nil
}

// tidy keeps the manifest short. The commit before it is done whatever comes of
// it, and the next commit tries again.
func (s *Sink[T]) tidy() {
	if err := s.w.tidy(); err != nil && s.env.Logger != nil {
		s.env.Logger.Warn("the manifest could not be compacted; nothing is lost, the next commit tries again", "dir", s.w.dir, "error", err)
	}
}

// Close discards what is not committed. Files of a commit whose end is not known
// are left to the next Open.
func (s *Sink[T]) Close() error {
	if s.w == nil {
		return nil
	}
	for o := range s.open {
		s.done = append(s.done, o)
	}
	for _, o := range s.done {
		if o.f != nil {
			_ = o.f.Close()
		}
		if !s.inDoubt { // else the next Open needs it, or deletes it
			_ = s.w.root.Remove(o.tmp)
		}
	}
	if err := s.release(); err != nil {
		return s.errorf("close", err)
	}
	return nil
}

// release gives the lake back.
func (s *Sink[T]) release() error {
	if c, ok := s.format.(interface{ Close() }); ok {
		c.Close()
	}
	err := errors.Join(s.w.end(), s.w.root.Close())
	s.w, s.format, s.held, s.wrote, s.groups, s.used, s.open, s.done, s.gone = nil, nil, nil, nil, nil, nil, nil, nil, nil
	return err
}

// usable tells why nothing can be done until the next Open.
func (s *Sink[T]) usable() error {
	if s.w == nil {
		return s.aborted(errors.New("the sink is not open"))
	}
	return s.gone
}

func (s *Sink[T]) errorf(doing string, err error) error {
	return fmt.Errorf("%s: %s %s: %w", s.config.Kind, doing, s.config.Dir, err)
}

// aborted is ErrAborted with its cause (rule E8).
func (s *Sink[T]) aborted(cause error) error {
	return s.errorf("write", fmt.Errorf("%w: %w", leat.ErrAborted, cause))
}

// abort asks for a rewind.
func (s *Sink[T]) abort(cause error) error {
	s.gone = s.aborted(cause)
	if passing(cause) {
		s.gone = leat.Transient(s.gone)
	}
	return s.gone
}

// writeError sorts an error of the file system or of the encoder, which is never a
// row's fault. What is in the open files is in doubt, so they are given up.
func (s *Sink[T]) writeError(err error) error {
	if !passing(err) {
		s.doom = s.errorf("write", err)
	}
	return s.abort(err)
}

// commitError is for a commit of which nobody knows how far it came. The next Open
// finds out (rule E4).
func (s *Sink[T]) commitError(err error) error {
	switch {
	case errors.Is(err, leat.ErrFenced):
		s.inDoubt = false // nothing of it will happen any more
		s.gone = s.aborted(err)
		return s.errorf("commit", err)
	case passing(err):
		return s.abort(err)
	}
	s.gone = s.aborted(err)
	return s.errorf("commit", fmt.Errorf("%w; what is committed is kept, the rest is read again at the next start", err))
}
