package folder

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"

	"github.com/leatgo/leat/internal/durable"
)

// Each line of a ledger of version 2 ends with a checksum of what is before it: one flipped
// bit in a name, a hash or a number would be another line that can be believed, and files
// would be read twice or not at all.

const sealLen = len(`,"crc":"01234567"}`)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendSealed adds a line for the object js, and its line end.
func appendSealed(dst, js []byte) []byte {
	body := bytes.TrimSuffix(bytes.TrimSuffix(js, []byte("\n")), []byte("}"))
	dst = append(dst, body...)
	return fmt.Appendf(dst, ",\"crc\":\"%08x\"}\n", crc32.Checksum(body, castagnoli))
}

var errSeal = errors.New("its checksum is wrong: a part of it was changed, or lost")

// checkSeal checks a line, without its line end.
func checkSeal(line []byte) error {
	n := len(line) - sealLen
	if n < 0 || !bytes.Equal(line[n:], fmt.Appendf(nil, ",\"crc\":\"%08x\"}", crc32.Checksum(line[:n], castagnoli))) {
		return errSeal
	}
	return nil
}

// upgradeLedger gives the lines of an older ledger their checksums, all or none of them
// (rule H6). The caller holds the lock.
func upgradeLedger(l *ledger) error {
	text, err := os.ReadFile(l.path)
	if err != nil {
		return err
	}
	var out []byte
	for n, line := range bytes.SplitAfter(text[:l.size], []byte("\n")) {
		switch {
		case len(line) == 0:
			continue
		case n == 0:
			var first event
			if err := json.Unmarshal(line, &first); err != nil {
				return err
			}
			first.Version = ledgerVersion
			if line, err = json.Marshal(first); err != nil {
				return err
			}
		}
		out = appendSealed(out, line)
	}
	return durable.WriteFile(l.path, out, 0o600)
}
