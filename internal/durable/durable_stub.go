//go:build !unix && !windows

package durable

func syncDir(string) error { return nil }

func isCrossDevice(error) bool { return false }
