package leat

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"

	"github.com/leatgo/leat/internal/engine"
	"github.com/leatgo/leat/internal/jsonlines"
	"github.com/leatgo/leat/internal/store"
)

// LetterDecoder is a small optional interface of sources whose dead letters can be
// replayed.
type LetterDecoder[T any] interface {
	// DecodeLetter makes the row or rows of the letter's record again, from its Raw,
	// Header, Key and so on, and gives them to out as Decode would: by Append or
	// Reject, with the number record. Partition and Offset of the letter are those of
	// the first reading, also when it was replayed before. An error means that the
	// letter lacks what the source needs. It must be a pure function, and may run concurrently with
	// everything else of the source, which is not run otherwise.
	DecodeLetter(l DeadLetter, out *Batch[T], record int) error
}

// Repeatable is a small optional interface of stages with state. It says that a row
// which they have let pass may come again, with the same Origin, and passes again
// without being counted twice (rule C5); Batch.Repeated tells when. Letters of nodes
// behind a stage with state are replayed only when it says so.
type Repeatable interface {
	Repeatable() bool
}

// LetterStep is one row of a record before a node.
type LetterStep struct {
	Node    string `json:"node"`
	Ordinal int    `json:"ordinal,omitempty"` // which of the rows made from the record
}

// ReplayStats tells what Replay has done.
type ReplayStats struct {
	Letters     int // taken from the iterator
	Journaled   int // of them: taken over now
	Already     int // of them: taken over by an earlier call, or twice in this one
	Undecodable int // of them: can't be replayed, and are left alone

	// Why tells why letters are Undecodable, with the number of letters.
	Why map[string]int

	Sent     int64 // records sent through the pipeline, those an earlier call had taken over and not finished included
	Rejected int64 // rows refused again; each has a new letter, unless the policy is SkipRow
}

// ReplayPartition is the name of the partition, one for each source, that replayed
// letters make up; sinks and the state folder hold its position beside the others.
const ReplayPartition = "@replay"

// Replay sends dead letters through the pipeline again, from their original bytes
// (rule B4), and returns when all are through. It uses p up, like Run; nothing else
// may run on p's state folder meanwhile. Sources are not read; they have to implement
// LetterDecoder, and the letters of those that do not are counted as undecodable.
//
// The iterator may leave letters out or mend them, as a rule by changing Raw; see
// DeadLetters for one over a file. An error of it ends Replay before anything is sent.
//
// A row goes only where it did not get: it joins the flow at the node that refused it,
// and branches that took it the first time do not get it again. A row that one sink
// refused goes to that sink alone. A row that is refused again makes a new letter with
// the same bytes and origin, one more Attempt, and FirstPartition and FirstOffset
// telling where it was first read. Mend and replay the newest letter of a row.
//
// Repeating Replay is safe, with the same letters or others: letters are taken over
// into the file replay.jsonl in the state folder, each id once, and sent from there as
// a partition of their own (ReplayPartition), with positions like any other. So a
// crash in the middle neither loses nor doubles a row at sinks that keep positions, and
// the next Replay goes on, also without letters. To lose the file is to forget which
// letters were replayed. A sink that is added to the pipeline later gets all replayed
// rows that concern it at the next Replay.
//
// Several rows made from one record are told apart by their order: stages before the
// one that refused a row must make and keep as many of its record as they did then. Where
// one of them refuses a neighbour now, the row waits, with a letter.
//
// A replayed record counts as read once more: In of its source is 2 when the row came
// once from the input and once from its letter, and it is rejected once and once what
// became of it now; rows held back from branches that had them count as filtered.
// The breaker is off, and policies other than SkipRow are DeadLetterRow.
//
// A stage with state sees the row as one of the partition and offset where it was first
// read, after all rows it has seen. Let the pipeline come to a clean stop before, so that its
// state is that of the sinks.
func Replay(ctx context.Context, p *Pipeline, letters iter.Seq2[DeadLetter, error]) (ReplayStats, error) {
	if err := p.Check(); err != nil {
		return ReplayStats{}, err
	}
	p.mu.Lock()
	used := p.engine != nil
	p.mu.Unlock()
	if used {
		return ReplayStats{}, p.usedUp()
	}
	if !isNil(p.config.State) {
		return ReplayStats{}, fmt.Errorf("leat: pipeline %s: Replay can't be used with Config.State: it would take partitions from the processes that run on it", p.name)
	}
	r := &replay{p: p, stats: ReplayStats{Why: map[string]int{}}, sources: map[string]*replaySource{}}
	plan := p.plan()
	log := plan.Config.Logger
	for _, n := range p.nodes {
		if n.engine.Kind != engine.KindSource {
			continue
		}
		s := &replaySource{r: r, node: n}
		r.sources[n.engine.Name] = s
		n.engine.Source = &engine.Source{
			Run: s.run, Close: n.engine.Source.Close, Replay: engine.ReplayExact, Homes: []string{},
			Commit: func(context.Context, engine.Checkpoint) error { return nil }, // it is not about what the source reads
		}
	}
	policy := plan.Config.Policy
	plan.Config.Policy = func(c engine.Class) engine.Policy {
		if policy(c) == engine.PolicySkip {
			return engine.PolicySkip
		}
		return engine.PolicyDeadLetter
	}
	plan.Config.BreakerShare = -1
	plan.Config.Alone = func(ctx context.Context, held map[string]engine.Position) error {
		return r.takeOver(ctx, letters, held)
	}

	err := runPlans(ctx, []*Pipeline{p}, []*engine.Plan{plan})
	if errors.Is(err, store.ErrInUse) {
		err = fmt.Errorf("leat: pipeline %s: the state folder %s is in use: Replay needs it alone; stop the pipeline that runs on it, or wait for its end", p.name, p.StateDir())
	}
	for _, why := range slices.Sorted(maps.Keys(r.stats.Why)) {
		log.Warn("dead letters can't be replayed and are left alone", "letters", r.stats.Why[why], "why", why)
	}
	if r.stats.Already > 0 && r.stats.Journaled == 0 {
		log.Info("all these letters were taken over before; a row that was refused again has a newer letter: replay that one", "letters", r.stats.Already)
	}
	if r.journal == nil && err == nil {
		err = ctx.Err() // ended before anything was begun
	}
	s := p.Stats()
	r.stats.Sent = s.Run.In
	for _, n := range s.Run.Rejected {
		r.stats.Rejected += n
	}
	return r.stats, err
}

// DeadLetters reads a dead-letter file, rotated parts first, oldest letter first, as
// Replay wants it. It may be used while a pipeline writes. A file that is not there is
// an error, which matches fs.ErrNotExist.
func DeadLetters(path string) iter.Seq2[DeadLetter, error] {
	return func(yield func(DeadLetter, error) bool) {
		if files, err := jsonlines.Files(path); err == nil && len(files) == 0 {
			yield(DeadLetter{}, fmt.Errorf("dead letters: %w", &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}))
			return
		}
		stop := errors.New("stop")
		err := ReadDeadLetters(path, func(l DeadLetter) error {
			if !yield(l, nil) {
				return stop
			}
			return nil
		})
		if err != nil && !errors.Is(err, stop) {
			yield(DeadLetter{}, err)
		}
	}
}

// replay is one call of Replay.
type replay struct {
	p       *Pipeline
	stats   ReplayStats
	sources map[string]*replaySource
	journal *replayJournal // closed; what it says stays

	back    sync.Once
	backErr error
}

// giveBack undoes takeOver, once for all sources.
func (r *replay) giveBack() error {
	r.back.Do(func() { r.backErr = r.journal.giveBack() })
	return r.backErr
}

// takeOver writes new letters to the journal. The state folder is ours alone while it
// runs, and afterwards.
func (r *replay) takeOver(ctx context.Context, letters iter.Seq2[DeadLetter, error], held map[string]engine.Position) (err error) {
	r.journal, err = openReplayJournal(filepath.Join(r.p.StateDir(), "replay.jsonl"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.journal.close()) }()
	for name := range r.sources {
		// Before any letter gets an offset: those of an older copy would get offsets that the
		// sinks have passed, and be lost.
		if at := held[name+"/"+ReplayPartition]; at.Log == r.journal.id && at.Next > r.journal.next {
			return r.journal.beyond(at.Next)
		}
	}
	if letters != nil {
		for l, err := range letters {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				return fmt.Errorf("replay: reading the letters: %w; nothing was sent, and letters taken over so far are sent by the next Replay", err)
			}
			if err := r.take(l); err != nil {
				return err
			}
		}
	}
	if err := r.journal.sync(); err != nil {
		return err
	}
	for name, homes := range r.journal.homes {
		if s := r.sources[name]; s != nil {
			s.node.engine.Source.Homes = slices.Sorted(maps.Keys(homes))
		}
	}
	return nil
}

func (r *replay) take(l DeadLetter) error {
	r.stats.Letters++
	if l.ID != "" && r.journal.has(l.ID) { // rule B3-2
		r.stats.Already++
		return nil
	}
	if err := r.judge(l); err != nil {
		r.stats.Undecodable++
		why := err.Error()
		if _, told := r.stats.Why[why]; !told && len(r.stats.Why) >= 100 {
			why = "other reasons"
		}
		r.stats.Why[why]++
		return nil
	}
	if err := r.journal.append(l); err != nil {
		return err
	}
	r.stats.Journaled++
	return nil
}

// judge says why a letter can't be replayed: then it is not taken over, so that it can
// be when the program or the letter has been mended.
func (r *replay) judge(l DeadLetter) error {
	s := r.sources[l.Source]
	switch {
	case l.ID == "":
		return errors.New("it has no id")
	case l.Pipeline != r.p.name:
		return fmt.Errorf("it is a letter of pipeline %q, and this is %q", l.Pipeline, r.p.name)
	case s == nil:
		return fmt.Errorf("source %q is not part of the pipeline", l.Source)
	case s.node.decode == nil:
		return fmt.Errorf("source %q can't decode letters: it has no DecodeLetter", l.Source)
	}
	if _, err := r.p.route(l); err != nil {
		return err
	}
	return s.node.decodable(l)
}

// way is the gates of a letter: the first letter of a row has its own node only.
func (l *DeadLetter) way() []LetterStep {
	if len(l.Path) > 0 {
		return l.Path
	}
	return []LetterStep{{l.Node, l.Ordinal}}
}

// home is where the letter's record was first read.
func (l *DeadLetter) home() (partition string, offset Offset) {
	if l.FirstPartition != "" {
		return l.FirstPartition, l.FirstOffset
	}
	return l.Partition, l.Offset
}

// route finds the nodes through which the row has to go. With an error they are still
// there, so that the letter can be kept with its way.
func (p *Pipeline) route(l DeadLetter) (gates []*engine.Node, err error) {
	for _, step := range l.way() {
		var found *engine.Node
		for _, n := range p.nodes {
			if n.engine.Name == step.Node {
				found = n.engine
			}
		}
		if found == nil {
			err = errors.Join(err, fmt.Errorf("%q, which refused the row, is not part of the pipeline any more: give the stage or sink its old name back, or name another one in the letter", step.Node))
			found = &engine.Node{Name: step.Node}
		}
		gates = append(gates, found)
	}
	for _, step := range l.Without {
		if !slices.ContainsFunc(p.nodes, func(n *node) bool { return n.engine.Name == step.Node }) {
			err = errors.Join(err, fmt.Errorf("%q, which refused another row of its record, is not part of the pipeline any more: give the stage its old name back", step.Node))
		}
	}
	if err != nil {
		return gates, err
	}
	// A stage with state that the row has passed would see it a second time.
	for _, n := range p.nodes {
		if n.engine.Kind != engine.KindStage || n.engine.Stage == nil || n.engine.Stage.State == nil {
			continue
		}
		passes := isUpstream(n.engine, gates[len(gates)-1])
		for _, g := range gates {
			passes = passes && (g == n.engine || isUpstream(n.engine, g) || isUpstream(g, n.engine))
		}
		if again, ok := n.impl.(Repeatable); passes && (!ok || !again.Repeatable()) {
			return gates, fmt.Errorf("the row has passed stage %q, which remembers rows and would count it twice", n.engine.Name)
		}
	}
	return gates, nil
}

func isUpstream(a, b *engine.Node) bool {
	return slices.ContainsFunc(b.In, func(in *engine.Node) bool { return in == a || isUpstream(a, in) })
}

// decodeLetters makes the rows of letters: record i is letters[i]. With a fault none is
// made; the letters stay, by new ones.
func decodeLetters[T any](d LetterDecoder[T], c *engine.Chunk, letters []DeadLetter, fault error) engine.Batch {
	out := &Batch[T]{}
	out.trace.Chunk = c
	for i := range letters {
		one := &Batch[T]{}
		one.trace.Chunk = c
		err := fault
		if err == nil {
			err = decodeLetter(d, letters[i], one, i)
		}
		if err != nil {
			out.Reject(i, Decode, err)
			continue
		}
		for _, r := range one.rows {
			out.Append(r, i)
		}
		out.rejects = append(out.rejects, one.rejects...)
	}
	return (*erased[T])(out)
}

func decodeLetter[T any](d LetterDecoder[T], l DeadLetter, out *Batch[T], record int) (err error) {
	defer func() { // rule A9
		if r := recover(); r != nil {
			err = &engine.PanicError{Value: r, Stack: debug.Stack()}
		}
	}()
	l.Partition, l.Offset = l.home()
	if err := d.DecodeLetter(l, out, record); err != nil {
		return fmt.Errorf("source %q can't decode it: %w", l.Source, err)
	}
	wrong := len(out.rows)+len(out.rejects) == 0
	for i := range out.rows {
		wrong = wrong || out.trace.Record(i) != record
	}
	for _, r := range out.rejects {
		wrong = wrong || r.Record != record
	}
	if wrong {
		return fmt.Errorf("source %q made nothing of it, or gave it another number: its DecodeLetter breaks its contract", l.Source)
	}
	return nil
}

// replaySource stands for a source while letters are replayed.
type replaySource struct {
	r     *replay
	node  *node
	begun bool
}

// How many letters make a chunk, at most.
const (
	replayRows  = 256
	replayBytes = 1 << 20
)

func (s *replaySource) run(ctx context.Context, in *engine.Intake) error {
	j, name := s.r.journal, s.node.engine.Name
	if len(j.homes[name]) == 0 {
		return nil
	}
	if s.node.decode == nil { // what an earlier program took over stays in the journal
		in.Env().Logger.Warn("letters that were taken over for replay wait: their source has no DecodeLetter any more", "file", j.path)
		return nil
	}
	at, err := in.Assign([]engine.Partition{{Name: ReplayPartition, Log: j.id}})
	if err != nil {
		return err
	}
	start := at[ReplayPartition].Next
	// Also of the sink that is ahead: it would drop letters that have got offsets that it has
	// passed. They are taken back, or the next Replay would believe them.
	if most := max(start, in.Ahead(ReplayPartition)); !s.begun && most > j.begun {
		return errors.Join(j.beyond(most), s.r.giveBack())
	}
	s.begun = true // after a rewind the sinks hold letters of this run
	var group replayGroup
	send := func() error {
		if len(group.letters) == 0 {
			return nil
		}
		c := s.chunk(group)
		group = replayGroup{}
		return in.Send(c)
	}
	err = j.read(func(offset int64, l *DeadLetter) error {
		if l.Source != name || offset < start {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if key := groupKey(l); key != group.key || len(group.letters) >= replayRows || group.bytes >= replayBytes {
			if err := send(); err != nil {
				return err
			}
			group.key = key
		}
		group.letters = append(group.letters, *l)
		group.offsets = append(group.offsets, offset)
		group.bytes += int64(len(l.Raw) + len(l.Key) + len(l.Row) + 256)
		return nil
	})
	if err == nil {
		err = send()
	}
	return err
}

// replayGroup is letters that go the same way.
type replayGroup struct {
	key     string
	letters []DeadLetter
	offsets []int64
	bytes   int64
}

func groupKey(l *DeadLetter) string {
	home, _ := l.home()
	names := []string{home}
	for _, step := range l.way() {
		names = append(names, step.Node)
	}
	return strings.Join(names, "\x00")
}

func (s *replaySource) chunk(g replayGroup) *engine.Chunk {
	gates, fault := s.r.p.route(g.letters[0])
	again := &engine.Rerun{}
	for _, n := range gates {
		again.Gates = append(again.Gates, engine.Gate{Node: n})
	}
	for i := range g.letters {
		l := &g.letters[i]
		home, offset := l.home()
		again.Home = home
		again.First = append(again.First, offset)
		again.Attempt = append(again.Attempt, l.Attempt)
		var missing []engine.Step
		for _, step := range l.Without {
			missing = append(missing, engine.Step(step))
		}
		again.Missing = append(again.Missing, missing)
		for k, step := range l.way() {
			again.Gates[k].Ordinals = append(again.Gates[k].Ordinals, step.Ordinal)
		}
	}
	c := &engine.Chunk{
		Partition: ReplayPartition, First: g.offsets[0], Next: g.offsets[len(g.offsets)-1] + 1,
		Bytes: g.bytes, Rerun: again,
		Locate: func(records []int) []engine.Origin {
			out := make([]engine.Origin, len(records))
			for k, i := range records {
				l := &g.letters[i]
				out[k] = engine.Origin{
					Offset: g.offsets[i], File: l.File, Line: l.Line, Topic: l.Topic, Key: l.Key,
					Headers: l.Headers, Time: l.Arrived, Header: l.Header, Raw: l.Raw,
				}
			}
			return out
		},
	}
	c.Offsets = func(records []int, out []int64) {
		for k, i := range records {
			out[k] = g.offsets[i]
		}
	}
	c.Decode = func(context.Context) (engine.Batch, error) { return s.node.decode(c, g.letters, fault), nil }
	return c
}
