// Package parquetsource reads folders, or lists, of Parquet files as rows.
//
//	src := parquetsource.New(parquetsource.Config[Venta]{Dir: "incoming"})
//
// How files are found, known, read once, watched, moved and refused is the same for all
// sources of files, and described in package csvsource. Rows are delivered exactly once
// to sinks that can: every file gets a fixed range of offsets in a ledger before its
// first row is sent, one for each row and one more, so a restart goes on in the middle of
// a file, with the same rows at the same offsets. Package files has the policies and the
// history: [files.Ledger], [files.Reprocess], [files.Abandon].
//
// # Columns
//
// A column of the row type is found by its name, letter for letter, in any order. Others
// are not even read, unless Config.Extra or a column tagged `extra` says otherwise. A file
// that misses one (see Config.Missing), that has one twice, or whose types can't become
// the fields' is refused whole, and the ledger names each column with both types.
//
//	Parquet                               fields
//	BOOLEAN                               bool
//	INT32, INT64, INT(n), UINT(n)         all integers; time.Duration (INT64, ns); float64 and
//	                                      float32 where that is exact
//	FLOAT, DOUBLE, FLOAT16                float64, float32 (the nearest); DOUBLE also integers, if
//	                                      whole: pandas writes integers with nulls so
//	DECIMAL, in any storage               string, types with UnmarshalText such as
//	                                      decimal.Decimal, floats (the nearest), integers if
//	                                      the scale is 0
//	STRING, ENUM, JSON, BYTE_ARRAY        string (valid UTF-8), []byte, types with UnmarshalText
//	FIXED_LEN_BYTE_ARRAY, BSON            []byte; string (valid UTF-8)
//	UUID                                  string and types with UnmarshalText (its text), []byte
//	TIMESTAMP in ms, µs, ns; INT96; DATE  time.Time in UTC; one without a zone is taken as UTC
//	TIME                                  time.Duration since midnight
//	lists of these, in any form           slices; with pointers where elements can be null
//
// Types with UnmarshalText get the text of all of them. Structures and
// maps are not read: a file with one is refused if it is a column of the row type, or would
// have to be kept in one tagged `extra`.
//
// A value that does not fit its field rejects its row alone, with class leat.Decode; the
// error is a *leat.FieldError. Rule is "null" (in a field that is no pointer, sql.Null or
// slice: a slice is nil then), "range" (also of a time outside the years 1 to 9999) or
// "syntax" (not valid UTF-8, or refused by UnmarshalText).
//
// Read are all encodings of the format (but for the levels of files before 2013), pages of
// both versions, and UNCOMPRESSED, SNAPPY, GZIP, ZSTD, LZ4_RAW and BROTLI. Encrypted files,
// and columns in files of their own, are refused.
//
// Strings of rows are shared where a file's dictionary has them once. All lie together in
// blocks of 32 KiB, so that one that is kept for long keeps no more than its block.
//
// Fields tagged `leat:"@file"`, "@line" (the number of the row, from 1), "@offset" and
// "@timestamp" (the file's modification time) are filled in.
//
// # Dead letters
//
// A row of a Parquet file has no bytes of its own that would be worth keeping: its values
// lie in many pages, with those of other rows. So Raw of a dead letter is the row as one
// JSON object, with the values that the file has, before they became the fields', and
// leat.Replay makes the row of that. Integers have all their digits; decimals and times
// are strings. What JSON has no form for is an object: {"base64":"/w=="} for bytes and for
// text that is no UTF-8, {"uuid":"…"}, {"float":"NaN"} (also for a FLOAT
// that as a number would be read as another DOUBLE), {"raw":…} for a time outside the
// years 1 to 9999. Columns that were not read are not in it.
//
// # Damage
//
// A file that is cut off or whose footer is damaged is refused. Damage further in fails
// the file after the last row before it that all columns have whole: which one that is
// depends on the file alone. Checksums of pages are checked where the writer has made some.
//
// # Untrusted files
//
// A file can claim anything. This package has decoders of its own, which allocate nothing
// that a file merely declares, check each size before memory is taken, and refuse what
// unfolds beyond Config.Limits: a file of 4 KB that unfolds to 2 GB is refused before
// anything of it is decompressed. A panic while a file is decoded is damage of that file.
// The memory that reading takes is a page of each column that is read, twice, and a few
// thousand rows.
//
// What can't be recovered is to run out of memory after all (with large Limits), and an
// endless loop or a fault in a decompressor. Config.Isolate, for folders that anyone can
// write to, decodes each file in a process of its own, which has no files, no arguments
// and no environment: it asks this one for the file's bytes through a pipe and sends back
// columns of values, which are checked again here. If it runs out of memory or ends with
// an error, the file is failed, and the run goes on. If it is killed or gives no answer in
// time, that counts as a failed reading, which is tried again (Config.Attempts), and then
// the file is failed. The rows that were sent before stay, at their offsets, so nothing is
// lost or doubled either way.
//
// That process is this program, started once more: package parquetsource takes it over
// when it is initialised, before main. So no other file needs to be installed, and there
// is nothing to call. Initialisers of other packages (variables, func init) may run in it
// first; they should not do more than initialise.
package parquetsource
