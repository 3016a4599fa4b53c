//go:build !unix && !windows

package jsonsink

// full tells that there is no room, which may change.
func full(error) bool { return false }
