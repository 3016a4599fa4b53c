// Package unknown is how long codecs remember that a registry does not have a schema.
package unknown

import (
	"errors"
	"time"

	"github.com/leatgo/leat/codec"
)

// For is for how long an id that the registry does not have is not asked for again: a
// topic full of them must not become a load on the registry, and a registry that lags behind
// must not be taken at its word for long.
const For = 5 * time.Second

// Keep is the Keep of a memo.Cache of schemas by their ids.
func Keep(err error) time.Duration {
	if e := (*codec.UnknownError)(nil); errors.As(err, &e) {
		return For
	}
	return 0
}
