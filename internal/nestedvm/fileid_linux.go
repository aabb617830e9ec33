package nestedvm

import (
	"io/fs"
	"syscall"
)

func fileID(info fs.FileInfo) (hostFile, bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return hostFile{}, false
	}
	return hostFile{uint64(st.Dev), st.Ino}, true
}
