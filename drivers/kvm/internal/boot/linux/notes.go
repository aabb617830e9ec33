package linux

import (
	"encoding/binary"
	"fmt"
)

// Notes of interest: the PVH entry point (XEN_ELFNOTE_PHYS32_ENTRY) and the
// name a guest gives itself (XEN_ELFNOTE_GUEST_OS), both owned by "Xen".
const (
	noteGuestOS   = 6
	notePVHEntry  = 18
	maxNoteBytes  = 64 << 10
	maxNotes      = 1024
	noteHeaderLen = 12
)

// noteInfo is what the notes of a kernel say about entering it.
type noteInfo struct {
	pvhEntry uint64
	hasPVH   bool
	isLinux  bool
}

// readNotes walks all note segments. It reads at most maxNoteBytes of each and
// looks at no more than maxNotes notes in total: a kernel has about twenty.
func (e *elfImage) readNotes() (noteInfo, error) {
	var info noteInfo
	left := maxNotes
	for _, s := range e.notes {
		if s.fileSize > maxNoteBytes {
			return info, e.fail(s.part(), int64(s.offset), ErrMalformed,
				fmt.Sprintf("%d bytes of notes, at most %d are read", s.fileSize, maxNoteBytes), remedyKernel)
		}
		b := make([]byte, s.fileSize)
		if err := e.read(b, int64(s.offset), s.part()); err != nil {
			return info, err
		}
		align := uint64(4)
		if s.align == 8 {
			align = 8
		}
		n, err := info.scan(b, align, left)
		if err != nil {
			return info, e.fail(s.part(), int64(s.offset), ErrMalformed, err.Error(), remedyCopy)
		}
		left -= n
	}
	return info, nil
}

// scan reads the notes in b and returns how many there were.
func (info *noteInfo) scan(b []byte, align uint64, budget int) (int, error) {
	n := 0
	for len(b) >= noteHeaderLen {
		if n == budget {
			return n, fmt.Errorf("more than %d notes", maxNotes)
		}
		n++
		nameLen := uint64(binary.LittleEndian.Uint32(b))
		descLen := uint64(binary.LittleEndian.Uint32(b[4:]))
		typ := binary.LittleEndian.Uint32(b[8:])
		// All terms are below 2^33: the sums cannot overflow.
		descAt := alignUp(noteHeaderLen+nameLen, align)
		if descAt+descLen > uint64(len(b)) {
			return n, fmt.Errorf("note %d is longer than its segment", n-1)
		}
		info.add(string(b[noteHeaderLen:noteHeaderLen+nameLen]), typ, b[descAt:descAt+descLen])
		b = b[min(alignUp(descAt+descLen, align), uint64(len(b))):]
	}
	return n, nil
}

func (info *noteInfo) add(owner string, typ uint32, desc []byte) {
	switch {
	case owner == "Linux\x00":
		info.isLinux = true
	case owner != "Xen\x00":
	case typ == noteGuestOS && string(desc) == "linux\x00":
		info.isLinux = true
	case typ == notePVHEntry && len(desc) == 4:
		info.pvhEntry, info.hasPVH = uint64(binary.LittleEndian.Uint32(desc)), true
	case typ == notePVHEntry && len(desc) == 8:
		info.pvhEntry, info.hasPVH = binary.LittleEndian.Uint64(desc), true
	}
}

// checkPVHEntry makes sure that the entry point is 32-bit code in the image.
func (e *elfImage) checkPVHEntry(addr uint64) error {
	for _, s := range e.loads {
		if addr < 1<<32 && addr >= s.paddr && addr-s.paddr < s.fileSize {
			return nil
		}
	}
	return e.fail("PVH entry note", -1, ErrMalformed,
		fmt.Sprintf("the entry point %#x lies in no segment", addr), remedyKernel)
}

func alignUp(n, align uint64) uint64   { return (n + align - 1) &^ (align - 1) }
func alignDown(n, align uint64) uint64 { return n &^ (align - 1) }
