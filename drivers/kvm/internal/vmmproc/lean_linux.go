package vmmproc

import (
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// program is where the program's own pages are that are read and never written.
type program []span

type span struct{ from, to uintptr }

// findProgram finds the pages of a static program of a fixed place, as polyvisor-vmm
// is, and none of another: where a loader has moved or linked the program, pages that
// look unwritten are not those of the file.
func findProgram() program {
	text, err := os.ReadFile("/proc/self/maps")
	if err != nil || !isFixed() {
		return nil
	}
	var p program
	name := ""
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 6 || f[1] != "r-xp" && f[1] != "r--p" || f[4] == "0" {
			continue
		}
		if name == "" {
			name = f[5]
		}
		first, last, _ := strings.Cut(f[0], "-")
		from, err := strconv.ParseUint(first, 16, 64)
		to, err2 := strconv.ParseUint(last, 16, 64)
		if f[5] != name || err != nil || err2 != nil {
			return nil // linked at run time
		}
		p = append(p, span{uintptr(from), uintptr(to)})
	}
	return p
}

// forget gives back the pages that were used until now. They are in the host's page
// cache and come back when they are touched, sixteen at a time. It is an economy of
// memory alone, so that what cannot be done is left.
func (p program) forget() {
	for _, s := range p {
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, s.from, s.to-s.from, unix.MADV_DONTNEED)
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
