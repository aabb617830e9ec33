package linux

import (
	"context"
	"fmt"
	"strings"
)

// Mode is the CPU state a kernel is entered in.
type Mode int

const (
	// Auto lets the loader choose: 64-bit, except for an ELF file that has a
	// PVH entry point and is not Linux.
	Auto Mode = iota
	// Long64 is 64-bit long mode with paging on: flat segments (CS selector
	// 0x10, data selectors 0x18), interrupts off, and an identity map that
	// covers the first GiB at least and all of the kernel range in [Entry].
	Long64
	// PVH is 32-bit protected mode with paging off and flat segments.
	PVH
)

func (m Mode) String() string {
	switch m {
	case Auto:
		return "auto"
	case Long64:
		return "64-bit"
	case PVH:
		return "PVH"
	}
	return fmt.Sprintf("Mode(%d)", int(m))
}

// Config says what to load and what the machine looks like.
type Config struct {
	Kernel      Image
	Initrd      *Image // nil when there is none
	CommandLine string

	// LowRAM is the RAM from address 0, at most 3 GiB; HighRAM the RAM from
	// 4 GiB on. Both are in bytes and multiples of 4096.
	LowRAM, HighRAM uint64
	// Reserved lists further ranges outside RAM that the guest must leave
	// alone, such as an ECAM window. At most 64.
	Reserved []Range
	// RSDP is the address of the ACPI root pointer; 0 means [DefaultRSDP].
	RSDP uint64
	// Entry asks for a way to enter the kernel. PVH needs an ELF file with
	// a PVH note.
	Entry Mode
	// ZeroMemory promises that guest RAM reads as zero. The loader then
	// leaves untouched what would be zero anyway, which saves page faults
	// and host memory.
	ZeroMemory bool
}

// Entry is the result of a load: how to start the first CPU, and where things
// are. All addresses are guest-physical.
type Entry struct {
	Mode Mode // Long64 or PVH
	RIP  uint64
	RSI  uint64 // Long64: address of boot_params; otherwise 0
	RBX  uint64 // PVH: address of hvm_start_info; otherwise 0

	Format Format
	// Kernel is the memory that the kernel takes up before it can read its
	// memory map. A Long64 start must identity-map it.
	Kernel Range
	Initrd Range // zero when there is none
}

type loader struct {
	mem Memory
	cfg Config
}

// Load puts kernel, initial RAM disk, command line and boot data into guest
// memory. It blocks for as long as the files take to read; ctx is checked
// between reads of a few megabytes. After an error guest memory may be partly
// written. Load is safe to call again on the same memory, as for a reset; then
// ZeroMemory must not be set unless the memory was cleared.
func Load(ctx context.Context, mem Memory, cfg Config) (*Entry, error) {
	if cfg.RSDP == 0 {
		cfg.RSDP = DefaultRSDP
	}
	cfg.Kernel.Name = nameOr(cfg.Kernel.Name, "kernel")
	l := &loader{mem: mem, cfg: cfg}
	if err := l.checkLayout(); err != nil {
		return nil, err
	}
	format, err := Detect(cfg.Kernel)
	if err != nil {
		return nil, err
	}
	if format == ELF {
		return l.loadELF(ctx)
	}
	return l.loadBzImage(ctx)
}

func (l *loader) loadELF(ctx context.Context) (*Entry, error) {
	img, err := parseELF(l.cfg.Kernel)
	if err != nil {
		return nil, err
	}
	e := &Entry{Format: ELF}
	if err := img.chooseEntry(l.cfg.Entry, e); err != nil {
		return nil, err
	}
	if err := l.checkCommandLine(defaultCommandLine); err != nil {
		return nil, err
	}
	start, end, err := img.load(ctx, l)
	if err != nil {
		return nil, err
	}
	e.Kernel = Range{start, end - start}
	var floor uint64
	for _, s := range img.loads {
		if s.paddr < HoleStart {
			floor = max(floor, s.paddr+s.memSz)
		}
	}
	if e.Initrd, err = l.loadInitrd(ctx, floor, defaultInitrdMax); err != nil {
		return nil, err
	}
	if err := l.writeCommandLine(); err != nil {
		return nil, err
	}
	if e.Mode == PVH {
		e.RBX = StartInfoAddr
		return e, l.writeStartInfo(e.Initrd)
	}
	e.RSI = BootParamsAddr
	return e, l.writeBootParams(nil, e)
}

// chooseEntry sets the mode and the entry point. The notes are read only when
// they can matter.
func (e *elfImage) chooseEntry(want Mode, out *Entry) error {
	var info noteInfo
	if want != Long64 {
		var err error
		if info, err = e.readNotes(); err != nil {
			return err
		}
	}
	switch {
	case want == PVH && !info.hasPVH:
		return e.fail("ELF notes", -1, ErrUnsupported, "no PVH entry point",
			"use the 64-bit entry, or a kernel built with CONFIG_PVH=y")
	case want == PVH, want == Auto && info.hasPVH && !info.isLinux:
		out.Mode, out.RIP = PVH, info.pvhEntry
		return e.checkPVHEntry(info.pvhEntry)
	case want == Auto, want == Long64:
		var err error
		out.Mode = Long64
		out.RIP, err = e.physicalEntry()
		return err
	}
	return e.fail("", -1, ErrUnsupported, "unknown entry mode "+want.String(), "")
}

func (l *loader) loadBzImage(ctx context.Context) (*Entry, error) {
	img := l.cfg.Kernel
	h, err := ParseSetupHeader(img)
	if err != nil {
		return nil, err
	}
	if l.cfg.Entry != Auto && l.cfg.Entry != Long64 {
		return nil, img.fail("", -1, ErrUnsupported, "a bzImage has no "+l.cfg.Entry.String()+" entry",
			"unpack it to an ELF vmlinux, or use the 64-bit entry")
	}
	addr, size, err := h.place(img, l)
	if err != nil {
		return nil, err
	}
	if err := l.checkCommandLine(uint64(h.CommandLineSize)); err != nil {
		return nil, err
	}
	if err := h.load(ctx, img, l, addr); err != nil {
		return nil, err
	}
	e := &Entry{Mode: Long64, RIP: addr + entry64Offset, RSI: BootParamsAddr,
		Format: BzImage, Kernel: Range{addr, size}}
	if e.Initrd, err = l.loadInitrd(ctx, addr+size, uint64(h.InitrdMax)); err != nil {
		return nil, err
	}
	if err := l.writeCommandLine(); err != nil {
		return nil, err
	}
	return e, l.writeBootParams(h, e)
}

// checkCommandLine refuses what the kernel would cut off or never see.
func (l *loader) checkCommandLine(limit uint64) error {
	limit = min(limit, maxCommandLine)
	s := l.cfg.CommandLine
	fail := func(reason, remedy string) error {
		return &Error{File: "kernel command line", Offset: -1, Err: ErrCommandLine, Reason: reason, Remedy: remedy}
	}
	if uint64(len(s)) > limit {
		return fail(fmt.Sprintf("%d bytes, %s takes at most %d", len(s), l.cfg.Kernel.Name, limit), "shorten it")
	}
	if i := strings.IndexByte(s, 0); i >= 0 {
		return fail(fmt.Sprintf("it has a NUL byte at position %d", i), "remove it")
	}
	return nil
}

func (l *loader) writeCommandLine() error {
	mem, err := l.slice(Image{Name: "kernel command line"}, "", CommandLineAddr, uint64(len(l.cfg.CommandLine))+1)
	if err != nil {
		return err
	}
	mem[copy(mem, l.cfg.CommandLine)] = 0
	return nil
}

// loadInitrd puts the initial RAM disk as high as it may go, in low RAM above
// floor. maxAddr is the highest address its last byte may have.
func (l *loader) loadInitrd(ctx context.Context, floor, maxAddr uint64) (Range, error) {
	if l.cfg.Initrd == nil {
		return Range{}, nil
	}
	img := *l.cfg.Initrd
	img.Name = nameOr(img.Name, "initrd")
	if img.Size <= 0 {
		return Range{}, img.fail("", -1, ErrTruncated, "the initrd is empty", "leave it out or use another file")
	}
	size, top := uint64(img.Size), min(l.cfg.LowRAM, maxAddr+1)
	floor = alignUp(max(floor, HighMemory), pageSize)
	if floor > top || size > top-floor {
		return Range{}, img.fail("", -1, ErrMemory, fmt.Sprintf(
			"%d bytes of initrd, %#x-%#x is free for it", size, floor, max(floor, top)), remedyMemory)
	}
	addr := alignDown(top-size, pageSize)
	if addr < floor {
		return Range{}, img.fail("", -1, ErrMemory, fmt.Sprintf(
			"%d bytes of initrd, %#x-%#x is free for it", size, floor, top), remedyMemory)
	}
	mem, err := l.slice(img, "", addr, size)
	if err != nil {
		return Range{}, err
	}
	return Range{addr, size}, img.readInto(ctx, mem, 0, "", l.cfg.ZeroMemory)
}

func nameOr(name, def string) string {
	if name == "" {
		return def
	}
	return name
}
