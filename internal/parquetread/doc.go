// Package parquetread reads Parquet files into rows, fast and without trust in what
// they say.
//
// It has its own decoders, from the footer to the values, for two reasons. A library
// allocates what a file declares: a list of two thousand million elements in a footer
// of twenty bytes, a page that unfolds to gigabytes, a run of so many equal values. Out
// of memory can't be recovered. And rows are wanted column by column, a few thousand at
// a time, not a page or a row group at a time.
//
// The files in the order of the journey:
//
//	thrift.go    the footer's encoding: nothing is allocated by a declared size
//	meta.go      footer and schema, checked against the file's size and against Limits
//	types.go     what the values of a column mean
//	compress.go  a page's bytes, unfolded to exactly the size its header declares
//	column.go    one column of one row group: its pages, as segments of values
//	encoding.go  the decoders of levels and values, a few at a time
//	reader.go    rows from any number on, in pieces; what is damaged, and from which row on
//	plan.go      columns of a file to those of a row type, by name
//	fill.go      segments to fields
//	json.go      a row as the file has it, for dead letters, and back
//	wire.go      pieces through a pipe, from a process that may die of them
//
// A piece ([Piece]) is some thousand rows as columns of values, checked in form: making
// rows of it ([Plan.Fill]) can refuse single rows, and nothing else.
//
// Where damage begins, in rows, depends on the file's bytes only: never on how many
// rows a piece has, or where reading began.
package parquetread
