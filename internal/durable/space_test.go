//go:build unix

package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// rule A3: after an fsync that failed the same file is not asked again.
func TestNoRoom(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want bool
	}{
		{&fs.PathError{Op: "write", Err: syscall.ENOSPC}, true},
		{&fs.PathError{Op: "write", Err: syscall.EDQUOT}, true},
		{fmt.Errorf("wrapped: %w", &fs.PathError{Op: "open", Err: syscall.ENOSPC}), true},
		{&os.LinkError{Op: "rename", Err: syscall.ENOSPC}, true},
		{&fs.PathError{Op: "write", Err: syscall.EIO}, false},
		{&fs.PathError{Op: "sync", Err: syscall.ENOSPC}, false},
		{syscall.ENOSPC, false},
		{errors.New("no space left on device"), false},
		{nil, false},
	} {
		require.Equal(t, c.want, NoRoom(c.err), "%#v", c.err)
	}
}
