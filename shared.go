package leat

import (
	"fmt"
	"path/filepath"
	"reflect"

	"github.com/leatgo/leat/internal/engine"
)

// sharedState finds stages with state that stand in two places. What such a stage remembers is by
// partition: two nodes or members would take each other's rows for their own, and one that gives a
// partition up would make the other forget it, all without a word.
func sharedState(pipelines ...*Pipeline) (faults []error) {
	seen := map[any]*node{}
	for _, p := range pipelines {
		for _, n := range p.nodes {
			if n.engine.Stage == nil || n.engine.Stage.State == nil {
				continue
			}
			if !isObject(n.impl) {
				continue
			}
			if first := seen[n.impl]; first != nil && first != n {
				faults = append(faults, fmt.Errorf("the stages %q and %q are one object, but what a stage with state remembers belongs to one node: make one for each", first.engine.Name, n.engine.Name))
			}
			seen[n.impl] = n
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

// sharedEnds finds sources and sinks that several pipelines of one program have. One is opened, run and
// closed by its pipeline, one call at a time: two would do so in the middle of each other's calls.
func sharedEnds(pipelines ...*Pipeline) (faults []error) {
	seen := map[any]int{}
	for i, p := range pipelines {
		for _, n := range p.nodes {
			if n.engine.Kind != engine.KindSource && n.engine.Kind != engine.KindSink || !isObject(n.impl) {
				continue
			}
			if first, there := seen[n.impl]; there && first != i {
				faults = append(faults, fmt.Errorf("pipelines %d (%s) and %d (%s) have one object as %s: make one for each (within the function that leat.Replicas is given)",
					first, pipelines[first].name, i, p.name, n.engine.Name))
			}
			seen[n.impl] = i
		}
	}
	return faults
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
