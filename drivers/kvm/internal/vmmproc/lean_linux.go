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
// of memory alone, so that what cannot be done is left. Where a loader has moved or
// linked the program, pages that look unwritten are not those of the file, so that
// only a static program of a fixed place is treated like this, as polyvisor-vmm is.
func forgetProgram() {
	text, err := os.ReadFile("/proc/self/maps")
	if err != nil || !isFixed() {
		return
	}
	type span struct{ from, to uint64 }
	var spans []span
	program := ""
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 6 || f[1] != "r-xp" && f[1] != "r--p" || f[4] == "0" {
			continue
		}
		if program == "" {
			program = f[5]
		}
		first, last, _ := strings.Cut(f[0], "-")
		from, err := strconv.ParseUint(first, 16, 64)
		to, err2 := strconv.ParseUint(last, 16, 64)
		if f[5] != program || err != nil || err2 != nil {
			return // linked at run time
		}
		spans = append(spans, span{from, to})
	}
	for _, s := range spans {
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, uintptr(s.from), uintptr(s.to-s.from), unix.MADV_DONTNEED)
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
