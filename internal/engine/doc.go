// Package engine moves batches from sources through stages to sinks on a
// Watermill router, and takes the checkpoints that make delivery exact.
//
// It knows no row types: package leat compiles a typed pipeline to a [Plan]
// whose functions hide them. The engine owns everything that has to be right
// once: order, backpressure, barriers, recovery, rejects, counters, shutdown.
//
// Where to look:
//
//	plan.go        what a pipeline is to the engine: nodes and their functions
//	engine.go      one run: generations, rewind, start and stop
//	generation.go  one life between two rewinds, and its end in order
//	intake.go      what a source may call: Assign, Send, CaughtUp
//	router.go      the Watermill side: subscriber, acks, middleware's faults
//	handler.go     the parallel part: decode and stateless stages
//	lane.go        the ordered part: reorder buffer, stateful stages, cuts
//	sink.go        sink workers: write, bisect, commit
//	checkpoint.go  the checkpoint loop: cuts taken, cuts complete
//	rerun.go       chunks of dead letters that are replayed
//	reject.go      dead letters, policies, breaker
//	counters.go    conservation of rows
//
// Locks: generation.mu guards lanes, budget and cuts. It is never held over
// user code, a queue or I/O (rule E10).
package engine
