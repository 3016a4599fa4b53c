//go:build unix

package leat

import (
	"io/fs"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// rules B3-2, B8: a full disk is waited for; but the letters that a log finds when it is opened are
// not written again, so an Open whose fsync failed is not repeated: the second one would lie.
func TestLettersOnAFullDisk(t *testing.T) {
	t.Parallel()
	require.True(t, IsTransient(whenRoom(&fs.PathError{Op: "write", Err: syscall.ENOSPC})))
	require.False(t, IsTransient(whenRoom(&fs.PathError{Op: "sync", Err: syscall.ENOSPC})))
	require.False(t, IsTransient(whenRoom(&fs.PathError{Op: "write", Err: syscall.EIO})))
}
