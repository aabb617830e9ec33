package linux

import (
	"encoding/binary"
	"fmt"
)

// Offsets in the setup header of a bzImage and, equally, in struct boot_params
// (boot.rst, "The Real-Mode Kernel Header").
const (
	setupMagic      = "HdrS"
	offSetupSects   = 0x1f1
	offSysSize      = 0x1f4
	offVidMode      = 0x1fa
	offBootFlag     = 0x1fe
	offJump         = 0x200
	offMagic        = 0x202
	offVersion      = 0x206
	offLoaderType   = 0x210
	offLoadFlags    = 0x211
	offCode32       = 0x214
	offRamdisk      = 0x218
	offRamdiskSize  = 0x21c
	offCmdLinePtr   = 0x228
	offInitrdMax    = 0x22c
	offAlignment    = 0x230
	offRelocatable  = 0x234
	offXLoadFlags   = 0x236
	offCmdLineSize  = 0x238
	offPayload      = 0x248
	offPayloadLen   = 0x24c
	offSetupData    = 0x250
	offPrefAddress  = 0x258
	offInitSize     = 0x260
	setupHeaderEnd  = 0x290 // boot_params has no room for more
	bootFlag        = 0xaa55
	loadedHigh      = 1 << 0
	xlfKernel64     = 1 << 0
	sectorSize      = 512
	minSetupVersion = 0x206 // cmdline_size, and a trustworthy syssize
	version208      = 0x208 // payload_offset
	version210      = 0x20a // pref_address, init_size
	version212      = 0x20c // xloadflags
)

// SetupHeader is the checked setup header of a bzImage.
type SetupHeader struct {
	Version uint16 // boot protocol, major<<8 | minor
	// KernelOffset and KernelSize enclose the protected-mode code in the file.
	KernelOffset, KernelSize int64
	CommandLineSize          uint32 // longest command line without its NUL, bytes
	InitrdMax                uint32 // highest address of an initrd byte
	Alignment                uint32 // a power of two
	Relocatable              bool
	Entry64                  bool   // has the 64-bit entry point
	PrefAddress              uint64 // 0 before protocol 2.10
	InitSize                 uint32 // memory needed from the load address; 0 before 2.10
	// Payload is relative to KernelOffset; both are 0 before protocol 2.08.
	PayloadOffset, PayloadLength uint32

	raw [setupHeaderEnd - offSetupSects]byte // from offset 0x1f1, zero after its end
}

// Limits of sane headers: a kernel is neither aligned to nor as big as this.
const (
	maxAlignment  = 1 << 30
	maxKernelSize = 1 << 30
)

// ParseSetupHeader reads the setup header of a bzImage with boot protocol 2.06
// or newer and checks it against the size of the file.
func ParseSetupHeader(img Image) (*SetupHeader, error) {
	var b [setupHeaderEnd]byte
	if img.Size < int64(len(b)) {
		return nil, img.fail("setup header", offSetupSects, ErrTruncated,
			fmt.Sprintf("the file has only %d bytes", img.Size), remedyCopy)
	}
	if err := img.read(b[:], 0, "setup header"); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	if string(b[offMagic:offMagic+4]) != setupMagic || le.Uint16(b[offBootFlag:]) != bootFlag {
		return nil, img.fail("setup header", offMagic, ErrBadMagic, "no HdrS magic or no boot flag", remedyKernel)
	}
	h := &SetupHeader{Version: le.Uint16(b[offVersion:])}
	if h.Version < minSetupVersion || b[offLoadFlags]&loadedHigh == 0 {
		return nil, img.fail("setup header", offVersion, ErrUnsupported, fmt.Sprintf(
			"boot protocol %d.%02d, or a zImage", h.Version>>8, h.Version&0xff), remedyKernel)
	}
	end := offMagic + int(b[offJump+1])
	if b[offJump] != 0xeb || end > setupHeaderEnd || end < headerNeeds(h.Version) {
		return nil, img.fail("setup header", offJump, ErrMalformed,
			fmt.Sprintf("its length (end at %#x) does not suit its version %#x", end, h.Version), remedyCopy)
	}
	copy(h.raw[:], b[offSetupSects:end])
	if err := h.measure(img, b[:end]); err != nil {
		return nil, err
	}
	if err := h.parse(img, b[:end]); err != nil {
		return nil, err
	}
	return h, nil
}

// headerNeeds is the end of the last field that a protocol version defines
// and the loader reads.
func headerNeeds(version uint16) int {
	switch {
	case version >= version210:
		return offInitSize + 4
	case version >= version208:
		return offPayloadLen + 4
	}
	return offCmdLineSize + 4
}

// measure finds the protected-mode code and checks that all of it is there.
func (h *SetupHeader) measure(img Image, b []byte) error {
	sects := int64(b[offSetupSects])
	if sects == 0 {
		sects = 4
	}
	h.KernelOffset = (sects + 1) * sectorSize
	want := int64(binary.LittleEndian.Uint32(b[offSysSize:])) * 16
	if want == 0 || want > maxKernelSize {
		return img.fail("setup header", offSysSize, ErrMalformed,
			fmt.Sprintf("a kernel of %d bytes", want), remedyCopy)
	}
	have := img.Size - h.KernelOffset
	// syssize counts paragraphs of 16 bytes, rounded up or down by the build.
	if have <= want-16 {
		return img.fail("protected-mode code", h.KernelOffset, ErrTruncated,
			fmt.Sprintf("the file has %d bytes, the header promises %d", img.Size, h.KernelOffset+want), remedyCopy)
	}
	// What follows (a signature) is not part of the kernel.
	h.KernelSize = min(have, want+15)
	return nil
}

// parse fills in the fields that the protocol version defines.
func (h *SetupHeader) parse(img Image, b []byte) error {
	le := binary.LittleEndian
	h.InitrdMax = le.Uint32(b[offInitrdMax:])
	h.Alignment = le.Uint32(b[offAlignment:])
	h.Relocatable = b[offRelocatable] != 0
	h.CommandLineSize = le.Uint32(b[offCmdLineSize:])
	if h.Relocatable && (h.Alignment == 0 || h.Alignment > maxAlignment || h.Alignment&(h.Alignment-1) != 0) {
		return img.fail("setup header", offAlignment, ErrMalformed,
			fmt.Sprintf("kernel alignment %#x", h.Alignment), remedyCopy)
	}
	if h.Version >= version212 {
		h.Entry64 = le.Uint16(b[offXLoadFlags:])&xlfKernel64 != 0
	}
	if h.Version >= version210 {
		h.PrefAddress = le.Uint64(b[offPrefAddress:])
		h.InitSize = le.Uint32(b[offInitSize:])
	}
	if h.Version >= version208 {
		h.PayloadOffset = le.Uint32(b[offPayload:])
		h.PayloadLength = le.Uint32(b[offPayloadLen:])
	}
	return nil
}
