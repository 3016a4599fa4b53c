package durable

import (
	"errors"
	"io/fs"
	"os"
)

// NoRoom tells whether err is that of a write that found no room, after which the same
// file may be opened and written again. An fsync can say the same, but then the kernel may
// have dropped what it was to write: whoever opens the file again would read from memory,
// and believe, what is not on disk (rule A3).
func NoRoom(err error) bool {
	var at *fs.PathError
	var link *os.LinkError
	switch {
	case !Full(err):
		return false
	case errors.As(err, &at):
		return at.Op != "sync"
	}
	return errors.As(err, &link) // a bare one is that of bbolt's fdatasync
}
