//go:build linux && amd64

package kvmapi

import (
	"encoding/binary"
	"sync/atomic"
	"unsafe"
)

// Offsets in struct kvm_run.
const (
	offFlags      = 0 // request_interrupt_window, immediate_exit and padding, as one word
	offExitReason = 8
	offUnion      = 32
	offIOSize     = offUnion + 1
	offIOPort     = offUnion + 2
	offIOCount    = offUnion + 4
	offIOData     = offUnion + 8
	offMMIOData   = offUnion + 8
	offMMIOLen    = offUnion + 16
	offMMIOWrite  = offUnion + 20
	runPageMin    = 2352 // sizeof(struct kvm_run)

	immediateExitBit = 1 << 8 // byte 1 of the first word
)

// RunPage is struct kvm_run, the memory that the kernel shares with us about one processor. Its fields are valid after
// Run returned 0 and until the next Run; only SetImmediateExit may be called by another thread.
type RunPage struct {
	b []byte
}

func (p *RunPage) u32(off int) uint32 { return binary.LittleEndian.Uint32(p.b[off:]) }
func (p *RunPage) u64(off int) uint64 { return binary.LittleEndian.Uint64(p.b[off:]) }

// SetImmediateExit makes the next Run return EINTR before it enters the guest (it still finishes the last I/O), until it
// is cleared. The field is one byte; Go stores words atomically, and the word's other bytes are ours and stay clear.
// Needs: KVM_CAP_IMMEDIATE_EXIT.
func (p *RunPage) SetImmediateExit(on bool) {
	var v uint32
	if on {
		v = immediateExitBit
	}
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&p.b[offFlags])), v)
}

// ExitReason says why Run came back.
func (p *RunPage) ExitReason() ExitReason { return ExitReason(p.u32(offExitReason)) }

// IO is a port access: Count elements of Size bytes each, all at Port.
type IO struct {
	Write bool
	Size  int // 1, 2 or 4
	Port  uint16
	Count int
	// Data has Size*Count bytes inside the shared page: what the guest wrote, or where the answer goes.
	Data []byte
}

// IO gives the port access of an [ExitIO]. ok is false when the page makes no sense.
func (p *RunPage) IO() (io IO, ok bool) {
	io.Write = p.b[offUnion] == 1
	io.Size = int(p.b[offIOSize])
	io.Port = binary.LittleEndian.Uint16(p.b[offIOPort:])
	io.Count = int(p.u32(offIOCount))
	off := p.u64(offIOData)
	n := uint64(io.Size) * uint64(io.Count)
	if n == 0 || off > uint64(len(p.b)) || n > uint64(len(p.b))-off {
		return IO{}, false
	}
	io.Data = p.b[off : off+n : off+n]
	return io, true
}

// MMIO is an access to guest physical memory that no slot backs.
type MMIO struct {
	Write bool
	Addr  uint64
	Data  []byte // 1 to 8 bytes inside the shared page: what the guest wrote, or where the answer goes
}

// MMIO gives the access of an [ExitMMIO]. ok is false when the page makes no sense.
func (p *RunPage) MMIO() (m MMIO, ok bool) {
	n := p.u32(offMMIOLen)
	if n == 0 || n > 8 {
		return MMIO{}, false
	}
	m.Write = p.b[offMMIOWrite] != 0
	m.Addr = p.u64(offUnion)
	m.Data = p.b[offMMIOData : offMMIOData+n : offMMIOData+n]
	return m, true
}

// InternalError is what KVM says about an [ExitInternalError].
type InternalError struct {
	SubError uint32   // InternalError...
	Data     []uint64 // meaning depends on SubError
	Code     []byte   // the guest's bytes that KVM could not emulate, empty when it does not tell
}

// InternalError gives a copy of the details of an [ExitInternalError].
// Needs: KVM_CAP_INTERNAL_ERROR_DATA for Data; Linux 5.13 for Code.
func (p *RunPage) InternalError() InternalError {
	e := InternalError{SubError: p.u32(offUnion)}
	n := min(p.u32(offUnion+4), 16)
	for i := range int(n) {
		e.Data = append(e.Data, p.u64(offUnion+8+8*i))
	}
	// An emulation failure has flags in data[0]; bit 0 says that a length byte and code bytes follow.
	if e.SubError == InternalErrorEmulation && n >= 3 && e.Data[0]&1 != 0 {
		size := min(int(p.b[offUnion+16]), 15)
		e.Code = append(e.Code, p.b[offUnion+17:offUnion+17+size]...)
	}
	return e
}

// FailEntry gives the hardware's reason of an [ExitFailEntry] and the host CPU it happened on.
func (p *RunPage) FailEntry() (reason uint64, cpu uint32) {
	return p.u64(offUnion), p.u32(offUnion + 8)
}

// SystemEvent gives the type of an [ExitSystemEvent].
func (p *RunPage) SystemEvent() uint32 { return p.u32(offUnion) }

// HardwareReason gives the code of an [ExitUnknown].
func (p *RunPage) HardwareReason() uint64 { return p.u64(offUnion) }
