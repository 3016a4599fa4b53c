//go:build unix

package folder

import "golang.org/x/sys/unix"

// nonBlock keeps the opening of a FIFO from waiting for a writer.
const nonBlock = unix.O_NONBLOCK
