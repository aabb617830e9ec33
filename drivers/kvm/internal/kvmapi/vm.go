//go:build linux && amd64

package kvmapi

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// VM is a virtual machine's descriptor.
type VM struct {
	handle
	mmapSize int
}

// Close closes the descriptor. The machine goes when the descriptors of its vCPUs are closed too.
func (v *VM) Close() error { return v.close() }

// CheckExtension asks for a capability of this machine: 0 means absent.
// Needs: KVM_CAP_CHECK_EXTENSION_VM (Linux 3.17).
func (v *VM) CheckExtension(c Cap) (int, error) {
	return v.ioctl("KVM_CHECK_EXTENSION", ioCheckExtension, uintptr(c))
}

// CreateVCPU makes virtual processor number id, which is also its APIC id, and maps its shared page.
// Needs: basic; an id below the value of KVM_CAP_MAX_VCPU_ID.
func (v *VM) CreateVCPU(id int) (*VCPU, error) {
	fd, err := v.ioctl("KVM_CREATE_VCPU", ioCreateVCPU, uintptr(id))
	if err != nil {
		return nil, err
	}
	page, err := unix.Mmap(fd, 0, v.mmapSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("map the shared page of vCPU %d: %w", id, err)
	}
	return &VCPU{handle: handle{fd: fd}, run: RunPage{b: page}}, nil
}

// SetUserMemoryRegion makes, moves or (with size 0) removes a slot of guest memory. The memory stays the caller's and
// must stay mapped while the slot exists.
// Needs: KVM_CAP_USER_MEMORY.
func (v *VM) SetUserMemoryRegion(r MemoryRegion) error {
	_, err := v.ioctlPtr("KVM_SET_USER_MEMORY_REGION", ioSetUserMemoryRegion, unsafe.Pointer(&r))
	return err
}

// SetTSSAddr gives KVM three pages of guest address space below 4 GiB for its own use on Intel hosts without
// unrestricted guests. No memory slot or device may be there.
// Needs: KVM_CAP_SET_TSS_ADDR.
func (v *VM) SetTSSAddr(addr uint32) error {
	_, err := v.ioctl("KVM_SET_TSS_ADDR", ioSetTSSAddr, uintptr(addr))
	return err
}

// SetIdentityMapAddr gives KVM one page of guest address space below 4 GiB, as SetTSSAddr. It must come before the first
// vCPU.
// Needs: KVM_CAP_SET_IDENTITY_MAP_ADDR.
func (v *VM) SetIdentityMapAddr(addr uint64) error {
	_, err := v.ioctlPtr("KVM_SET_IDENTITY_MAP_ADDR", ioSetIdentityMapAddr, unsafe.Pointer(&addr))
	return err
}

// CreateIRQChip puts two 8259, one IOAPIC and a local APIC per vCPU into the kernel. It must come before the first vCPU.
// Needs: KVM_CAP_IRQCHIP.
func (v *VM) CreateIRQChip() error {
	_, err := v.ioctl("KVM_CREATE_IRQCHIP", ioCreateIRQChip, 0)
	return err
}

// CreatePIT2 puts an 8254 timer into the kernel, with port 0x61 answered there too, such that a guest that waits on
// the speaker port does not leave the kernel. It must come after CreateIRQChip.
// Needs: KVM_CAP_PIT2.
func (v *VM) CreatePIT2() error {
	c := pitConfig{Flags: 1} // KVM_PIT_SPEAKER_DUMMY
	_, err := v.ioctlPtr("KVM_CREATE_PIT2", ioCreatePIT2, unsafe.Pointer(&c))
	return err
}

// IRQLine sets the level of an interrupt input of the in-kernel chips.
// Needs: KVM_CAP_IRQCHIP.
func (v *VM) IRQLine(gsi uint32, level bool) error {
	l := irqLevel{IRQ: gsi}
	if level {
		l.Level = 1
	}
	_, err := v.ioctlPtr("KVM_IRQ_LINE", ioIRQLine, unsafe.Pointer(&l))
	return err
}

// SignalMSI sends a message-signalled interrupt: what a device's write of data to addr is.
// Needs: KVM_CAP_SIGNAL_MSI.
func (v *VM) SignalMSI(addr uint64, data uint32) error {
	m := msi{AddressLo: uint32(addr), AddressHi: uint32(addr >> 32), Data: data}
	_, err := v.ioctlPtr("KVM_SIGNAL_MSI", ioSignalMSI, unsafe.Pointer(&m))
	return err
}

// IRQFD makes every signal of e pulse the interrupt input gsi, without a system call of ours between.
// Needs: KVM_CAP_IRQFD.
func (v *VM) IRQFD(e *EventFD, gsi uint32) error {
	return v.irqfd(irqfd{FD: uint32(e.fd), GSI: gsi})
}

// RemoveIRQFD undoes IRQFD.
// Needs: KVM_CAP_IRQFD.
func (v *VM) RemoveIRQFD(e *EventFD, gsi uint32) error {
	return v.irqfd(irqfd{FD: uint32(e.fd), GSI: gsi, Flags: irqfdFlagDeassign})
}

func (v *VM) irqfd(a irqfd) error {
	_, err := v.ioctlPtr("KVM_IRQFD", ioIRQFD, unsafe.Pointer(&a))
	return err
}

// IOEvent names the guest writes that signal an eventfd.
type IOEvent struct {
	Addr uint64
	Len  uint32  // 1, 2, 4, 8; 0 means any length (KVM_CAP_IOEVENTFD_ANY_LENGTH) and excludes Data
	PIO  bool    // Addr is a port
	Data *uint64 // only writes of this value, nil for all
}

// IOEventFD makes guest writes signal e instead of ending KVM_RUN.
// Needs: KVM_CAP_IOEVENTFD.
func (v *VM) IOEventFD(e *EventFD, ev IOEvent) error { return v.ioeventfd(e, ev, 0) }

// RemoveIOEventFD undoes IOEventFD with the same arguments.
// Needs: KVM_CAP_IOEVENTFD.
func (v *VM) RemoveIOEventFD(e *EventFD, ev IOEvent) error {
	return v.ioeventfd(e, ev, ioeventfdFlagDeassign)
}

func (v *VM) ioeventfd(e *EventFD, ev IOEvent, flags uint32) error {
	a := ioeventfd{Addr: ev.Addr, Len: ev.Len, FD: int32(e.fd), Flags: flags}
	if ev.PIO {
		a.Flags |= ioeventfdFlagPIO
	}
	if ev.Data != nil {
		a.Flags |= ioeventfdFlagDatamatch
		a.Datamatch = *ev.Data
	}
	_, err := v.ioctlPtr("KVM_IOEVENTFD", ioIOEventFD, unsafe.Pointer(&a))
	return err
}

// GetClock reads the machine's kvmclock.
// Needs: KVM_CAP_ADJUST_CLOCK.
func (v *VM) GetClock() (ClockData, error) {
	var c ClockData
	_, err := v.ioctlPtr("KVM_GET_CLOCK", ioGetClock, unsafe.Pointer(&c))
	return c, err
}

// SetClock sets the machine's kvmclock. Flags other than ClockRealtime must be clear.
// Needs: KVM_CAP_ADJUST_CLOCK.
func (v *VM) SetClock(c ClockData) error {
	_, err := v.ioctlPtr("KVM_SET_CLOCK", ioSetClock, unsafe.Pointer(&c))
	return err
}
