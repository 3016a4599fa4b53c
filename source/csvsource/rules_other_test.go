//go:build !unix

package csvsource

import "errors"

func mkfifo(string) error { return errors.ErrUnsupported }
