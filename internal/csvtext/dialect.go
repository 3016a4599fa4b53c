// Package csvtext cuts text into CSV records. It knows bytes only: no files, no
// row types, no goroutines.
//
// The same text always gives the same records, whatever the size of the pieces
// in which it is read and whichever record a reading starts at (rule D6). That
// is because every decision about a record is made from the bytes that begin at
// the record itself, never from anything before it.
//
// # The grammar
//
// A physical line ends with LF or CR LF (or with the text; then a last CR does
// not count). At the start of a record, an empty physical line and, if there is a
// comment byte, a line that begins with it are passed over. Anything else is a
// record: fields with delimiters between them. A field that begins with a quote
// runs to the closing quote, whatever is in between, line ends included; a
// doubled quote stands for one. Nothing in a quoted field is changed: CR LF stays
// CR LF, unlike in encoding/csv. A field that does not begin with a quote runs to
// the next delimiter or line end and must hold no quote.
//
// # Faults
//
// A record at fault is refused alone:
//
//   - A quote inside a bare field, or text after a closing quote on the same
//     physical line as the opening one: the record is refused ([FaultQuote]) and
//     ends where it would have ended anyway.
//   - A quoted field that crosses a line end and then is not closed as a quoted
//     field must be (text follows the closing quote, or the text ends, or the
//     record reaches MaxRecord): the closing quote was forgotten. The record is
//     cut at the end of the physical line on which that field was opened, refused
//     (FaultQuote), and reading goes on with the next physical line. So a
//     forgotten quote costs one record, not the file.
//   - A record of more than MaxRecord bytes, line end included, that the rule above
//     does not cut: it is refused ([FaultLong]) and ends with the first line end
//     at or after its first MaxRecord bytes, quoted or not.
//
// # Lenient dialects
//
// What has no fault is read as above. Besides, a quote inside a bare field is text, and a field
// that begins with a quote is read by the first of these that fits:
//
//   - Its first quote that is not doubled has the field's end behind it: that quote closes it.
//   - That quote has text behind it and is on the line on which the field opened. If a
//     later quote of the line has a field's end behind it, and no delimiter with a quote behind it
//     comes before, all up to that one is the field, single quotes are text ("5" disk",2). Else
//     the first one closed the field, and what is behind it up to the next delimiter
//     or line end belongs to the field as it stands ("a"b,2 is ab and 2).
//   - It goes over a line end and then has text behind the quote, or is not closed before the text
//     or MaxRecord ends: the closing quote was forgotten. The opening one is text and the field
//     bare, so it ends on its own line, where a strict dialect cuts too.
//
// So only a record of more than MaxRecord bytes is at fault. Its end is where no line end
// comes before, which is the first one at or after them.
package csvtext

// Dialect is how a text is written. Bytes are ASCII and differ from each other,
// and none is CR or LF.
type Dialect struct {
	Delimiter byte
	Quote     byte // 0: nothing is quoted
	Comment   byte // 0: no line is a comment
	MaxRecord int  // bytes, at least 1
	Lenient   bool // quotes are read as they may have been meant
}

// Fault says what is wrong with a record's form.
type Fault uint8

// The faults.
const (
	Fine       Fault = iota
	FaultQuote       // a quote where none may be, or no quote where one must be
	FaultLong        // longer than MaxRecord
)

// Span is what begins at a physical line: one record, or a line to pass over.
type Span struct {
	Len    int   // bytes, line end included; 0 with FaultLong: the end was not looked for
	Fault  Fault // of a record
	Record bool  // false: a blank line or a comment
}
