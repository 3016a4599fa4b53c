// Package jsonsource reads folders, or lists, of files of JSON lines as rows: one JSON
// object on each line (also called NDJSON).
//
//	src := jsonsource.New(jsonsource.Config[Evento]{Dir: "incoming"})
//
// How files are found, known, read once, watched, retried, refused whole and moved, and
// how rows get their offsets, is as package csvsource describes it, in the section Files.
// Files named .gz and .zst are decompressed.
//
// # Lines
//
// A line ends with LF or CR LF, or with the file. A line with nothing on it is passed
// over, and so is a byte order mark at the start of a file. Any other line is a record,
// and a bad one is rejected alone: also when it is not JSON at all, the next line is read.
// A line longer than Config.MaxRecord is rejected, with its first 64 KiB.
//
// A file that is JSON but no lines of it, an array of objects or objects that go over
// several lines, is refused whole, and the error says what to do.
//
// # Keys and columns
//
// A key belongs to the column of exactly that name, whatever the case of encoding/json's
// own matching; keys may come in any order. Policies say what becomes of keys without a
// column (Config.Extra), columns without a key (Config.Missing) and keys that come twice
// (Config.RepeatedKeys). A column with the option extra keeps keys that have no column:
//
//	Otros map[string]string `leat:"otros,extra"`
//
// In a map[string]string strings are kept as their text and all else as JSON text without
// white space; in a map[string]any numbers are json.Number; in a map[string]json.RawMessage
// all is JSON text. If there is a key of the column's own name, it holds an object of such
// keys: so does jsonsink write it.
//
// # Values
//
//	Go                         JSON
//	bool                       true or false
//	int, uint, time.Duration   a number without point and exponent (1.0 and 1e3 are refused, as by
//	                           encoding/json), exact over the type's whole range; a duration in nanoseconds
//	float32, float64           a number, rounded to the nearest
//	string                     a string; json.Number, and what is tagged decimal=, also a number, whose text it keeps
//	time.Time                  a string in the column's layout; without one RFC 3339, also with a space,
//	                           without a zone (then UTC), without a clock
//	[]byte                     a string in base64
//	UnmarshalJSON              as it reads itself
//	UnmarshalText (decimals)   a string or a number: it gets the text as it stands, every digit kept
//	slices, maps, structs      as encoding/json reads them, but numbers in an any are json.Number
//	*T, sql.Null[T]            as T, or null
//
// null in any other column rejects the row; but it is nil for maps, slices and any, and
// left to a type with UnmarshalJSON whose zero value is written as null.
//
// What jsonsink writes is read back into the same rows. (A nil []byte comes back empty,
// and so does an empty map of extra keys come back nil.)
//
// # What is refused
//
// Everything that RFC 8259 forbids, and of what it leaves to readers: text that is not
// UTF-8 (U+FFFD would hide the damage), escaped surrogates that are no pairs, numbers that
// a column can't hold, and more than Config.MaxDepth arrays and objects in each other. This
// holds for keys that are passed over too, but for numbers, of which only the form is
// looked at. The verdicts on the files of the JSONTestSuite are a table in
// internal/row/jsonsuite_test.go. Within slices, maps and structs, keys that come twice are
// encoding/json's matter: the last one counts.
//
// A record that can't be decoded is rejected with class leat.Decode. Its error is a
// *leat.FieldError with the column, if it is about one, and a rule:
//
//	syntax     not JSON, or not the text of such a value
//	utf8       not UTF-8, or half of a pair of surrogates
//	type       another type of value than the column's, or a record that is no object
//	range      a value that the column can't hold
//	null       null in a column that has none
//	missing    a column without a key
//	unknown    a key without a column
//	duplicate  a key that came before
//	depth      too many arrays and objects in each other
//	size       longer than MaxRecord
//
// The message tells the byte in the line, from 1, and the path: $.items[3].precio.
//
// # Memory
//
// String fields of rows are copies: texts that repeat share one, others lie together in
// blocks of 32 KiB. So hardly any is allocated by itself, and one that is kept for long
// keeps no more than its block.
//
// Fields tagged `leat:"@file"`, "@line" (from 1), "@offset" and "@timestamp" (the file's
// modification time) are filled in.
package jsonsource
