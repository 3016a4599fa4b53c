package leat

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/leatgo/leat/internal/engine"
)

// Config is how a pipeline runs. The zero value is safe: no default loses a row.
type Config struct {
	// StateDir holds checkpoints, source ledgers and dead letters. It must
	// outlive the process. Defaults to leat-state/<pipeline>.
	StateDir string

	// State is where positions and the state of stages are kept, when several processes
	// share the work (rule H1); package state has one in PostgreSQL. StateDir then keeps
	// only what is a process's own, so each needs one of its own: dead letters and
	// ledgers. Counters begin anew with each process, and Replay is refused. Defaults to
	// StateDir, for one process alone.
	State StateStore

	// Reconfigure names stages with state that are configured otherwise than what the saved
	// state was made with (see Fingerprinted), that are new, or that are gone and whose
	// state is to be deleted. Such a pipeline is refused otherwise, and also when the
	// last stop was not clean (rule E7-4): that one must be finished with the old
	// configuration. Names can stay here; they allow every later change too.
	Reconfigure []string

	// NewSinks names sinks that start where the pipeline stands, instead of getting all that
	// was read before. With stages with state a new sink is refused otherwise (rule
	// E7-4). It is only about partitions of which the sink holds nothing yet.
	NewSinks []string

	// Version of the program, kept in dead letters.
	Version string

	// Require is the guarantee that every path from a source to a sink must
	// give; Check refuses the pipeline otherwise. Defaults to AtLeastOnce.
	Require Guarantee

	// CheckpointEvery is the time between checkpoints: how much is read again
	// after a crash. State that grows fast brings them sooner, see Sized. Defaults to 1 s.
	CheckpointEvery time.Duration

	// ForceCheckpoints lets no sink answer "not yet" to a checkpoint: with a source that
	// can have little uncommitted input (see Limited), behind which a sink of files would
	// otherwise wait for rows that can't come. It costs a file per checkpoint.
	ForceCheckpoints bool

	// BudgetBytes and BudgetBatches bound what is in flight between sources and
	// sinks; throughput and memory are limited by them. Default to 32 MiB of
	// estimated raw and decoded bytes, and 1,024 batches.
	BudgetBytes   int64
	BudgetBatches int

	// DrainTimeout bounds the orderly stop; what did not commit by then is read
	// again at the next start. Defaults to 30 s.
	DrainTimeout time.Duration

	// Retry is how transient failures are retried.
	Retry Retry

	// Breaker stops the pipeline when too many rows are rejected (rule B7).
	Breaker Breaker

	// OnReject says per class what becomes of a rejected row (rule B2).
	// A class that is missing goes to the dead letters.
	OnReject map[Class]Policy

	// DeadLetters keeps rejected rows. Defaults to DeadLetterFile of
	// dead-letters.jsonl in StateDir.
	DeadLetters DeadLetterLog

	// Middleware is Watermill middleware around the handler of this pipeline. It
	// sees one message per batch, without payload. See docs/DESIGN.md for the
	// ones that answer for the handler and are refused (rule K2).
	Middleware []message.HandlerMiddleware

	// Logger defaults to slog.Default().
	Logger *slog.Logger

	// Observe is called after each batch, commit, retry and so on, from several
	// goroutines at once. It must return quickly: throughput is limited by it.
	Observe func(Event)
}

// Retry is exponential backoff with 20 % jitter.
type Retry struct {
	First    time.Duration // wait before the first retry; defaults to 1 s, then doubles
	Max      time.Duration // longest wait; defaults to 30 s
	Attempts int           // give up after so many, Run then returns the error and nothing is lost; 0 = never
}

// Breaker trips when more than Share of the last Window rows were rejected and
// at least Min rows have been seen.
type Breaker struct {
	Share  float64 // defaults to 0.5; -1 switches the breaker off
	Window int     // defaults to 1,000
	Min    int     // defaults to 100
}

// Policy says what becomes of a rejected row (rule B2).
type Policy uint8

// The policies.
const (
	DeadLetterRow Policy = iota // keep it with its bytes in the dead letters, go on
	FailPartition               // stop the pipeline before the row
	SkipRow                     // drop it; it is counted
	RejectFile                  // refuse the whole file: Decode and Contract only, and a source of files
)

// Pipeline is a graph of sources, stages and sinks. Build it with From, Via,
// Merge and To, then Run or Mount it, once. Building is not safe for concurrent
// use; Stats is.
type Pipeline struct {
	name   string
	config Config
	nodes  []*node
	faults []error
	member int // of Replicas

	mu     sync.Mutex
	engine *engine.Engine
}

// node is one place of the graph with the value the user gave for it.
type node struct {
	engine *engine.Node
	impl   any

	// Of a source with a LetterDecoder; see decodeLetters.
	decode    func(c *engine.Chunk, letters []DeadLetter, fault error) engine.Batch
	decodable func(l DeadLetter) error
}

// New starts a pipeline. The name keys positions, metrics and the state folder:
// it must be stable. New does no I/O and can't fail; Check tells what is wrong.
func New(name string, c Config) *Pipeline { return &Pipeline{name: name, config: c} }

// Name is the name given to New.
func (p *Pipeline) Name() string { return p.name }

func (p *Pipeline) add(kind engine.Kind, name string, in ...*node) *node {
	n := &node{engine: &engine.Node{Name: name, Kind: kind}}
	for _, i := range in {
		n.engine.In = append(n.engine.In, i.engine)
	}
	p.nodes = append(p.nodes, n)
	return n
}

// StateDir is the folder in which the pipeline keeps its state.
func (p *Pipeline) StateDir() string {
	if p.config.StateDir != "" {
		return p.config.StateDir
	}
	return filepath.Join("leat-state", p.name)
}

func (p *Pipeline) deadLetters() DeadLetterLog {
	if p.config.DeadLetters != nil {
		return p.config.DeadLetters
	}
	return DeadLetterFile(filepath.Join(p.StateDir(), "dead-letters.jsonl"))
}

// Check reports every fault of the pipeline, joined, and opens nothing.
func (p *Pipeline) Check() error {
	faults := append([]error(nil), p.faults...)
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }

	if p.name == "" {
		fault("the pipeline has no name")
	} else if strings.ContainsAny(p.name, "/\\\x00") || p.name == "." || p.name == ".." {
		fault("pipeline name %q: it names a folder, so it can't hold / or \\, or be . or ..", p.name)
	}
	c := p.config
	for _, f := range []struct {
		field    string
		negative bool
	}{
		{"CheckpointEvery", c.CheckpointEvery < 0}, {"DrainTimeout", c.DrainTimeout < 0},
		{"BudgetBytes", c.BudgetBytes < 0}, {"BudgetBatches", c.BudgetBatches < 0},
		{"Retry.First", c.Retry.First < 0}, {"Retry.Max", c.Retry.Max < 0}, {"Retry.Attempts", c.Retry.Attempts < 0},
		{"Breaker.Window", c.Breaker.Window < 0}, {"Breaker.Min", c.Breaker.Min < 0},
	} {
		if f.negative {
			fault("Config.%s can't be negative", f.field)
		}
	}
	if c.Require > ExactlyOnce {
		fault("Config.Require %d: there is no such guarantee", c.Require)
	}
	if c.Breaker.Share > 1 || (c.Breaker.Share < 0 && c.Breaker.Share != -1) {
		fault("Config.Breaker.Share %v: it is a share from 0 to 1, or -1 for off", c.Breaker.Share)
	}

	names := map[string]int{}
	used := map[*engine.Node]bool{}
	sources := 0
	for _, n := range p.nodes {
		names[n.engine.Name]++
		for _, in := range n.engine.In {
			used[in] = true
		}
		if n.engine.Kind == engine.KindSource {
			sources++
		}
		if n.engine.Kind == engine.KindStage && (n.engine.Name == "" || strings.HasPrefix(n.engine.Name, "@")) {
			fault("stage name %q: it must not be empty or begin with @", n.engine.Name)
		}
		if v, ok := n.impl.(Validator); ok {
			if err := v.Validate(); err != nil {
				fault("%s: %w", n.engine.Name, err)
			}
		}
	}
	faults = append(faults, sharedObjects(p)...)
	if sources == 0 {
		fault("the pipeline has no source: use From")
	}
	for _, n := range p.nodes {
		name := n.engine.Name
		if names[name] > 1 {
			fault("two nodes are named %q: names key positions and metrics; set Name in one Config", name)
			names[name] = 0
		}
		for _, o := range p.nodes {
			if n.engine.Kind == engine.KindSource && o.engine.Kind == engine.KindSource && strings.HasPrefix(o.engine.Name, name+"/") {
				fault("the sources %q and %q may have partitions with one name, such as %[2]q: positions are kept by it; give one of them another Name", name, o.engine.Name)
			}
		}
		if n.engine.Kind != engine.KindSink && !used[n.engine] {
			fault("nothing reads %q: end the flow with To", name)
		}
	}
	for _, class := range slices.Sorted(maps.Keys(c.OnReject)) {
		if !slices.Contains(rejectClasses, class) {
			fault("Config.OnReject[%s]: rows are rejected with the classes %v only (rule B1)", class, rejectClasses)
		}
		if c.OnReject[class] > RejectFile {
			fault("Config.OnReject[%s]: there is no policy %d", class, c.OnReject[class])
		}
		if c.OnReject[class] != RejectFile {
			continue
		}
		if class != Decode && class != Contract {
			fault("rule B2: Config.OnReject[%s] is RejectFile: a file can be refused for rows of class Decode and Contract only", class)
		}
		for _, n := range p.nodes {
			if f, ok := n.impl.(FileRejecter); n.engine.Kind == engine.KindSource && (!ok || !f.CanRejectFiles()) {
				fault("rule B2: Config.OnReject[%s] is RejectFile, but %s reads no files, or can't refuse one", class, n.engine.Name)
			}
		}
	}
	for i, m := range c.Middleware {
		if m == nil {
			fault("Config.Middleware[%d] is nil", i)
		}
	}
	for _, name := range c.NewSinks {
		if !slices.ContainsFunc(p.nodes, func(n *node) bool { return n.engine.Kind == engine.KindSink && n.engine.Name == name }) {
			fault("Config.NewSinks: there is no sink %q", name)
		}
	}
	if v, ok := c.State.(Validator); ok && !isNil(c.State) {
		if err := v.Validate(); err != nil {
			fault("Config.State: %w", err)
		}
	}
	faults = append(faults, p.checkPaths()...)
	faults = append(faults, p.checkCommits()...)
	if len(faults) == 0 {
		return nil
	}
	return fmt.Errorf("pipeline %s: %w", p.name, errors.Join(faults...))
}

// Path is one way from a source to a sink and what it guarantees (rule E5).
type Path struct {
	Source, Sink string
	Guarantee    Guarantee
}

// Guarantees computes what each path from a source to a sink gives.
func (p *Pipeline) Guarantees() []Path {
	var paths []Path
	for _, n := range p.nodes {
		if n.engine.Kind != engine.KindSink {
			continue
		}
		g := AtLeastOnce
		if d, ok := n.impl.(Guaranteed); ok {
			g = d.Guarantee()
		}
		for _, src := range upstream(n.engine, engine.KindSource) {
			pg := g
			// Rule A2-2: skipping what a sink holds needs the same offsets again.
			if pg == ExactlyOnce && src.Source != nil && src.Source.Replay != engine.ReplayExact {
				pg = AtLeastOnce
			}
			paths = append(paths, Path{src.Name, n.engine.Name, pg})
		}
	}
	return paths
}

func (p *Pipeline) checkPaths() (faults []error) {
	for _, path := range p.Guarantees() {
		if path.Guarantee < p.config.Require {
			faults = append(faults, fmt.Errorf("rule E5: %s → %s gives %q, but Config.Require asks for %q",
				path.Source, path.Sink, path.Guarantee, p.config.Require))
		}
	}
	for _, n := range p.nodes {
		if n.engine.Kind != engine.KindStage || n.engine.Stage == nil || n.engine.Stage.State == nil {
			continue
		}
		sources := upstream(n.engine, engine.KindSource)
		if one, ok := n.impl.(SingleSource); ok && one.SingleSource() && len(sources) > 1 {
			faults = append(faults, fmt.Errorf("rule C6: stage %s sees the rows of each partition apart, and rows of sources %s that belong together are in several: "+
				"give each source a stage of its own, before the Merge, if they have nothing in common, or let the sink's key decide", n.engine.Name, namesOf(sources)))
		}
		for _, src := range sources {
			if src.Source != nil && src.Source.Replay == engine.ReplayNone {
				faults = append(faults, fmt.Errorf("rule A2-2: stage %s keeps state, but source %s can't be read again", n.engine.Name, src.Name))
			}
		}
	}
	return faults
}

// checkCommits finds sources and sinks that can't commit together.
func (p *Pipeline) checkCommits() (faults []error) {
	letters := joinedWith(p.config.DeadLetters)
	together := letters == nil
	type first struct {
		sink   string
		joined any
	}
	binds := map[any]first{} // by source, which sink commits its positions
	for _, n := range p.nodes {
		if n.engine.Kind != engine.KindSink {
			continue
		}
		together = together || joinedWith(n.impl) == letters
		bound, isBound := n.impl.(Bound)
		if isBound && bound.BoundTo() != nil {
			// Rule J3: the source has one position for all of them. What one commits, another one
			// would take for its own after a crash, and miss the rows between (rule E7).
			joined := joinedWith(n.impl)
			if other, ok := binds[bound.BoundTo()]; !ok {
				binds[bound.BoundTo()] = first{n.engine.Name, joined}
			} else if joined == nil || other.joined != joined {
				faults = append(faults, fmt.Errorf("rule J3: sinks %s and %s both commit the positions of one source, each for itself: "+
					"give them one transaction", other.sink, n.engine.Name))
			}
		}
		deferring, ok := n.impl.(Deferring)
		defers := ok && deferring.MayDefer() && !p.config.ForceCheckpoints
		for _, src := range p.nodes {
			if src.engine.Kind != engine.KindSource || !slices.Contains(upstream(n.engine, engine.KindSource), src.engine) {
				continue
			}
			if isBound && bound.BoundTo() != nil && bound.BoundTo() != src.impl {
				faults = append(faults, fmt.Errorf("rule J3: sink %s commits positions of another source than %s, which reaches it: "+
					"give its transaction that source, or the sink none", n.engine.Name, src.engine.Name))
			}
			if limited, ok := src.impl.(Limited); ok && defers && limited.MaxUncommitted() > 0 {
				faults = append(faults, fmt.Errorf("rule E9: source %s can have only %d records uncommitted, and sink %s behind it waits for many before it commits: "+
					"set Config.ForceCheckpoints, which makes it commit (a file) at each checkpoint", src.engine.Name, limited.MaxUncommitted(), n.engine.Name))
			}
		}
	}
	if !together {
		faults = append(faults, errors.New("Config.DeadLetters commits together with a sink that the pipeline has not got: add a sink of that transaction, or use a log of its own"))
	}
	return faults
}

// Replicas builds n members of one consumer group for one process: leat.Run(ctx, leat.Replicas(4, build)...).
// build is called with 0 to n-1 and must make pipelines that are alike, each with a source, sinks and
// stages of its own. They share positions and differ in their state folder: unless build sets Config.StateDir,
// member i gets leat-state/<pipeline>/member-<i>.
func Replicas(n int, build func(member int) *Pipeline) []*Pipeline {
	out := make([]*Pipeline, max(n, 0)) // Run says what is wrong with none
	for i := range out {
		p := build(i)
		if p.config.StateDir == "" {
			p.config.StateDir = filepath.Join("leat-state", p.name, fmt.Sprintf("member-%d", i))
		}
		p.member = i
		out[i] = p
	}
	return out
}

func namesOf(nodes []*engine.Node) string {
	names := make([]string, len(nodes))
	for i, n := range nodes {
		names[i] = n.Name
	}
	return strings.Join(names, " and ")
}

// upstream lists the nodes of a kind from which n can be reached, once each.
func upstream(n *engine.Node, kind engine.Kind) []*engine.Node {
	var out []*engine.Node
	seen := map[*engine.Node]bool{}
	var walk func(*engine.Node)
	walk = func(n *engine.Node) {
		for _, in := range n.In {
			if !seen[in] {
				seen[in] = true
				if in.Kind == kind {
					out = append(out, in)
				}
				walk(in)
			}
		}
	}
	walk(n)
	return out
}

// Run checks the pipeline and runs it on a Watermill router of its own until
// the input ends, ctx ends or it fails. It returns nil at the end of the input
// and after a clean drain on cancel; otherwise *Error, a fault of Check, or
// both. A Pipeline can be run once.
func (p *Pipeline) Run(ctx context.Context) error { return Run(ctx, p) }

// Run runs several pipelines on one router until all have ended. When one
// fails the others are drained and stopped.
func Run(ctx context.Context, pipelines ...*Pipeline) error {
	if len(pipelines) == 0 { // for which the router would wait, for ever
		return errors.New("Run: no pipeline given")
	}
	var errs []error
	for _, p := range pipelines {
		errs = append(errs, p.Check())
	}
	if len(pipelines) > 1 {
		errs = append(errs, sharedObjects(pipelines...)...)
		errs = append(errs, sharedPlaces(pipelines...)...)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	plans := make([]*engine.Plan, len(pipelines))
	for i, p := range pipelines {
		plans[i] = p.plan()
	}
	return runPlans(ctx, pipelines, plans)
}

// runPlans runs pipelines by their plans.
func runPlans(ctx context.Context, pipelines []*Pipeline, plans []*engine.Plan) error {
	router := engine.NewRouter()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	handles := make([]*Handle, 0, len(pipelines))
	for i, p := range pipelines {
		h, err := p.mountPlan(ctx, router, plans[i])
		if err != nil {
			return err
		}
		handles = append(handles, h)
	}
	errs := make([]error, len(handles)+1)
	var wg sync.WaitGroup
	for i, h := range handles {
		wg.Go(func() {
			if errs[i] = h.Wait(); errs[i] != nil {
				cancel() // one failed: drain the others
			}
		})
	}
	// The router gets a context that never ends: it would cancel what is in
	// flight, while a pipeline has to drain first (rule A7).
	if err := router.Run(context.WithoutCancel(ctx)); err != nil {
		cancel()
		errs[len(handles)] = err
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Mount adds the pipeline to a router that the program already has. It starts
// when the router runs; a router that closes first drains it.
func (p *Pipeline) Mount(router *message.Router) (*Handle, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	return p.mount(context.Background(), router)
}

// Handle is a mounted pipeline.
type Handle struct {
	p *Pipeline
	e *engine.Engine
}

// Wait blocks until the pipeline has ended and returns what Run would have
// returned.
func (h *Handle) Wait() error { return h.p.publicError(h.e.Wait()) }

// Stop drains the pipeline and ends it; it does not wait.
func (h *Handle) Stop() { h.e.Stop() }

func (p *Pipeline) mount(ctx context.Context, router *message.Router) (*Handle, error) {
	return p.mountPlan(ctx, router, p.plan())
}

func (p *Pipeline) mountPlan(ctx context.Context, router *message.Router, plan *engine.Plan) (*Handle, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.engine != nil {
		return nil, p.usedUp()
	}
	e := engine.New(ctx, plan)
	if err := e.Attach(router); err != nil {
		e.Stop()
		return nil, err
	}
	p.engine = e
	return &Handle{p, e}, nil
}

func (p *Pipeline) usedUp() error {
	return fmt.Errorf("pipeline %s: it was run before; build a new one", p.name)
}

func (p *Pipeline) plan() *engine.Plan {
	c := p.config
	plan := &engine.Plan{Pipeline: p.name, Version: c.Version, Member: p.member}
	for _, n := range p.nodes {
		plan.Nodes = append(plan.Nodes, n.engine)
	}
	logger := c.Logger
	if logger == nil {
		logger = slog.Default()
	}
	letters := p.deadLetters()
	plan.Config = engine.Config{
		StateDir:         p.StateDir(),
		CheckpointEvery:  p.checkpointEvery(),
		ForceCheckpoints: c.ForceCheckpoints,
		BudgetBytes:      or(c.BudgetBytes, 32<<20),
		BudgetBatches:    or(c.BudgetBatches, 1024),
		DrainTimeout:     or(c.DrainTimeout, 30*time.Second),
		Retry: engine.Retry{
			First:    or(c.Retry.First, time.Second),
			Max:      or(c.Retry.Max, 30*time.Second),
			Attempts: c.Retry.Attempts,
		},
		BreakerShare:  or(c.Breaker.Share, 0.5),
		BreakerWindow: or(c.Breaker.Window, 1000),
		BreakerMin:    or(c.Breaker.Min, 100),
		Policy:        func(class engine.Class) engine.Policy { return engine.Policy(c.OnReject[Class(class)]) },
		Letters:       erasedLetters{letters},
		LettersJoined: joinedWith(letters),
		Middleware:    c.Middleware,
		Reconfigure:   c.Reconfigure,
		NewSinks:      c.NewSinks,
		Logger:        logger.With("pipeline", p.name),
	}
	if !isNil(c.State) {
		plan.Config.State = eraseState(c.State)
	}
	if c.Observe != nil {
		plan.Config.Observe = func(e engine.Event) {
			if e.Kind == engine.EventStopped {
				e.Err = p.publicError(e.Err) // as Run returns it
			}
			c.Observe(Event(e))
		}
	}
	return plan
}

// checkpointEvery is Config.CheckpointEvery, or less when a sink can't wait that long.
func (p *Pipeline) checkpointEvery() time.Duration {
	every := or(p.config.CheckpointEvery, time.Second)
	for _, n := range p.nodes {
		if s, ok := n.impl.(Prompt); ok && s.CommitWithin() > 0 {
			every = min(every, s.CommitWithin())
		}
	}
	return every
}

// joinedWith is what a sink or a log commits together with; nil: with nothing.
func joinedWith(v any) any {
	if j, ok := v.(Joined); ok {
		return j.JoinedWith()
	}
	return nil
}

// or is v, or the default when v is zero.
func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

func (p *Pipeline) publicError(err error) error {
	if err == nil {
		return nil
	}
	out := &Error{Pipeline: p.name, Offset: -1, Err: err}
	if e, ok := errorsAs[*engine.Error](err); ok {
		out.Node, out.Partition, out.Offset, out.Class = e.Node, e.Partition, e.Offset, Class(e.Class)
		if err == error(e) {
			out.Err = e.Err
		}
	}
	return out
}
