//go:build linux && amd64

package vcpu

import (
	"encoding/binary"
	"fmt"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/kvmapi"
)

// What the entry state needs in guest memory lies here. All of it is below 0x10000 and outside of what the loaders use.
const (
	GDTAddr = 0x500 // global descriptor table, 6 entries
	IDTAddr = 0x540 // an empty interrupt descriptor table: any exception before the guest has its own is a triple fault

	PML4Addr      = 0x9000 // page tables: one page of each level above, then IdentityGiB pages of 2 MiB entries
	PDPTAddr      = 0xa000
	PDAddr        = 0xb000
	IdentityGiB   = 4 // how much the page tables of 64-bit entry map to itself
	PageTablesEnd = PDAddr + IdentityGiB*0x1000
)

// Selectors of the boot GDT, as the Linux boot protocol wants them (Documentation/arch/x86/boot.rst, 64-bit boot).
const (
	selCode = 0x10
	selData = 0x18
	selTSS  = 0x20
)

// Mode is the state in which the first processor enters the guest.
type Mode int

const (
	// Long64 is 64-bit mode with paging on, the first IdentityGiB GiB mapped to themselves, flat segments, interrupts off.
	Long64 Mode = iota
	// Reset is the state after a reset, in which KVM makes processors: real mode, at the last 16 bytes below 4 GiB.
	Reset
	// PVH is 32-bit protected mode with paging off, flat segments and interrupts off (Xen's x86/HVM direct boot ABI).
	PVH
)

// Entry is where and with which registers the first processor starts. The rest of the general registers are 0.
type Entry struct {
	Mode          Mode
	RIP, RSP      uint64
	RBX, RSI, RDI uint64
}

// Memory is guest RAM.
type Memory interface {
	WriteAt(p []byte, gpa uint64) error
}

// descriptor packs a segment into the GDT's format (Intel SDM volume 3, 3.4.5). The limit is given in the segment's own
// unit: bytes, or with G set the last byte of the last page.
func descriptor(s kvmapi.Segment) uint64 {
	limit := uint64(s.Limit)
	if s.G != 0 {
		limit >>= 12
	}
	access := uint64(s.Type) | uint64(s.S)<<4 | uint64(s.DPL)<<5 | uint64(s.Present)<<7
	flags := uint64(s.AVL) | uint64(s.L)<<1 | uint64(s.DB)<<2 | uint64(s.G)<<3
	return limit&0xffff | (s.Base&0xffffff)<<16 | access<<40 | (limit>>16&0xf)<<48 | flags<<52 | (s.Base>>24&0xff)<<56
}

// segments gives the flat segments of a mode.
func segments(m Mode) (code, data, tss kvmapi.Segment) {
	code = kvmapi.Segment{Limit: 0xffffffff, Selector: selCode, Type: 0xb, Present: 1, S: 1, G: 1}
	if m == Long64 {
		code.L = 1
	} else {
		code.DB = 1
	}
	data = kvmapi.Segment{Limit: 0xffffffff, Selector: selData, Type: 3, Present: 1, S: 1, G: 1, DB: 1}
	tss = kvmapi.Segment{Limit: 0x67, Selector: selTSS, Type: 0xb, Present: 1} // busy
	return code, data, tss
}

// WriteTables writes what the entry state needs into guest memory: descriptor tables and, for Long64, page tables.
func (e Entry) WriteTables(mem Memory) error {
	if e.Mode == Reset {
		return nil
	}
	code, data, tss := segments(e.Mode)
	gdt := make([]byte, 6*8) // the task state segment takes two entries in 64-bit mode
	binary.LittleEndian.PutUint64(gdt[selCode:], descriptor(code))
	binary.LittleEndian.PutUint64(gdt[selData:], descriptor(data))
	binary.LittleEndian.PutUint64(gdt[selTSS:], descriptor(tss))
	if err := mem.WriteAt(gdt, GDTAddr); err != nil {
		return fmt.Errorf("write the descriptor table: %w", err)
	}
	if err := mem.WriteAt(make([]byte, 8), IDTAddr); err != nil {
		return fmt.Errorf("write the interrupt table: %w", err)
	}
	if e.Mode != Long64 {
		return nil
	}
	const present, writable, large = 1 << 0, 1 << 1, 1 << 7
	tables := make([]byte, PageTablesEnd-PML4Addr)
	put := func(addr, v uint64) { binary.LittleEndian.PutUint64(tables[addr-PML4Addr:], v) }
	put(PML4Addr, PDPTAddr|present|writable)
	for g := range uint64(IdentityGiB) {
		put(PDPTAddr+8*g, PDAddr+g*0x1000|present|writable)
		for i := range uint64(512) {
			put(PDAddr+g*0x1000+8*i, g<<30|i<<21|present|writable|large)
		}
	}
	if err := mem.WriteAt(tables, PML4Addr); err != nil {
		return fmt.Errorf("write the page tables: %w", err)
	}
	return nil
}

// Control register bits.
const (
	cr0PE, cr0ET, cr0PG = 1 << 0, 1 << 4, 1 << 31
	cr4PAE              = 1 << 5
	eferLME, eferLMA    = 1 << 8, 1 << 10
	rflagsFixed         = 1 << 1
)

// Apply sets the registers of a processor for the entry. It must come after SetCPUID2, which decides what EFER may hold.
func (e Entry) Apply(cpu *kvmapi.VCPU) error {
	if e.Mode == Reset {
		return nil
	}
	s, err := cpu.GetSregs()
	if err != nil {
		return err
	}
	code, data, tss := segments(e.Mode)
	s.CS, s.TR = code, tss
	s.DS, s.ES, s.FS, s.GS, s.SS = data, data, data, data, data
	s.LDT = kvmapi.Segment{Unusable: 1}
	s.GDT = kvmapi.DTable{Base: GDTAddr, Limit: 6*8 - 1}
	s.IDT = kvmapi.DTable{Base: IDTAddr, Limit: 7}
	if e.Mode == Long64 {
		s.CR0 = cr0PE | cr0ET | cr0PG
		s.CR3 = PML4Addr
		s.CR4 = cr4PAE
		s.EFER = eferLME | eferLMA
	} else {
		s.CR0, s.CR3, s.CR4, s.EFER = cr0PE|cr0ET, 0, 0, 0
	}
	if err := cpu.SetSregs(s); err != nil {
		return err
	}
	return cpu.SetRegs(kvmapi.Regs{RIP: e.RIP, RSP: e.RSP, RBX: e.RBX, RSI: e.RSI, RDI: e.RDI, RFLAGS: rflagsFixed})
}

// Setup does what every processor needs before its first instruction: CPUID, and where no firmware does it (any mode but
// Reset) model-specific registers and local APIC. Processors other than the first then wait in the kernel for the guest's
// INIT and start-up interrupts.
func Setup(cpu *kvmapi.VCPU, m Mode, t Topology, supported []kvmapi.CPUIDEntry, tscDeadline bool) error {
	if t.Cores < 1 || t.Cores > MaxVCPUs || t.ID < 0 || t.ID >= t.Cores {
		return fmt.Errorf("vCPU %d of %d: a machine has 1 to %d", t.ID, t.Cores, MaxVCPUs)
	}
	entries := CPUID(supported, t, tscDeadline)
	if err := cpu.SetCPUID2(entries); err != nil {
		return err
	}
	if m == Reset {
		return nil
	}
	if err := cpu.SetMSRs(MSRs(PhysicalAddressBits(entries))); err != nil {
		return err
	}
	lapic, err := cpu.GetLapic()
	if err != nil {
		return err
	}
	setLINT(&lapic, t.ID)
	return cpu.SetLapic(&lapic)
}
