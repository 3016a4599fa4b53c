// Package leat builds typed data pipelines, Source → Stage → Sink, that run on a
// Watermill router and deliver each row exactly once where the sink can.
//
// # A pipeline
//
//	p := leat.New("sales", leat.Config{})
//	rows := leat.From(p, csvsource.New(csvsource.Config[Sale]{Dir: "incoming"}))
//	good := leat.Via(rows, "contract", stage.Validate[Sale]())
//	rich := leat.Via(good, "enrich", stage.Map(enrich))
//	leat.To(rich, sqlitesink.New(sqlitesink.Config[RichSale]{Path: "sales.db", Table: "sales"}))
//	err := p.Run(ctx)
//
// [From], [Via], [Merge] and [To] only wire; [Pipeline.Check] reports every fault
// of the graph at once, and [Pipeline.Run] calls it first. A flow that is used
// twice is a branch. [Pipeline.Mount] adds a pipeline to a router that the program
// already has, and [Run] runs several.
//
// # Rows and columns
//
// A row is a struct. A column's name is the `leat:"name"` tag, else the json
// tag, else the field's name in snake_case; the same name is the CSV header, the
// JSON key and the SQL column. After the name, `time=LAYOUT` gives the layout of a
// text time, `key` marks the key columns of a sink, and `extra` the one map that keeps
// what a source finds and the row has no column for. Names that begin with @ are
// where a row came from: @file, @line, @topic, @partition, @offset, @key,
// @timestamp, @header.NAME. `leat:"-"` leaves a field out.
//
// # Guarantees
//
// About every Config.CheckpointEvery the engine cuts between two batches of each
// partition. Each sink commits its rows and the positions of the cut together
// ([Transactional]); the source hears of a cut only when every sink holds it. After
// a crash, or any trouble with an open commit, reading starts again at the last
// complete cut, and a sink that was ahead is not given again what it holds. What
// each path gives is computed from what its ends declare ([Pipeline.Guarantees])
// and can be demanded with Config.Require.
//
// A row that can't be decoded, breaks the contract, makes a function fail or panic,
// or is refused by a sink becomes a [DeadLetter], durable before any position
// moves past it. What is marked with [Transient] is retried instead.
//
// # Writing your own
//
// [Source], [Stage] and [Sink] have two, one and four methods, and their comments
// say who calls what when, who owns which memory, and what each error does.
// [Stateful], [Transactional], [Named], [Validator], [Guaranteed], [Replayer] and
// [Blocking] are small optional interfaces. Package leattest runs all of it in tests, and
// has suites that show whether a source, stage or sink keeps its contract: docs/testing.md.
//
// # Where to look
//
// flow.go wires, pipeline.go configures and runs, batch.go has what travels,
// source.go, stage.go and sink.go the contracts. docs/DESIGN.md explains the inside
// by task; docs/semantics.md has the rules that comments quote ("rule E8").
package leat
