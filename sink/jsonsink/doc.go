// Package jsonsink appends rows to a file of JSON lines, exactly once.
//
// A row is one JSON object on one line, with all its columns in order. Null is
// null, integers have all their digits, a time is a string in the column's
// layout, a duration is whole nanoseconds, bytes are base64; decimals and other
// types with a MarshalJSON or MarshalText are written as these say. A row that
// has no JSON form (NaN, an infinity) is rejected alone.
//
// # The sidecar
//
// Beside out.jsonl lies out.jsonl.leat, which says how many bytes of the file
// are committed and up to which positions of the source (rule E1). A commit
// syncs the file and then replaces the sidecar; that rename is the commit point.
// What lies in the file beyond the committed length was never committed: Open
// cuts it off. Keep the two files together: moving, rotating or editing one of
// them alone is found out and refused.
//
// Somebody who reads the file while it grows sees rows before they are
// committed, the last line perhaps in part; after a crash such rows are cut off
// and written again. A reader for whom that matters stops at "length" of the
// sidecar.
//
// The file is locked while a sink has it open. Several pipelines may append to
// one file one after another; each has positions of its own.
//
// # Starting over
//
// To load a file again from the beginning, delete it together with its sidecar.
package jsonsink
