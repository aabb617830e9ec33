package vmmproc

import (
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// forgetProgram gives back the pages of the program that were used until now: what
// reads a specification and builds a machine is most of it, and is needed no more. They
// are in the host's page cache and come back when they are touched. It is an economy
// of memory alone, so that what cannot be done is left.
func forgetProgram() {
	text, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return
	}
	fixed := isFixed()
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		// Where code was moved when it was loaded, data that cannot be written has been
		// changed and would be lost; code itself never is.
		if len(f) < 6 || f[1] != "r-xp" && !(fixed && f[1] == "r--p") || f[4] == "0" {
			continue
		}
		first, last, _ := strings.Cut(f[0], "-")
		from, err := strconv.ParseUint(first, 16, 64)
		to, err2 := strconv.ParseUint(last, 16, 64)
		if err == nil && err2 == nil && to > from {
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, uintptr(from), uintptr(to-from), unix.MADV_DONTNEED)
		}
	}
}

// isFixed says whether the program is loaded where it was linked, by nobody but the
// kernel: an ELF file of type ET_EXEC.
func isFixed() bool {
	f, err := os.Open(selfExe)
	if err != nil {
		return false
	}
	defer f.Close()
	var header [18]byte
	const typeAt, executable = 16, 2
	_, err = io.ReadFull(f, header[:])
	return err == nil && header[typeAt] == executable && header[typeAt+1] == 0
}
