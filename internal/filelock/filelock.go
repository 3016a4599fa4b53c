// Package filelock locks open files between processes. The lock ends with the
// process that holds it, however that ends.
package filelock

import "errors"

// ErrLocked means that another process, or another open file of this one, has the
// lock.
var ErrLocked = errors.New("locked by another process")
