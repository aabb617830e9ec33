package image

import (
	"os"
	"syscall"
)

// used is what a file takes on its file system.
func used(fi os.FileInfo) int64 {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return fi.Size()
}
