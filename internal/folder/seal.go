package folder

import (
	"bytes"
	"encoding/json"
	"os"

	"github.com/leatgo/leat/internal/durable"
	"github.com/leatgo/leat/internal/sealed"
)

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
		out = sealed.Append(out, line)
	}
	return durable.WriteFile(l.path, out, 0o600)
}
