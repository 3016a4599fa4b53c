//go:build !unix && !windows

package durable

// Full tells whether err says that there is no room, which may change.
func Full(error) bool { return false }
