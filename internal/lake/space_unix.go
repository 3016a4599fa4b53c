//go:build unix

package lake

import (
	"errors"
	"syscall"
)

// full tells that there is no room, which may change.
func full(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
