package durable

import (
	"errors"
	"syscall"

	"golang.org/x/sys/windows"
)

// Full tells whether err says that there is no room, which may change.
func Full(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL)
}
