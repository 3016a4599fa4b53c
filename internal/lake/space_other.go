//go:build !unix && !windows

package lake

// full tells that there is no room, which may change.
func full(error) bool { return false }
