package folder

import (
	"io/fs"
	"syscall"
)

// changeTime is when the file's bytes, name or rights last changed: unlike the
// modification time, no program can set it back.
func changeTime(info fs.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Ctim.Nano()
	}
	return 0
}
