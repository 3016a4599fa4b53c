// Package leattest is for tests of pipelines, and of the parts that people write for
// them. It runs the real engine, links the standard library and leat only, and names the
// rule that a failure breaks (docs/testing.md tells how to use it, with whole tests).
//
//   - [Rows] and [Collect] are ends in memory, which fail on request.
//   - [Stage] runs rows through one stage; [Run] runs a whole pipeline and fails the
//     test when rows are not conserved or a goroutine is left over.
//   - [TestSource], [TestSink] and [TestStage] are for authors: they hold a source, sink
//     or stage against its contract. [TestRecovery] does so with a whole pipeline, by
//     cutting it off between any two calls to the outside.
//
// # Time
//
// Tests run in a bubble of testing/synctest unless asked not to: waits for retries,
// checkpoints and timers cost nothing, and a pipeline that hangs is found out. What waits
// for the network or for notifications of the file system keeps a bubble's clock from
// moving; such tests set RealTime. Of our adapters that is a source of files with Watch
// and without PollOnly; all others run in a bubble.
//
// # Chance
//
// Splits of batches, interleavings and places of faults are drawn. The seed is logged;
// LEATTEST_SEED=n draws the same again. -short draws less.
//
// # Memory
//
// A test that links leattest runs with rows that become zeros once they were given back,
// so that who keeps a batch longer than allowed reads wrong rows and fails.
package leattest

import (
	"testing"

	"github.com/leatgo/leat/internal/engine"
)

func init() {
	if testing.Testing() {
		engine.Scrub = true
	}
}
