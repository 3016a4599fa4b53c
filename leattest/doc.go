// Package leattest has in-memory ends for testing pipelines: [Rows] is a source
// and [Collect] a sink. Both keep what they know over several runs, so that a
// test can stop a pipeline, build it again and see what a restart does.
//
// It links the standard library and leat only. Time needs no help: run the
// pipeline in a testing/synctest bubble.
package leattest
