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
//	End      says that there is nothing more in it, or what is wrong with it; Refuse
//	         that nothing of it is wanted, Broken that the disk failed
//	Commit   hears how far everything is durable; writes the final status, then moves
//	Wait     waits for the next scan
//
// What a crash between two of these leaves behind is repaired by Start: an entry
// that was not begun or not finished is read from where the sinks stand; a final
// file is moved if it was not, found if it was, and freed of its second name or its
// copy if it was half moved. What was decided about a file that is not read whole (it
// is refused, or damaged) is durable before a row behind it is sent, so that a life
// that starts behind it knows.
//
// Where to look:
//
//	entry.go    what the ledger knows of a file
//	ledger.go   the file itself: append, sync, read, repair; what operators change
//	lock.go     one process per folder
//	config.go   which files, and what becomes of them
//	scan.go     which files are there
//	sight.go    which of them have changed, and stand still
//	enter.go    hash, duplicates, entering
//	skipped.go  duplicates that wait for the file they are skipped for
//	read.go     reading a file that must not change
//	folder.go   the log: start, entries, commit
//	move.go     processed/ and failed/
//	watch.go    from scan to scan; hints.go the file system's notifications
package folder
