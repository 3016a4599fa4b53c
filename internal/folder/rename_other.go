//go:build !linux

package folder

// renameNew: there is no rename that never overwrites; see linkOver.
func renameNew(string, string) error { return errNoRename }
