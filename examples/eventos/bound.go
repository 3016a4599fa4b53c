package main

import (
	"os"
	"runtime/debug"

	"github.com/leatgo/leat"
)

// bound keeps the process small: the garbage collector works more when it would go beyond 200 MiB, which is
// enough for 2 million ids, or beyond what the ids need. GOMEMLIMIT in the environment goes first.
func bound(p *leat.Pipeline) func(leat.Event) {
	const least, rest = 200 << 20, 110 << 20
	if os.Getenv("GOMEMLIMIT") != "" {
		return func(leat.Event) {}
	}
	debug.SetMemoryLimit(least)
	return func(e leat.Event) {
		if e.Kind != leat.EventCheckpoint {
			return
		}
		var ids int64
		for _, s := range p.Stats().State {
			ids += s.Bytes
		}
		debug.SetMemoryLimit(max(least, rest+ids*5/4))
	}
}
