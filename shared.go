package leat

import (
	"fmt"
	"reflect"
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
			if t := reflect.TypeOf(n.impl); t.Kind() != reflect.Pointer || t.Elem().Size() == 0 {
				continue // what has no memory of its own
			}
			if first := seen[n.impl]; first != nil && first != n {
				faults = append(faults, fmt.Errorf("the stages %q and %q are one object, but what a stage with state remembers belongs to one node: make one for each", first.engine.Name, n.engine.Name))
			}
			seen[n.impl] = n
		}
	}
	return faults
}
