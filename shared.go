package leat

import (
	"fmt"
	"path/filepath"
	"reflect"

	"github.com/leatgo/leat/internal/engine"
)

// sharedObjects finds sources, sinks and stages with state that stand in two places. The calls to a
// source or a sink are one node's, and what a stage remembers is by partition: two nodes or members would
// take each other's rows for their own, and one that gives a partition up would make the other forget
// it, all without a word.
func sharedObjects(pipelines ...*Pipeline) (faults []error) {
	type object struct {
		kind engine.Kind
		impl any
	}
	seen := map[object]*node{}
	for _, p := range pipelines {
		for _, n := range p.nodes {
			what, why := "", ""
			switch {
			case n.engine.Source != nil:
				what, why = "sources", "a source is run by one node"
			case n.engine.Sink != nil:
				what, why = "sinks", "a sink is written to by one node"
			case n.engine.Stage != nil && n.engine.Stage.State != nil:
				what, why = "stages", "what a stage with state remembers belongs to one node"
			default:
				continue
			}
			if !isObject(n.impl) {
				continue
			}
			o := object{n.engine.Kind, n.impl}
			if first := seen[o]; first != nil && first != n {
				faults = append(faults, fmt.Errorf("the %s %q and %q are one object, but %s: make one for each", what, first.engine.Name, n.engine.Name, why))
			}
			seen[o] = n
		}
	}
	return faults
}

// isObject tells whether v has memory of its own, which who else has v has too.
func isObject(v any) bool {
	if isNil(v) {
		return false
	}
	t := reflect.TypeOf(v)
	return t.Kind() == reflect.Pointer && t.Elem().Size() > 0
}

// sharedPlaces finds pipelines of one program that would keep their own in one place. Two that
// append to one file of dead letters write over each other's; one with the state folder of another waits
// for it to end, which may be never; a StateStore keeps what its one pipeline has taken.
func sharedPlaces(pipelines ...*Pipeline) (faults []error) {
	seen := map[string]int{}
	stores := map[any]int{}
	for i, p := range pipelines {
		if st := p.config.State; isObject(st) {
			if first, there := stores[st]; there && first != i {
				faults = append(faults, fmt.Errorf("pipelines %d (%s) and %d (%s) have one object as Config.State: make one for each", first, pipelines[first].name, i, p.name))
			}
			stores[st] = i
		}
		own := []string{p.StateDir()}
		if f, is := p.deadLetters().(*letterFile); is {
			own = append(own, f.path)
		}
		for _, path := range own {
			if abs, err := filepath.Abs(path); err == nil {
				path = abs
			}
			if first, there := seen[path]; there && first != i {
				faults = append(faults, fmt.Errorf("pipelines %d (%s) and %d (%s) both keep their own in %s: give each a state folder and a file of dead letters of its own (leat.Replicas does so where Config.StateDir and Config.DeadLetters are not set)",
					first, pipelines[first].name, i, p.name, path))
			}
			seen[path] = i
		}
	}
	return faults
}
