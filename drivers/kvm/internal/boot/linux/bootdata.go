package linux

import "encoding/binary"

// Offsets in struct boot_params outside its setup header (zero-page.rst).
const (
	offRSDP           = 0x070
	offExtRamdisk     = 0x0c0
	offExtRamdiskSize = 0x0c4
	offExtCmdLinePtr  = 0x0c8
	offE820Count      = 0x1e8
	offE820Table      = 0x2d0
	e820EntrySize     = 20
	loaderUndefined   = 0xff
	vidModeNormal     = 0xffff
	elfSetupVersion   = 0x20f
)

// writeBootParams fills the zero page. h is nil for an ELF kernel, which has no
// setup header of its own.
func (l *loader) writeBootParams(h *SetupHeader, e *Entry) error {
	p, err := l.slice(l.cfg.Kernel, "boot parameters", BootParamsAddr, bootParamsSize)
	if err != nil {
		return err
	}
	clear(p)
	le := binary.LittleEndian
	if h != nil {
		copy(p[offSetupSects:setupHeaderEnd], h.raw[:])
		le.PutUint32(p[offCode32:], uint32(e.Kernel.Addr))
		// The pointer is the boot loader's to set; the file's value is none.
		le.PutUint64(p[offSetupData:], 0)
	} else {
		le.PutUint16(p[offBootFlag:], bootFlag)
		copy(p[offMagic:], setupMagic)
		le.PutUint16(p[offVersion:], elfSetupVersion)
		p[offLoadFlags] = loadedHigh
		le.PutUint32(p[offInitrdMax:], defaultInitrdMax)
		le.PutUint32(p[offCmdLineSize:], defaultCommandLine)
	}
	p[offLoaderType] = loaderUndefined
	le.PutUint16(p[offVidMode:], vidModeNormal)
	le.PutUint64(p[offRSDP:], l.cfg.RSDP)
	putSplit(p, offCmdLinePtr, offExtCmdLinePtr, CommandLineAddr)
	putSplit(p, offRamdisk, offExtRamdisk, e.Initrd.Addr)
	putSplit(p, offRamdiskSize, offExtRamdiskSize, e.Initrd.Size)

	table := l.memoryMap()
	p[offE820Count] = byte(len(table))
	for i, m := range table {
		at := p[offE820Table+i*e820EntrySize:]
		le.PutUint64(at, m.Addr)
		le.PutUint64(at[8:], m.Size)
		le.PutUint32(at[16:], m.kind)
	}
	return nil
}

// putSplit stores a value whose upper half has a field of its own.
func putSplit(p []byte, low, high int, v uint64) {
	binary.LittleEndian.PutUint32(p[low:], uint32(v))
	binary.LittleEndian.PutUint32(p[high:], uint32(v>>32))
}

// struct hvm_start_info and what it points to (Xen public headers,
// arch-x86/hvm/start_info.h), laid out in one page.
const (
	startInfoMagic   = 0x336ec578
	startInfoVersion = 1
	startInfoModules = 0x40
	startInfoMap     = 0x80
	hvmMapEntrySize  = 24
)

// writeStartInfo fills the PVH start page.
func (l *loader) writeStartInfo(initrd Range) error {
	p, err := l.slice(l.cfg.Kernel, "PVH start info", StartInfoAddr, startInfoArea)
	if err != nil {
		return err
	}
	clear(p)
	le := binary.LittleEndian
	le.PutUint32(p, startInfoMagic)
	le.PutUint32(p[4:], startInfoVersion)
	if initrd.Size > 0 {
		le.PutUint32(p[12:], 1)
		le.PutUint64(p[16:], StartInfoAddr+startInfoModules)
		le.PutUint64(p[startInfoModules:], initrd.Addr)
		le.PutUint64(p[startInfoModules+8:], initrd.Size)
	}
	le.PutUint64(p[24:], CommandLineAddr)
	le.PutUint64(p[32:], l.cfg.RSDP)
	le.PutUint64(p[40:], StartInfoAddr+startInfoMap)
	table := l.memoryMap()
	le.PutUint32(p[48:], uint32(len(table)))
	for i, m := range table {
		at := p[startInfoMap+i*hvmMapEntrySize:]
		le.PutUint64(at, m.Addr)
		le.PutUint64(at[8:], m.Size)
		le.PutUint32(at[16:], m.kind)
	}
	return nil
}
