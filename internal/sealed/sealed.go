// Package sealed gives lines of JSON a checksum: in a file that decides which rows are
// delivered, one flipped bit in a name or a number would be another line that can be
// believed.
package sealed

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
)

const suffixLen = len(`,"crc":"01234567"}`)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Err is the error of a line that is not as it was written.
var Err = errors.New("its checksum is wrong: a part of it was changed, or lost")

// Append adds a line for the JSON object js, which has a field, and its line end. The
// checksum becomes the object's last field, crc.
func Append(dst, js []byte) []byte {
	body := bytes.TrimSuffix(bytes.TrimSuffix(js, []byte("\n")), []byte("}"))
	dst = append(dst, body...)
	return fmt.Appendf(dst, ",\"crc\":\"%08x\"}\n", crc32.Checksum(body, castagnoli))
}

// Check looks at a line, with or without its line end.
func Check(line []byte) error {
	line = bytes.TrimSuffix(line, []byte("\n"))
	n := len(line) - suffixLen
	if n < 0 || !bytes.Equal(line[n:], fmt.Appendf(nil, ",\"crc\":\"%08x\"}", crc32.Checksum(line[:n], castagnoli))) {
		return Err
	}
	return nil
}
