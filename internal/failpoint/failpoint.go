// Package failpoint names the places between two steps that matter for
// durability, so that tests can fail or kill the process exactly there. Without
// a test it costs one atomic load.
package failpoint

import "sync/atomic"

var handler atomic.Pointer[func(name string) error]

// Hit reports that the named place is reached. The error, if a test gives one,
// stands for a failure of the step that follows.
func Hit(name string) error {
	h := handler.Load()
	if h == nil {
		return nil
	}
	return (*h)(name)
}

// Set installs a handler for the whole process; nil takes it away. For tests.
func Set(f func(name string) error) {
	if f == nil {
		handler.Store(nil)
		return
	}
	handler.Store(&f)
}
