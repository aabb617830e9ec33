//go:build linux && amd64

package vmm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/guestmem"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/kvmapi"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/vcpu"
)

// CoreFile is where a core dump goes: a new, empty file. Pages that are all zero
// are not written, so that it can have holes.
type CoreFile interface {
	io.WriterAt
	Truncate(size int64) error
}

// CoreDump writes memory and processors as an ELF core file: a PT_LOAD segment
// for each range of guest memory, whose addresses, physical and virtual, are
// guest-physical; and for each processor a note NT_PRSTATUS (name CORE, the
// processor's number plus one as its pid) and a note with its control registers
// (name polyvisor, type CoreControlNote: CR0, CR2, CR3, CR4, CR8 and EFER, 8
// bytes each). Processors and devices stand still meanwhile; a machine that ran goes on
// afterwards. A machine that has stopped, and is not closed, can be dumped too.
func (m *Machine) CoreDump(ctx context.Context, w CoreFile) error {
	m.op.Lock()
	defer m.op.Unlock()
	if m.closed {
		return &StateError{Op: "core dump", State: StateStopped, Want: []State{StateRunning, StatePaused}}
	}
	m.mu.Lock()
	running := m.state == StateRunning
	m.mu.Unlock()
	if running {
		// A machine that was killed meanwhile stays where it is: resume looks.
		defer func() { _ = m.resume() }()
		if err := m.quiet(ctx); err != nil {
			return err
		}
	}
	notes, err := m.coreNotes()
	if err != nil {
		return err
	}
	return writeCore(ctx, w, m.mem, notes)
}

// CoreControlNote is the type of the note with the control registers.
const CoreControlNote = 1

// ELF, of the System V ABI and its AMD64 supplement.
const (
	elfHeaderSize  = 64
	progHeaderSize = 56
	elfTypeCore    = 4
	elfMachineX64  = 62
	progLoad       = 1
	progNote       = 4
	ntPRStatus     = 1
	coreAlign      = 4096
	corePage       = 4096
	coreChunk      = 1 << 20
)

func (m *Machine) coreNotes() ([]byte, error) {
	var notes []byte
	for i, v := range m.vcpus {
		var regs kvmapi.Regs
		var sregs kvmapi.Sregs
		get := func(c *kvmapi.VCPU) (err error) {
			if regs, err = c.GetRegs(); err == nil {
				sregs, err = c.GetSregs()
			}
			return err
		}
		err := v.Do(get)
		if errors.Is(err, vcpu.ErrStopped) {
			err = get(m.cpus[i]) // no thread is left that could use it
		}
		if err != nil {
			return nil, fmt.Errorf("core dump: registers of vCPU %d: %w", i, err)
		}
		notes = appendNote(notes, "CORE", ntPRStatus, prStatus(i+1, &regs, &sregs))
		var control []byte
		for _, r := range []uint64{sregs.CR0, sregs.CR2, sregs.CR3, sregs.CR4, sregs.CR8, sregs.EFER} {
			control = binary.LittleEndian.AppendUint64(control, r)
		}
		notes = appendNote(notes, "polyvisor", CoreControlNote, control)
	}
	return notes, nil
}

// appendNote appends a note; name and descriptor are padded to 4 bytes.
func appendNote(b []byte, name string, kind uint32, desc []byte) []byte {
	pad := func() {
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(len(name)+1))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(desc)))
	b = binary.LittleEndian.AppendUint32(b, kind)
	b = append(append(b, name...), 0)
	pad()
	b = append(b, desc...)
	pad()
	return b
}

// prStatus is struct elf_prstatus of Linux on x86-64 (linux/elfcore.h,
// asm/user_64.h): 32 bytes of signals, pid at 32, registers at 112, 336 in all.
func prStatus(pid int, r *kvmapi.Regs, s *kvmapi.Sregs) []byte {
	b := make([]byte, 336)
	binary.LittleEndian.PutUint32(b[32:], uint32(pid))
	for i, v := range []uint64{
		r.R15, r.R14, r.R13, r.R12, r.RBP, r.RBX, r.R11, r.R10, r.R9, r.R8, r.RAX, r.RCX, r.RDX, r.RSI, r.RDI,
		^uint64(0), // orig_rax: in no system call
		r.RIP, uint64(s.CS.Selector), r.RFLAGS, r.RSP, uint64(s.SS.Selector), s.FS.Base, s.GS.Base,
		uint64(s.DS.Selector), uint64(s.ES.Selector), uint64(s.FS.Selector), uint64(s.GS.Selector),
	} {
		binary.LittleEndian.PutUint64(b[112+8*i:], v)
	}
	return b
}

func writeCore(ctx context.Context, w CoreFile, mem *guestmem.Memory, notes []byte) error {
	regions := mem.Regions()
	le := binary.LittleEndian
	head := make([]byte, 0, elfHeaderSize+progHeaderSize*(1+len(regions))+len(notes))
	head = append(head, 0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0) // 64 bit, little-endian
	head = le.AppendUint16(head, elfTypeCore)
	head = le.AppendUint16(head, elfMachineX64)
	head = le.AppendUint32(head, 1)
	head = le.AppendUint64(head, 0) // entry
	head = le.AppendUint64(head, elfHeaderSize)
	head = le.AppendUint64(head, 0) // no sections
	head = le.AppendUint32(head, 0)
	for _, v := range []int{elfHeaderSize, progHeaderSize, 1 + len(regions), 0, 0, 0} {
		head = le.AppendUint16(head, uint16(v))
	}
	prog := func(kind, flags uint32, offset, addr, size, align uint64) {
		head = le.AppendUint32(head, kind)
		head = le.AppendUint32(head, flags)
		for _, v := range []uint64{offset, addr, addr, size, size, align} {
			head = le.AppendUint64(head, v)
		}
	}
	notesAt := uint64(elfHeaderSize + progHeaderSize*(1+len(regions)))
	prog(progNote, 0, notesAt, 0, uint64(len(notes)), 4)
	at := (notesAt + uint64(len(notes)) + coreAlign - 1) &^ (coreAlign - 1)
	end := at
	for _, r := range regions {
		prog(progLoad, 7, end, r.GuestAddr, r.Size, coreAlign)
		end += r.Size
	}
	head = append(head, notes...)
	if err := w.Truncate(int64(end)); err != nil {
		return fmt.Errorf("core dump: %w", err)
	}
	if _, err := w.WriteAt(head, 0); err != nil {
		return fmt.Errorf("core dump: %w", err)
	}
	for _, r := range regions {
		for off := uint64(0); off < r.Size; off += coreChunk {
			if err := ctx.Err(); err != nil {
				return err
			}
			p, err := mem.Slice(r.GuestAddr+off, min(coreChunk, r.Size-off))
			if err == nil {
				err = writePages(w, p, int64(at+off))
			}
			if err != nil {
				return fmt.Errorf("core dump: memory at %#x: %w", r.GuestAddr+off, err)
			}
		}
		at += r.Size
	}
	return nil
}

// writePages writes the pages that are not all zero, neighbours together.
func writePages(w io.WriterAt, p []byte, at int64) error {
	for len(p) > 0 {
		n := 0
		for n < len(p) && !isZero(p[n:min(n+corePage, len(p))]) {
			n += corePage
		}
		n = min(n, len(p))
		if n == 0 {
			n = min(corePage, len(p))
		} else if _, err := w.WriteAt(p[:n], at); err != nil {
			return err
		}
		p, at = p[n:], at+int64(n)
	}
	return nil
}

func isZero(p []byte) bool {
	for len(p) >= 8 {
		if binary.NativeEndian.Uint64(p) != 0 {
			return false
		}
		p = p[8:]
	}
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}
