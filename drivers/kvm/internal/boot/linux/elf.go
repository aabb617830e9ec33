package linux

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/bits"
)

// Layout and values of the ELF64 headers (ELF-64 Object File Format 1.5).
const (
	elfMagic      = "\x7fELF"
	elfHeaderSize = 64
	phdrSize      = 56
	maxPhdrs      = 128 // vmlinux has about five; the bound keeps parsing cheap
	classELF64    = 2
	dataLSB       = 1
	typeExec      = 2
	machineX86_64 = 62
	machine386    = 3
	ptLoad        = 1
	ptNote        = 4
)

// segment is a program header that has been checked against the file.
type segment struct {
	index           int
	offset          uint64
	vaddr, paddr    uint64
	fileSize, memSz uint64
	align           uint64
}

func (s segment) part() string { return fmt.Sprintf("ELF segment %d", s.index) }

// elfImage is what the loader needs of an ELF file.
type elfImage struct {
	Image
	entry uint64
	loads []segment // non-empty, by their order in the file
	notes []segment
}

// VerifyELF checks that an image is an x86-64 ELF executable whose headers and
// segments lie inside the file and do not overlap in memory. It reads the
// headers only.
func VerifyELF(img Image) error {
	_, err := parseELF(img)
	return err
}

func parseELF(img Image) (*elfImage, error) {
	var h [elfHeaderSize]byte
	if err := img.read(h[:], 0, "ELF header"); err != nil {
		return nil, err
	}
	if err := checkIdent(img, h[:]); err != nil {
		return nil, err
	}
	e := &elfImage{Image: img, entry: binary.LittleEndian.Uint64(h[24:])}
	off := binary.LittleEndian.Uint64(h[32:])
	entSize := binary.LittleEndian.Uint16(h[54:])
	count := int(binary.LittleEndian.Uint16(h[56:]))
	if entSize != phdrSize || count == 0 || count > maxPhdrs {
		return nil, img.fail("ELF header", 54, ErrMalformed, fmt.Sprintf(
			"%d program headers of %d bytes, want 1 to %d of %d", count, entSize, maxPhdrs, phdrSize), remedyKernel)
	}
	size := uint64(img.Size)
	if off > size || uint64(count*phdrSize) > size-off {
		return nil, img.fail("ELF program headers", 32, ErrTruncated, fmt.Sprintf(
			"%d bytes at offset %#x, the file has %d", count*phdrSize, off, img.Size), remedyCopy)
	}
	table := make([]byte, count*phdrSize)
	if err := img.read(table, int64(off), "ELF program headers"); err != nil {
		return nil, err
	}
	for i := range count {
		if err := e.addHeader(i, table[i*phdrSize:], int64(off)+int64(i*phdrSize)); err != nil {
			return nil, err
		}
	}
	if len(e.loads) == 0 {
		return nil, img.fail("ELF program headers", int64(off), ErrMalformed, "nothing to load", remedyKernel)
	}
	return e, nil
}

func checkIdent(img Image, h []byte) error {
	machine := binary.LittleEndian.Uint16(h[18:])
	switch {
	case string(h[:4]) != elfMagic:
		return img.fail("ELF header", 0, ErrBadMagic, "not an ELF file", remedyKernel)
	case h[5] != dataLSB:
		return img.fail("ELF header", 5, ErrUnsupported, "not little-endian", remedyKernel)
	case h[4] != classELF64 || machine == machine386:
		return img.fail("ELF header", 4, ErrUnsupported, "a 32-bit kernel", remedyKernel)
	case machine != machineX86_64:
		return img.fail("ELF header", 18, ErrUnsupported,
			fmt.Sprintf("for another architecture (ELF machine %d, want %d)", machine, machineX86_64), remedyKernel)
	case binary.LittleEndian.Uint16(h[16:]) != typeExec:
		return img.fail("ELF header", 16, ErrUnsupported,
			fmt.Sprintf("not an executable (ELF type %d)", binary.LittleEndian.Uint16(h[16:])),
			"use vmlinux, not an object file or a module")
	}
	return nil
}

// addHeader checks one program header and keeps what will be loaded or read.
func (e *elfImage) addHeader(i int, p []byte, at int64) error {
	le := binary.LittleEndian
	s := segment{index: i, offset: le.Uint64(p[8:]), vaddr: le.Uint64(p[16:]), paddr: le.Uint64(p[24:]),
		fileSize: le.Uint64(p[32:]), memSz: le.Uint64(p[40:]), align: le.Uint64(p[48:])}
	typ := le.Uint32(p)
	if typ != ptLoad && typ != ptNote {
		return nil
	}
	end, carry := bits.Add64(s.offset, s.fileSize, 0)
	if carry != 0 {
		return e.fail(s.part(), at, ErrMalformed, "its place in the file overflows", remedyCopy)
	}
	if s.fileSize > 0 && end > uint64(e.Size) {
		return e.fail(s.part(), at, ErrTruncated, fmt.Sprintf(
			"it ends at offset %#x, the file has %#x bytes", end, e.Size), remedyCopy)
	}
	if typ == ptNote {
		e.notes = append(e.notes, s)
		return nil
	}
	if s.fileSize > s.memSz {
		return e.fail(s.part(), at, ErrMalformed, fmt.Sprintf(
			"%#x bytes in the file, only %#x in memory", s.fileSize, s.memSz), remedyCopy)
	}
	if s.memSz == 0 {
		return nil
	}
	if _, carry := bits.Add64(s.paddr, s.memSz, 0); carry != 0 {
		return e.fail(s.part(), at, ErrMalformed, "its physical address overflows", remedyCopy)
	}
	for _, o := range e.loads {
		if s.paddr < o.paddr+o.memSz && o.paddr < s.paddr+s.memSz {
			return e.fail(s.part(), at, ErrMalformed,
				fmt.Sprintf("it overlaps segment %d in memory", o.index), remedyCopy)
		}
	}
	e.loads = append(e.loads, s)
	return nil
}

// physicalEntry turns the entry point into a physical address inside a
// segment's file data. vmlinux carries a physical address already; a virtual
// one is translated.
func (e *elfImage) physicalEntry() (uint64, error) {
	for _, s := range e.loads {
		if e.entry >= s.paddr && e.entry-s.paddr < s.fileSize {
			return e.entry, nil
		}
	}
	for _, s := range e.loads {
		if e.entry >= s.vaddr && e.entry-s.vaddr < s.fileSize {
			return s.paddr + (e.entry - s.vaddr), nil
		}
	}
	return 0, e.fail("ELF header", 24, ErrMalformed,
		fmt.Sprintf("the entry point %#x lies in no segment", e.entry), remedyKernel)
}

// load copies the segments and returns the physical range they take up.
func (e *elfImage) load(ctx context.Context, l *loader) (start, end uint64, err error) {
	start = ^uint64(0)
	for _, s := range e.loads {
		if !l.isRAM(s.paddr, s.memSz) {
			return 0, 0, e.fail(s.part(), -1, ErrMemory, fmt.Sprintf(
				"it needs %#x-%#x, RAM is %s", s.paddr, s.paddr+s.memSz, l.ramString()), remedyMemory)
		}
		mem, err := l.slice(e.Image, s.part(), s.paddr, s.memSz)
		if err != nil {
			return 0, 0, err
		}
		if err := e.readInto(ctx, mem[:s.fileSize], int64(s.offset), s.part(), l.cfg.ZeroMemory); err != nil {
			return 0, 0, err
		}
		if !l.cfg.ZeroMemory {
			clear(mem[s.fileSize:])
		}
		start, end = min(start, s.paddr), max(end, s.paddr+s.memSz)
	}
	return start, end, nil
}
