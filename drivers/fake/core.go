package fake

import (
	"bufio"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/polyvisor/polyvisor"
)

// CoreDump writes the guest's memory and processors as an ELF core file. A
// segment is there for each range of memory; of what is still zero the file
// holds nothing.
func (i *instance) CoreDump(ctx context.Context, path string) error {
	return i.c.do(ctx, opCoreDump, i.d, "", func(v *verdict) error {
		h := i.c.h
		h.mu.Lock()
		d, err := i.domainLocked()
		if err == nil {
			err = d.demandLocked(polyvisor.OpCoreDump)
		}
		if err == nil && d.run.config.Protected {
			err = errProtected
		}
		if err == nil && d.run.frozen {
			err = fmt.Errorf("%w: the domain is being saved or dumped", polyvisor.ErrBusy)
		}
		if err != nil {
			h.unlock()
			return err
		}
		r := d.run
		c := r.coreLocked()
		r.frozen = true
		h.unlock()
		err = writeNew(ctx, path, v.halfway(), func(f *os.File) error { return c.write(ctx, f) })
		h.mu.Lock()
		defer h.unlock()
		r.frozen = false
		if d.run == r && r.ended == nil {
			r.wakeLocked()
		}
		return err
	})
}

// core is what a core file holds.
type core struct {
	name     string
	cpus     int
	image    []byte // at imageAddr
	mem      memory
	segments []segment
}

// segment is one range of memory, all zero if it is not filled.
type segment struct {
	addr, size uint64
	data       []byte // instead of the memory's contents
	filled     bool
}

func (r *run) coreLocked() *core {
	g := r.guestLocked()
	c := &core{name: r.d.name, cpus: r.config.VCPUs, mem: g.mem.clone()}
	c.image = append(c.image, Banner+"\x00"+r.config.Boot.CommandLine+"\x00"...)
	c.image = append(c.image, make([]byte, -len(c.image)&7)...)
	c.segments = []segment{
		{addr: 0, size: legacyStart},
		{addr: imageAddr, size: uint64(len(c.image)), data: c.image},
		{addr: imageAddr + uint64(len(c.image)), size: freeAddr - imageAddr - uint64(len(c.image))},
	}
	single := make(map[uint64]bool)
	for a := range c.mem.Words {
		if n, ok := mibOf(a); ok {
			single[n] = true
		}
	}
	for n := range freeMiB(r.config.Memory) {
		_, filled := c.mem.regionOf(n)
		c.add(segment{addr: mibAddr(n), size: 1 << 20, filled: filled || single[n]})
	}
	return c
}

// add joins ranges of a kind.
func (c *core) add(s segment) {
	last := &c.segments[len(c.segments)-1]
	if last.data == nil && last.filled == s.filled && last.addr+last.size == s.addr {
		last.size += s.size
		return
	}
	c.segments = append(c.segments, s)
}

const pageSize = 4096

// notes gives a processor status for each virtual CPU, as debuggers expect
// them, and the driver's own note with the domain's name.
func (c *core) notes() []byte {
	const statusSize = 336 // struct elf_prstatus of x86-64
	var b []byte
	note := func(name string, typ uint32, desc []byte) {
		b = le.AppendUint32(b, uint32(len(name)+1))
		b = le.AppendUint32(b, uint32(len(desc)))
		b = le.AppendUint32(b, typ)
		b = append(b, name...)
		b = append(b, make([]byte, 4-len(name)%4)...) // with the zero that ends it
		b = append(b, desc...)
		b = append(b, make([]byte, -len(desc)&3)...)
	}
	for n := range c.cpus {
		status := make([]byte, statusSize)
		le.PutUint32(status[32:], uint32(n+1))     // pr_pid
		le.PutUint64(status[112+16*8:], imageAddr) // rip
		note("CORE", 1, status)                    // NT_PRSTATUS
	}
	note("POLYVISOR", 1, []byte(c.name+"\x00"))
	return b
}

// write writes the file.
func (c *core) write(ctx context.Context, w io.Writer) error {
	const headSize, progSize = 64, 56
	if len(c.segments) >= 0xffff-1 {
		return errors.New("too many pieces of memory for a core file")
	}
	notes := c.notes()
	head := elf.Header64{
		Type: uint16(elf.ET_CORE), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
		Phoff: headSize, Ehsize: headSize, Phentsize: progSize, Phnum: uint16(len(c.segments) + 1),
	}
	copy(head.Ident[:], elf.ELFMAG)
	head.Ident[elf.EI_CLASS], head.Ident[elf.EI_DATA], head.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
	off := uint64(headSize + progSize*(len(c.segments)+1))
	progs := []elf.Prog64{{Type: uint32(elf.PT_NOTE), Off: off, Filesz: uint64(len(notes)), Align: 4}}
	off += uint64(len(notes))
	for _, s := range c.segments {
		p := elf.Prog64{
			Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_W | elf.PF_X), Paddr: s.addr, Vaddr: s.addr, Memsz: s.size, Off: off,
		}
		if s.filled || s.data != nil {
			p.Filesz = s.size
			off += s.size
		}
		progs = append(progs, p)
	}
	b := bufio.NewWriterSize(w, 1<<16)
	for _, part := range []any{head, progs, notes} {
		if err := binary.Write(b, le, part); err != nil {
			return err
		}
	}
	page := make([]byte, pageSize)
	for _, s := range c.segments {
		if _, err := b.Write(s.data); err != nil {
			return err
		}
		for a := s.addr; s.filled && a < s.addr+s.size; a += pageSize {
			if a%(1<<20) == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			c.mem.bytes(a, page)
			if _, err := b.Write(page); err != nil {
				return err
			}
		}
	}
	return b.Flush()
}
