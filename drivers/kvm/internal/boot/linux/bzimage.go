package linux

import (
	"context"
	"fmt"
	"math/bits"
)

// entry64Offset is the 64-bit entry point, relative to the load address.
const entry64Offset = 0x200

// place finds where the protected-mode code goes and how much memory the
// kernel needs from there on until it can read its memory map.
func (h *SetupHeader) place(img Image, l *loader) (addr, size uint64, err error) {
	if !h.Entry64 {
		return 0, 0, img.fail("setup header", offXLoadFlags, ErrUnsupported, fmt.Sprintf(
			"a 32-bit kernel, or one without a 64-bit entry point (boot protocol %d.%02d)",
			h.Version>>8, h.Version&0xff), remedyKernel)
	}
	size = max(uint64(h.InitSize), uint64(h.KernelSize))
	// A kernel never runs below its preferred address: loading it anywhere
	// else would only cost it a move.
	addr = max(h.PrefAddress, HighMemory)
	if h.Relocatable {
		up, carry := bits.Add64(addr, uint64(h.Alignment)-1, 0)
		if carry != 0 {
			return 0, 0, img.fail("setup header", offPrefAddress, ErrMalformed,
				fmt.Sprintf("preferred address %#x", h.PrefAddress), remedyCopy)
		}
		addr = alignDown(up, uint64(h.Alignment))
	}
	if addr >= l.cfg.LowRAM || size > l.cfg.LowRAM-addr {
		return 0, 0, img.fail("protected-mode code", h.KernelOffset, ErrMemory, fmt.Sprintf(
			"it needs %#x bytes at %#x, RAM is %s", size, addr, l.ramString()), remedyMemory)
	}
	return addr, size, nil
}

// load copies the protected-mode code to addr.
func (h *SetupHeader) load(ctx context.Context, img Image, l *loader, addr uint64) error {
	mem, err := l.slice(img, "protected-mode code", addr, uint64(h.KernelSize))
	if err != nil {
		return err
	}
	return img.readInto(ctx, mem, h.KernelOffset, "protected-mode code", l.cfg.ZeroMemory)
}
