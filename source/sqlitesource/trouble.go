package sqlitesource

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"

	"zombiezen.com/go/sqlite"

	"github.com/leatgo/leat"
)

// trouble marks what may be tried again (rule B8). An I/O error is not among it: it is
// for people to look at.
func trouble(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	code := sqlite.ErrCode(err)
	switch {
	case code == sqlite.ResultInterrupt && ctx.Err() != nil:
		return ctx.Err()
	case code == sqlite.ResultReadOnlyRecovery, code == sqlite.ResultReadOnlyRollback, code == sqlite.ResultReadOnlyCantInit:
		// Left behind by a writer that crashed; the next one that opens the database mends it.
		return leat.Transient(fmt.Errorf("%w: a writer has left the database in the middle of a transaction; it is readable again when a program that may write has opened it", err))
	}
	switch code.ToPrimary() {
	case sqlite.ResultBusy, sqlite.ResultLocked, sqlite.ResultProtocol, sqlite.ResultNoMem:
		return leat.Transient(err)
	}
	return err
}

func checksum(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text)))[:16] }

// quote makes an identifier of any name that holds no zero byte.
func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// fold lowers ASCII letters only: SQLite compares names like this.
func fold(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}
