package engine

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Plan is a checked pipeline: what to run and how.
type Plan struct {
	Pipeline string
	Version  string
	Member   int     // of several replicas on one router
	Nodes    []*Node // in topological order: a node's inputs come before it
	Config   Config
}

// Config is leat.Config with every default applied.
type Config struct {
	StateDir         string
	CheckpointEvery  time.Duration
	ForceCheckpoints bool
	BudgetBytes      int64
	BudgetBatches    int
	DrainTimeout     time.Duration
	Retry            Retry
	BreakerShare     float64 // rejected share of the window that stops the pipeline; < 0 is off
	BreakerWindow    int
	BreakerMin       int
	Policy           func(Class) Policy
	Letters          Letters
	LettersJoined    any // see Sink.Joined
	Middleware       []message.HandlerMiddleware
	Logger           *slog.Logger
	Observe          func(Event) // may be nil

	State       *StateStore // shared by processes; nil: the state folder alone
	Reconfigure []string    // stages with state that may differ from the saved state (rule E7-4)
	NewSinks    []string    // sinks that start at the state's cut (rule E7-4)

	// Alone, if set, is called with what the state folder holds once that is this run's alone, before
	// anything else is opened. A folder in use is then an error at once.
	Alone func(ctx context.Context, held map[string]Position) error

	// For the test kit alone: Hook is called at the failpoints around the store, and its
	// error is the step's; StatePieces, if not 0, is how many pieces of state are merged.
	Hook        func(point string) error
	StatePieces int
}

// Kind says what a node is.
type Kind uint8

// The kinds of nodes.
const (
	KindSource Kind = iota
	KindStage
	KindMerge
	KindSink
)

// Node is one place in the graph. Exactly the part that fits its Kind is set.
type Node struct {
	Name   string
	Kind   Kind
	In     []*Node
	Source *Source
	Stage  *Stage
	Merge  func([]Batch) Batch // parts of one chunk, back in record order (rule G2-1)
	Sink   *Sink

	id      int     // index in Plan.Nodes
	next    []*Node // who reads it
	ordered bool    // a stage with state, or behind one
	keep    bool    // its output is needed after the parallel part
	written bool    // a sink reads it
	sinks   []*Node // sinks that rows of this node can reach
}

// Replay says how faithfully a source reads again (rule A2-2).
type Replay uint8

// The values of Replay, weakest first.
const (
	ReplayNone Replay = iota
	ReplaySimilar
	ReplayExact
)

// Source is a source with its row type hidden.
type Source struct {
	Run    func(ctx context.Context, in *Intake) error
	Commit func(ctx context.Context, cp Checkpoint) error
	Close  func() error // may be nil
	Replay Replay
	Homes  []string // of chunks with a Rerun: the partitions, qualified, that they name

	Tap func(chunk any) // of the test kit: sees each *leat.Chunk before it is sent, and may change it; nil at CaughtUp
}

// Stage is a stage with its types hidden.
type Stage struct {
	Process  func(ctx context.Context, in Batch) (Batch, error)
	Concat   func([]Batch) Batch // outputs for parts of one batch, in order
	InBytes  int64               // size of one input row and of one output row, for the budget
	RowBytes int64
	Blocking bool // waits for I/O: runs without a decode slot
	State    *State
}

// State is the extra part of a stage that remembers (rule H1).
type State struct {
	Restore  func(partition string, blobs [][]byte) error
	Delta    func(partition string) ([]byte, error)
	Snapshot func(partition string) ([]byte, error)

	Fingerprint func() string // nil: the state depends on no configuration
	Size        func() int64  // see leat.Sized; nil: not known
	AppendOnly  bool          // see leat.AppendOnly
}

// Sink is a sink with its row type hidden. All functions of one sink are
// called one at a time.
type Sink struct {
	Open    func(ctx context.Context, env Env) error
	Write   func(ctx context.Context, b Batch) ([]RowError, error)
	Commit  func(ctx context.Context, cp Checkpoint) (done bool, err error)
	Close   func() error
	Restore func(ctx context.Context, partitions []string) (map[string]Position, error) // nil: keeps no positions
	Joined  any                                                                         // sinks with the same value commit together; nil: alone
}

// RowError is one row that a sink refused.
type RowError struct {
	Row int
	Err error
}

// Env is what a node gets to know about its surroundings.
type Env struct {
	Pipeline string
	Node     string
	StateDir string
	Logger   *slog.Logger
}

// Position is how far a partition has been read.
type Position struct {
	Next   int64
	Resume string
	Log    string
}

// Known tells whether p says anything (rule E7: missing is not 0).
func (p Position) Known() bool { return p != Position{} }

// Checkpoint is one consistent cut.
type Checkpoint struct {
	Seq       uint64
	Positions map[string]Position
	Force     bool
	CaughtUp  bool
}

// Chunk is a run of records that a source has read but not decoded.
type Chunk struct {
	Partition   string // without the source's name; the engine qualifies it
	First, Next int64
	Resume      string
	Records     int // estimate, for logs only
	Bytes       int64
	Decode      func(ctx context.Context) (Batch, error)
	Locate      func(records []int) []Origin     // ascending record numbers
	Offsets     func(records []int, out []int64) // the same, offsets alone; nil: Locate tells them
	Release     func()
	Rerun       *Rerun // nil, but for records that come back from the dead letters
	Repeated    bool   // for a stage with state: it has seen the rows before

	lane *lane
}

// Origin is where a record came from.
type Origin struct {
	Partition string
	Offset    int64
	File      string
	Line      int64
	Topic     string
	Key       []byte
	Headers   map[string]string
	Time      time.Time
	Header    string
	Raw       []byte
}

// Batch is a typed batch with its type hidden.
type Batch interface {
	Len() int
	Trace() *Trace
	Rejects() []Reject        // what the node that made this batch refused
	Inputs() int              // how many rows of the input its rows came from
	Slice(i, j int) Batch     // rows i to j-1, shared
	Without(rows []int) Batch // a copy of the row list without these (ascending)
	RowJSON(i int) []byte     // for dead letters; nil when it has no JSON form
	Release()                 // nobody reads its rows any more; who forgets it costs memory only
}

// Scrub is set by tests, before anything runs: rows that were given back become zeros,
// so that who still reads them is found out.
var Scrub bool

// Trace is where the rows of a batch came from.
type Trace struct {
	Chunk *Chunk
	From  []int32 // row → record number in the chunk; nil: row i is record i of the chunk, from Base
	Base  int     // see From
	Ord   []int32 // row → its ordinal, when rows of one record may have been parted; nil: see Ordinal
}

// Record gives the record number of row i.
func (t *Trace) Record(i int) int {
	if t.From == nil {
		return t.Base + i
	}
	return int(t.From[i])
}

// Ordinal tells how many rows before row i the chunk had from the same record.
// Rows of one record are neighbours; where some were taken out, Ord remembers.
func (t *Trace) Ordinal(i int) int {
	if t.Ord != nil {
		return int(t.Ord[i])
	}
	if t.From == nil || i == 0 || t.From[i-1] != t.From[i] {
		return 0
	}
	first, _ := slices.BinarySearch(t.From[:i], t.From[i])
	return i - first
}

// Ordinals lists the ordinals of all rows, or nil when all are 0.
func (t *Trace) Ordinals() []int32 {
	if t.Ord != nil || t.From == nil {
		return t.Ord
	}
	var ord []int32
	for i := 1; i < len(t.From); i++ {
		if t.From[i] == t.From[i-1] {
			if ord == nil {
				ord = make([]int32, len(t.From))
			}
			ord[i] = ord[i-1] + 1
		}
	}
	return ord
}

// Reject is a row that a node refused, by its record in the chunk.
type Reject struct {
	Record  int
	Ordinal int
	Class   Class
	Err     error
	Row     []byte // JSON of the row, when there was one
	Stack   []byte
}

// Class sorts failures (rule B1).
type Class string

// The classes of rule B1.
const (
	Decode          Class = "Decode"
	Contract        Class = "Contract"
	Transform       Class = "Transform"
	SinkReject      Class = "SinkReject"
	SinkUnavailable Class = "SinkUnavailable"
	Late            Class = "Late"
	FutureTime      Class = "FutureTime"
)

// Policy says what becomes of a rejected row (rule B2).
type Policy uint8

// The policies of rule B2.
const (
	PolicyDeadLetter Policy = iota
	PolicyFail
	PolicySkip
	PolicyRejectFile
)

// prepare computes what the engine wants to know about the graph.
func (p *Plan) prepare() {
	for i, n := range p.Nodes {
		n.id, n.next, n.sinks, n.keep, n.written, n.ordered = i, nil, nil, false, false, n.Kind == KindStage && n.Stage.State != nil
	}
	for _, n := range p.Nodes {
		for _, in := range n.In {
			in.next = append(in.next, n)
			n.ordered = n.ordered || in.ordered
		}
		for _, in := range n.In {
			in.written = in.written || n.Kind == KindSink
			in.keep = in.keep || n.ordered || n.Kind == KindSink
		}
	}
	for i := len(p.Nodes) - 1; i >= 0; i-- {
		n := p.Nodes[i]
		if n.Kind == KindSink {
			n.sinks = []*Node{n}
			continue
		}
		for _, m := range p.Nodes {
			if m.Kind != KindSink {
				continue
			}
			for _, next := range n.next {
				if reaches(next, m) {
					n.sinks = append(n.sinks, m)
					break
				}
			}
		}
	}
}

func reaches(n, sink *Node) bool {
	if n == sink {
		return true
	}
	for _, s := range n.sinks {
		if s == sink {
			return true
		}
	}
	return false
}

// Qualified is the partition's name with its source's.
func (c *Chunk) Qualified() string {
	if c.lane == nil {
		return c.Partition
	}
	return c.lane.name
}

// Slice gives the trace of rows i to j-1.
func (t *Trace) Slice(i, j int) Trace {
	out := Trace{Chunk: t.Chunk, Base: t.Base + i}
	if t.From != nil {
		out.From, out.Base = t.From[i:j:j], 0
	}
	if ord := t.Ordinals(); ord != nil { // a record's rows may be parted here, or were before
		out.Ord = ord[i:j:j]
	}
	return out
}

// Origins finds records (ascending) in the chunk; what a source leaves out is
// filled in.
func (t *Trace) Origins(records []int) []Origin {
	found := t.Chunk.Locate(records)
	for i := range found {
		found[i].Partition = t.Chunk.Qualified()
	}
	return found
}

// Offsets finds the offsets of records (ascending).
func (t *Trace) Offsets(records []int, out []int64) {
	if t.Chunk.Offsets != nil {
		t.Chunk.Offsets(records, out)
		return
	}
	for i, o := range t.Chunk.Locate(records) {
		out[i] = o.Offset
	}
}

// Partition is a partition that a source wants to read.
type Partition struct {
	Name, Log string
	Kept      Position // by the source itself; see leat.Partition
	Given     uint64
}
