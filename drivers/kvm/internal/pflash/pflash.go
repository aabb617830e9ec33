// Package pflash is a flash memory with the command set of Intel's 28F devices, one byte wide (Common Flash Interface,
// primary command set 1), in which UEFI firmware keeps its variables.
//
// The guest reads it as memory until it gives a command; then reads are the device's, until the command that goes back.
// Whoever makes a Device lets it appear as read-only memory meanwhile, by a callback. It knows no KVM.
//
// What the guest has written goes to the store when the guest goes back to reading, and when the device is closed: firmware
// ends each change of a variable so. It survives the end of the VM process; for a power failure of the host the store is
// as safe as any file that is not synced.
package pflash

import (
	"errors"
	"io"
	"sync"
)

// BlockSize is what is erased at once, as in QEMU's machines.
const BlockSize = 4096

// Commands.
const (
	cmdReadArray    = 0xff
	cmdReadStatus   = 0x70
	cmdClearStatus  = 0x50
	cmdReadID       = 0x90
	cmdQuery        = 0x98
	cmdProgram      = 0x40
	cmdProgramOld   = 0x10
	cmdErase        = 0x20
	cmdEraseConfirm = 0xd0

	statusReady      = 0x80
	statusEraseError = 0x20
	statusSequence   = 0x30 // erase and program error: a wrong sequence of commands

	idMaker  = 0x89
	idDevice = 0x18
)

type mode byte

const (
	readArray mode = iota
	readStatus
	readID
)

type pending byte

const (
	nothing pending = iota
	program
	erase
)

// Config is what a Device is made of.
type Config struct {
	// Memory is what the guest reads; its length is a multiple of BlockSize. It stays the caller's.
	Memory []byte
	// Store keeps what is written, from offset 0 on; nil keeps nothing. It stays the caller's.
	Store io.WriterAt
	// Show lets the memory appear to the guest, or makes its reads come to the device. It is called on a processor's
	// thread, with the device locked. The memory appears at first.
	Show func(bool)
	// OnError is told why the store could not be written, once until it can be again, on a processor's thread with the
	// device locked.
	OnError func(error)
}

// Device is the flash memory. Its methods are for any goroutine.
type Device struct {
	cfg Config

	mu      sync.Mutex
	mode    mode
	pending pending
	status  byte
	// What the store does not have yet lies between first and last; nothing if they are equal.
	first, last uint64
	failed      bool // the store, and it was told
}

// New gives a device.
func New(cfg Config) (*Device, error) {
	if len(cfg.Memory) == 0 || len(cfg.Memory)%BlockSize != 0 {
		return nil, errors.New("flash memory: its size is not a multiple of 4096 bytes")
	}
	return &Device{cfg: cfg}, nil
}

// Read implements bus.Device.
func (d *Device) Read(off uint64, p []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(p)
	switch d.mode {
	case readArray:
		if off < uint64(len(d.cfg.Memory)) {
			copy(p, d.cfg.Memory[off:])
		}
	case readStatus:
		for i := range p {
			p[i] = d.status
		}
	case readID:
		for i := range p {
			switch (off + uint64(i)) % BlockSize {
			case 0:
				p[i] = idMaker
			case 1:
				p[i] = idDevice
			}
		}
	}
}

// Write implements bus.Device. Commands are in the lowest byte; bytes behind the first are programmed, too.
func (d *Device) Write(off uint64, p []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if off >= uint64(len(d.cfg.Memory)) || len(p) == 0 {
		return
	}
	switch d.pending {
	case program:
		d.pending = nothing
		n := uint64(copy(d.cfg.Memory[off:], p))
		d.dirty(off, off+n)
		d.status |= statusReady
	case erase:
		d.pending = nothing
		d.status |= statusReady
		switch p[0] {
		case cmdEraseConfirm:
			block := off &^ (BlockSize - 1)
			b := d.cfg.Memory[block : block+BlockSize]
			for i := range b {
				b[i] = 0xff
			}
			d.dirty(block, block+BlockSize)
		case cmdReadArray:
			d.array()
		default:
			d.status |= statusSequence
		}
	default:
		d.command(p[0])
	}
}

func (d *Device) command(c byte) {
	switch c {
	case cmdReadArray:
		d.array()
		return
	case cmdReadStatus:
		d.set(readStatus)
	case cmdClearStatus:
		d.status = 0
		d.set(readStatus)
	case cmdReadID:
		d.set(readID)
	case cmdProgram, cmdProgramOld:
		d.set(readStatus)
		d.pending = program
	case cmdErase:
		d.set(readStatus)
		d.pending = erase
	default: // also the query and the writing of whole buffers, which no firmware of ours uses
		d.array()
	}
}

func (d *Device) set(m mode) {
	if d.mode == readArray {
		d.cfg.Show(false)
	}
	d.mode = m
}

// array goes back to reading.
func (d *Device) array() {
	d.flush()
	if d.mode != readArray {
		d.mode = readArray
		d.cfg.Show(true)
	}
}

// dirty notes what is to be written to the store.
func (d *Device) dirty(from, to uint64) {
	if d.first == d.last {
		d.first, d.last = from, to
		return
	}
	d.first, d.last = min(d.first, from), max(d.last, to)
}

func (d *Device) flush() {
	if d.first == d.last {
		return
	}
	if d.cfg.Store != nil {
		// What could not be written is tried again with the next change.
		if _, err := d.cfg.Store.WriteAt(d.cfg.Memory[d.first:d.last], int64(d.first)); err != nil {
			if d.cfg.OnError != nil && !d.failed {
				d.cfg.OnError(err)
			}
			d.failed = true
			return
		}
	}
	d.failed = false
	d.first, d.last = 0, 0
}

// Close writes what the store does not have yet. The guest may not run any more.
func (d *Device) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.flush()
}
