//go:build !linux && !windows

package durable

func renameNoReplace(oldpath, newpath string) error { return linkAndRemove(oldpath, newpath) }
