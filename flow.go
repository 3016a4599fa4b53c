package leat

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"

	"github.com/leatgo/leat/internal/engine"
)

// Flow is a stream of rows of one type at one place of a pipeline. Using a Flow
// more than once makes a branch: each reader sees every row.
type Flow[T any] struct {
	p    *Pipeline
	node *node
}

// From adds a source to the pipeline.
func From[T any](p *Pipeline, src Source[T]) Flow[T] {
	n := p.add(engine.KindSource, nameOf(src))
	if isNil(src) {
		p.faults = append(p.faults, errors.New("From: the source is nil"))
		return Flow[T]{p, n}
	}
	n.impl = src
	pool := new(rowPool[T])
	n.engine.Source = &engine.Source{
		Run: func(ctx context.Context, in *engine.Intake) error { return src.Run(ctx, Intake[T]{in, pool}) },
		Commit: func(ctx context.Context, cp engine.Checkpoint) error {
			return src.Commit(ctx, publicCheckpoint(cp))
		},
	}
	if r, ok := src.(Replayer); ok {
		n.engine.Source.Replay = engine.Replay(r.Replay())
	}
	if d, ok := src.(LetterDecoder[T]); ok {
		n.decode = func(c *engine.Chunk, letters []DeadLetter, fault error) engine.Batch {
			return decodeLetters(d, c, letters, fault)
		}
		n.decodable = func(l DeadLetter) error { return decodeLetter(d, l, &Batch[T]{}, 0) }
	}
	if c, ok := src.(io.Closer); ok {
		n.engine.Source.Close = c.Close
	}
	return Flow[T]{p, n}
}

// Via passes a flow through a stage. The name keys metrics, dead letters and
// saved state, so it must be unique in the pipeline and stable.
func Via[In, Out any](f Flow[In], name string, st Stage[In, Out]) Flow[Out] {
	n := f.p.add(engine.KindStage, name, f.node)
	if isNil(st) {
		f.p.faults = append(f.p.faults, fmt.Errorf("Via %q: the stage is nil", name))
		return Flow[Out]{f.p, n}
	}
	n.impl = st
	es := &engine.Stage{InBytes: int64(reflect.TypeFor[In]().Size()), RowBytes: int64(reflect.TypeFor[Out]().Size()), Concat: mergeBatches[Out]}
	pool := new(rowPool[Out])
	es.Process = func(ctx context.Context, in engine.Batch) (engine.Batch, error) {
		typed := (*Batch[In])(in.(*erased[In]))
		out := pool.batch()
		out.in, out.inRow = &typed.trace, func(i int) []byte { return rowJSON(&typed.rows[i]) }
		out.trace.Chunk = typed.trace.Chunk
		if err := st.Process(ctx, typed, out); err != nil {
			return nil, err
		}
		out.in, out.inRow = nil, nil
		out.made()
		return (*erased[Out])(out), nil
	}
	if b, ok := st.(Blocking); ok {
		es.Blocking = b.Blocking()
	}
	if s, ok := st.(Stateful); ok {
		es.State = &engine.State{Restore: s.Restore, Delta: s.Delta, Snapshot: s.Snapshot}
		if a, ok := st.(AppendOnly); ok {
			es.State.AppendOnly = a.AppendOnly()
		}
		if z, ok := st.(Sized); ok {
			es.State.Size = func() (bytes int64) { _, bytes = z.StateSize(); return bytes }
		}
		if f, ok := st.(Fingerprinted); ok {
			es.State.Fingerprint = f.Fingerprint
		}
	}
	n.engine.Stage = es
	return Flow[Out]{f.p, n}
}

// Merge joins flows of one row type. Rows that came from one chunk by several
// branches are put back in order (rule G2-1).
func Merge[T any](flows ...Flow[T]) Flow[T] {
	if len(flows) == 0 {
		p := New("", Config{})
		p.faults = append(p.faults, errors.New("Merge: no flows given"))
		return Flow[T]{p, p.add(engine.KindMerge, "merge")}
	}
	p := flows[0].p
	nodes := make([]*node, len(flows))
	for i, f := range flows {
		nodes[i] = f.node
		if f.p != p {
			p.faults = append(p.faults, fmt.Errorf("Merge: the flows belong to two pipelines, %q and %q", p.name, f.p.name))
		}
	}
	n := p.add(engine.KindMerge, fmt.Sprintf("merge-%d", len(p.nodes)), nodes...)
	n.engine.Merge = mergeBatches[T]
	return Flow[T]{p, n}
}

// To ends a flow in sinks; each of them gets every row.
func To[T any](f Flow[T], sinks ...Sink[T]) {
	if len(sinks) == 0 {
		f.p.faults = append(f.p.faults, fmt.Errorf("To: no sink given behind %q", f.node.engine.Name))
	}
	for _, s := range sinks {
		n := f.p.add(engine.KindSink, nameOf(s), f.node)
		if isNil(s) {
			f.p.faults = append(f.p.faults, fmt.Errorf("To: a sink behind %q is nil", f.node.engine.Name))
			continue
		}
		n.impl = s
		es := &engine.Sink{Close: s.Close}
		es.Open = func(ctx context.Context, env engine.Env) error { return s.Open(ctx, Env(env)) }
		es.Write = func(ctx context.Context, b engine.Batch) ([]engine.RowError, error) {
			err := s.Write(ctx, (*Batch[T])(b.(*erased[T])))
			refused, ok := errorsAs[*RowErrors](err)
			if !ok {
				return nil, err
			}
			rows := make([]engine.RowError, len(refused.Rows))
			for i, r := range refused.Rows {
				rows[i] = engine.RowError(r)
			}
			return rows, err
		}
		es.Commit = func(ctx context.Context, cp engine.Checkpoint) (bool, error) {
			return s.Commit(ctx, publicCheckpoint(cp))
		}
		if t, ok := s.(Transactional); ok {
			es.Restore = func(ctx context.Context, partitions []string) (map[string]engine.Position, error) {
				at, err := t.Restore(ctx, partitions)
				if err != nil {
					return nil, err
				}
				out := make(map[string]engine.Position, len(at))
				for name, p := range at {
					out[name] = engine.Position(p)
				}
				return out, nil
			}
		}
		if j, ok := s.(Joined); ok {
			es.Joined = j.JoinedWith()
		}
		n.engine.Sink = es
	}
}

func publicCheckpoint(cp engine.Checkpoint) Checkpoint {
	out := Checkpoint{Seq: cp.Seq, Force: cp.Force, CaughtUp: cp.CaughtUp, Positions: make(map[string]Position, len(cp.Positions))}
	for name, p := range cp.Positions {
		out.Positions[name] = Position(p)
	}
	return out
}

// nameOf is the name that a source or sink gives itself; a nameless one is
// called after its type, and Check complains when two share it.
func nameOf(v any) string {
	if isNil(v) {
		return "nil"
	}
	if n, ok := v.(Named); ok && n.Name() != "" {
		return n.Name()
	}
	t := reflect.TypeOf(v)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	name := t.Name()
	for i, r := range name {
		if r == '[' { // Source[main.Venta] is called Source
			return name[:i]
		}
	}
	return name
}

func isNil(v any) bool {
	if v == nil {
		return true
	}
	rv := reflect.ValueOf(v)
	return rv.Kind() == reflect.Pointer && rv.IsNil()
}
