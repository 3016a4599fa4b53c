package csvsource

import (
	"fmt"

	"github.com/leatgo/leat/internal/transcode"
)

// Encoding is how a file writes characters as bytes.
type Encoding uint8

// The encodings. Text that is none in the file's encoding costs the record, if it is in a
// column of the row type: rule "utf8".
const (
	// UTF8 is the default. Strings that are no valid UTF-8 are refused; []byte columns take
	// any bytes.
	UTF8 Encoding = iota
	// AnyBytes is for files of an encoding that is not known, or of none: strings get the bytes
	// as they are. Sinks may refuse them.
	AnyBytes
	// UTF16LE and UTF16BE are what Excel calls Unicode text. Half a surrogate pair is no text.
	UTF16LE
	UTF16BE
	// Latin1 is ISO 8859-1: all bytes are text, those from 0x80 to 0x9F control characters.
	Latin1
	// Windows1252 is what Windows in Western Europe and America calls ANSI: Latin1 with € and
	// typographic quotes in place of most of those control characters. 0x81, 0x8D, 0x8F, 0x90 and 0x9D are no text.
	Windows1252
)

var encodingNames = [...]string{"UTF-8", "any bytes", "UTF-16LE", "UTF-16BE", "Latin-1", "Windows-1252"}

// String gives the name that people know.
func (e Encoding) String() string {
	if int(e) < len(encodingNames) {
		return encodingNames[e]
	}
	return fmt.Sprintf("encoding %d", uint8(e))
}

// code is how the text becomes UTF-8.
func (e Encoding) code() transcode.Encoding {
	switch e {
	case UTF16LE:
		return transcode.UTF16LE
	case UTF16BE:
		return transcode.UTF16BE
	case Latin1:
		return transcode.Latin1
	case Windows1252:
		return transcode.Windows1252
	}
	return transcode.UTF8
}
