//go:build unix

package durable

import (
	"errors"
	"syscall"
)

// Full tells whether err says that there is no room, which may change.
func Full(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
