// Package folder makes a log of a folder of files: the part that all file sources
// share. It knows no file format.
//
// A folder is one partition (rule D6). Its ledger gives each file a range of
// offsets, once and for ever, before the first row of the file is sent; the format
// says how wide the range is and where in it a record is. So an offset means the
// same record after any restart.
//
// The life of a file:
//
//	Entries  scans, hashes and enters files into the ledger (pending, skipped, failed)
//	Begin    opens the file, proves that it is the one that was entered (processing)
//	Sent     remembers how far its records have gone
//	End      says that there is nothing more in it, or what is wrong with it
//	Commit   hears how far everything is durable; writes the final status, then moves
//
// What a crash between two of these leaves behind is repaired by Start. Where to
// look:
//
//	entry.go    what the ledger knows of a file
//	ledger.go   the file itself: append, sync, read, repair
//	lock_*.go   one process per folder
//	config.go   which files, and what becomes of them
//	scan.go     which files are there
//	enter.go    hash, duplicates, entering
//	read.go     reading a file that must not change
//	folder.go   the log: start, entries, commit
//	move.go     processed/ and failed/
package folder
