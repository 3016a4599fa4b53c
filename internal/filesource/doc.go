// Package filesource is the part that all sources of files share: the run from scan to
// scan, resuming in the middle of a file, counting what a crash made the ledger forget,
// files refused whole, checkpoints. A format says what a file's columns are and cuts its
// records into pieces; package folder keeps the ledger.
//
//	config.go   the fields that the Configs of all such sources have
//	format.go   what a format has to give
//	source.go   the source, from Open to Close
//	reader.go   reading one file, from where this life starts
//	text.go     texts that may be compressed
package filesource
