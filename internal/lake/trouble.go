package lake

import (
	"errors"
	"syscall"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/durable"
)

// passing tells what may go away by itself (rule B8).
func passing(err error) bool {
	return leat.IsTransient(err) || durable.Full(err) || errors.Is(err, syscall.EIO) || tooMany(err)
}

// openError marks what Open may be tried again for. An I/O error met twice, before
// a rewind and after it, is for people to look at.
func openError(err error) error {
	if durable.Full(err) || tooMany(err) {
		return leat.Transient(err)
	}
	return err
}

// tooMany tells that no more files can be opened for now.
func tooMany(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}
