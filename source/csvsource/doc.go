// Package csvsource reads folders, or lists, of CSV files as rows.
//
//	src := csvsource.New(csvsource.Config[Venta]{Dir: "incoming"})
//
// A run reads the files that are there and ends; with Config.Watch it goes on and
// looks for new ones. Rows are delivered exactly once to sinks that can: every file
// gets a fixed range of offsets in a ledger before its first row is sent, so a
// restart goes on in the middle of a file, with the same rows at the same offsets.
//
// # Files
//
// A file is known by its name and its content (SHA-256). The same name with the
// same content is not read again; the same name with new content is a new version
// and is read whole; the same content under another name is skipped, unless
// Duplicates says otherwise. It is not skipped for good, nor moved, before the other
// file was read: when that one can't be read, it is read in its place.
//
// Whether a file changed is seen by its size and modification time, and while
// watching on Linux by its change time too; then it is hashed. So what goes unseen is a
// program that writes a file between two runs (elsewhere than on Linux: at any time)
// and sets its old modification time again, leaving the size as it was.
//
// Files must be complete when they are read. While watching, a file is read when its
// size and modification time have stood still for Config.Settle, as this process
// sees it: neither the clock nor the file's own time matters. A writer that pauses
// longer than that should write under a name that begins with a dot, or elsewhere,
// and rename. Without Watch, what is there is taken to be complete, unless Settle is
// set; a file that changes while it is hashed is left for the next run.
//
// A file that changes while it is read fails after the rows before the change, and
// its new content is a new version. If the pipeline was restarted in the middle of
// it, so that its rest is needed as it was, Run ends with an error that says what to
// do. A file that is replaced by a rename while it is read is read to its end.
//
// A file that can't be read for reasons of the disk or the network is tried again,
// Config.Attempts times; then it is failed after the rows before the fault. If a sink
// holds rows behind the fault since an earlier run, another sink would miss them for
// ever: Run then ends with an error instead.
//
// Where the pipeline's policy is leat.RejectFile, each file is passed over before any
// of its rows is sent, and one with a bad row, or damage, is failed whole. The verdict
// stands for this content: it is tried again when Reprocess asks for it, or when the
// file was moved to failed/ and is put into the folder once more.
//
// If the watched folder is removed, that is said once; when there is a folder of that
// name again, the source goes on with it. What can't be moved when it is finished (a
// full disk, missing rights) is said once and tried at later scans, less and less
// often; its rows are delivered all the same.
//
// Refused without a place in the log, and said so: symbolic links that leave the
// folder (or any, with Move), absolute ones, special files, unreadable files. A
// folder is read by one process at a time; a second one waits. (On Windows this
// holds for processes with the same state folder only.)
//
// Files named .gz and .zst are decompressed. A truncated or damaged one is failed
// after the rows before the damage have been delivered; a mended copy has another
// content, so it is read whole.
//
// Config.OnFile tells of each file as it is finished. The functions of package files
// show the history of a source, read a file again, and give one up.
//
// # Records
//
// The first record is the header. A column of the row type is found by its name,
// in any order; other columns are ignored. A file that misses one, or names one
// twice, is refused whole. Config.Extra and Config.Missing change that; a header that differs from
// the file's before is told in the ledger (files.Entry.Drift).
//
// Fields are taken as they are: spaces count. An empty field, quoted or not, is
// null for pointers and sql.Null, "" for strings and bytes, and a reject for all
// else. A line with nothing on it is no record, also when there is only one
// column.
//
// A field is quoted if it begins with a quote; then it runs to the closing one,
// over line ends if need be, and a doubled quote stands for one. A quote anywhere
// else, or text after a closing quote, is a fault of that record alone. If a quoted
// field goes over a line end and then is not closed as it must be (text follows
// the closing quote, or the file ends, or MaxRecord is reached), its closing quote
// was forgotten: the record is cut at the end of the physical line on which that
// field began, rejected, and reading goes on with the next line. These decisions
// depend on the bytes from the record's start on and on nothing else.
//
// Differences to encoding/csv: CR LF inside quotes stays CR LF, a byte order mark
// is passed over, and a bad record does not end the reading.
//
// A record that can't be decoded is rejected alone with class leat.Decode. Its
// error is a *leat.FieldError; Rule is "fields" (more or fewer than in the header),
// "quote", "size" (longer than MaxRecord; its first 64 KiB are kept), or "syntax",
// "range", "empty", "utf8" of one column.
//
// # Dialects
//
// All of the above is RFC 4180, read strictly, in UTF-8. Config says what a folder's files
// do otherwise; Detect, or DetectFile, looks at one and says what it seems to do:
//
//	d, err := csvsource.DetectFile("incoming/monday.csv")
//	fmt.Println(d, d.Why) // Windows-1252, delimiter ';', …
//	src := csvsource.New(csvsource.Config[Venta]{Dir: "incoming"}.With(d))
//
// A source never detects anything by itself: which rows a file has, and at which
// offsets, must depend on its bytes and the Config alone, in each version of leat (rule D6). For the
// same reason a Config must not be changed while a file is half read.
//
// Encoding. Strings must be text in the files' Encoding. A record with other bytes in a column of the row
// type is rejected (rule "utf8"): invalid UTF-8, half a surrogate pair, a byte
// that Windows-1252 has no character for. Nothing is ever replaced. []byte columns of UTF-8 files take
// any bytes, and AnyBytes lets strings do so too. A file that begins with the byte order mark of another encoding is
// refused whole. Offsets are places in the text as UTF-8, as they are places in the decompressed
// text of a .gz; dead letters keep the bytes that the file has.
//
// Quotes. With Lenient, a quote inside a bare field is text. So are single quotes in a quoted field, if another one on the
// same line closes it: "5" disk",2 has the fields 5" disk and 2. If none does, text behind the
// closing quote belongs to the field: "a"b,2 is ab and 2. A quoted field that is not closed as it must be
// (the rule above: its closing quote was forgotten) is bare, its opening quote text, so the record ends
// where a strict source cuts it. Then there may be fewer fields than in the header, or a field may
// hold what two should: Lenient guesses, and only counting the fields checks it. What is well formed is read
// the same in both ways, and as fast.
//
// Ragged pads records that are too short with empty fields, or cuts those that are too
// long, or both. Without it they are rejected, with Lenient too.
//
// Lines. SkipLines passes over titles and notes at the start of each file. Header names the columns
// of files that have no header line. Lines that end with CR alone are not read.
//
// Values. Null, True and False are spellings; Decimal and Thousands say how numbers are written, and then
// no other way is taken: with a decimal comma 1.5 is rejected, not 15. Where there are separators of thousands,
// all must be there. Trim takes spaces off.
//
// String fields of rows are copies: texts that repeat share one, others lie together in
// blocks of 32 KiB. So hardly any is allocated by itself, and one that is kept for long
// keeps no more than its block.
//
// Fields tagged `leat:"@file"`, "@line" (the record's first, from 1), "@offset"
// and "@timestamp" (the file's modification time) are filled in.
package csvsource
