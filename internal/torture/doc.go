// Package torture has no code, only tests: whole pipelines, each in a process of its
// own, are killed, run out of disk, are given errors by the kernel and have their power
// cut, and what is left is compared with what went in. Rows lost and rows there twice
// are counted and printed; both must be 0, whatever happened.
//
//	world_test.go   the pipeline, the sources and sinks that are put into it, the comparison
//	kill_test.go    kill -9: at random, at each system call, again and again during recovery
//	disk_test.go    no space, I/O errors, folders that can't be written
//	power_test.go   power cuts: what was not flushed is gone
//	slow_test.go    a sink that is slow for minutes
//
// A source or sink that is new gets a line in the tables of world_test.go.
//
// They are short by default. LEAT_LONG=1 makes them long; `make torture` kills 1,000
// times per sink.
package torture
