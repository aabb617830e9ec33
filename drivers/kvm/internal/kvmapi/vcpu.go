//go:build linux && amd64

package kvmapi

import (
	"fmt"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// VCPU is a virtual processor's descriptor and its shared page.
type VCPU struct {
	handle
	run RunPage
}

// Close unmaps the shared page and closes the descriptor. Nobody may be in Run or hold the page's data.
func (c *VCPU) Close() error {
	if c.closed.Load() {
		return nil
	}
	err := c.close()
	if e := unix.Munmap(c.run.b); err == nil {
		err = e
	}
	c.run.b = nil
	return err
}

// Page gives the page that the kernel shares with us about this processor.
func (c *VCPU) Page() *RunPage { return &c.run }

// Run runs the guest on the calling thread until something needs us; the shared page says what. It returns the bare
// errno (0: look at the page; EINTR: a signal or immediate_exit; EAGAIN: the processor was woken and has to run again),
// without allocating.
//
// It must not be RawSyscall: the scheduler would not know that the thread is away and the collector would wait for it.
// Needs: basic.
func (c *VCPU) Run() syscall.Errno {
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(c.fd), ioRun, 0)
	return errno
}

// GetRegs reads the general registers.
// Needs: basic.
func (c *VCPU) GetRegs() (r Regs, err error) {
	_, err = c.ioctlPtr("KVM_GET_REGS", ioGetRegs, unsafe.Pointer(&r))
	return r, err
}

// SetRegs writes the general registers.
// Needs: basic.
func (c *VCPU) SetRegs(r Regs) error {
	_, err := c.ioctlPtr("KVM_SET_REGS", ioSetRegs, unsafe.Pointer(&r))
	return err
}

// GetSregs reads the segment and control registers.
// Needs: basic.
func (c *VCPU) GetSregs() (s Sregs, err error) {
	_, err = c.ioctlPtr("KVM_GET_SREGS", ioGetSregs, unsafe.Pointer(&s))
	return s, err
}

// SetSregs writes the segment and control registers.
// Needs: basic.
func (c *VCPU) SetSregs(s Sregs) error {
	_, err := c.ioctlPtr("KVM_SET_SREGS", ioSetSregs, unsafe.Pointer(&s))
	return err
}

// Translate gives the guest-physical address of a linear one, by the processor's page tables; ok is false when they do not
// map it. It is KVM_TRANSLATE.
func (c *VCPU) Translate(linear uint64) (gpa uint64, ok bool, err error) {
	t := translation{LinearAddress: linear}
	_, err = c.ioctlPtr("KVM_TRANSLATE", ioTranslate, unsafe.Pointer(&t))
	return t.PhysicalAddress, err == nil && t.Valid != 0, err
}

// GetFPU reads the x87 and SSE registers.
// Needs: basic.
func (c *VCPU) GetFPU() (f FPU, err error) {
	_, err = c.ioctlPtr("KVM_GET_FPU", ioGetFPU, unsafe.Pointer(&f))
	return f, err
}

// SetFPU writes the x87 and SSE registers.
// Needs: basic.
func (c *VCPU) SetFPU(f FPU) error {
	_, err := c.ioctlPtr("KVM_SET_FPU", ioSetFPU, unsafe.Pointer(&f))
	return err
}

// SetCPUID2 says what the guest's CPUID instruction answers. It must come before the first Run.
// Needs: KVM_CAP_EXT_CPUID.
func (c *VCPU) SetCPUID2(entries []CPUIDEntry) error {
	if len(entries) > MaxCPUIDEntries {
		return fmt.Errorf("KVM_SET_CPUID2: %d entries, at most %d", len(entries), MaxCPUIDEntries)
	}
	buf := &cpuidBuffer{n: uint32(len(entries))}
	copy(buf.entries[:], entries)
	_, err := c.ioctlPtr("KVM_SET_CPUID2", ioSetCPUID2, unsafe.Pointer(buf))
	return err
}

// maxMSRs bounds one call; KVM takes 256 entries (MAX_IO_MSRS).
const maxMSRs = 256

// msrBuffer is struct kvm_msrs with room for the most entries that KVM takes.
type msrBuffer struct {
	n       uint32
	_       uint32
	entries [maxMSRs]MSR
}

// GetMSRs reads the registers named by the Index of each element and sets its Data.
// Needs: basic.
func (c *VCPU) GetMSRs(msrs []MSR) error { return c.msrs("KVM_GET_MSRS", ioGetMSRs, msrs, true) }

// SetMSRs writes model-specific registers in order. The error names the first that KVM refuses.
// Needs: basic.
func (c *VCPU) SetMSRs(msrs []MSR) error { return c.msrs("KVM_SET_MSRS", ioSetMSRs, msrs, false) }

func (c *VCPU) msrs(name string, req uintptr, msrs []MSR, back bool) error {
	for chunk := range slices.Chunk(msrs, maxMSRs) {
		buf := &msrBuffer{n: uint32(len(chunk))}
		copy(buf.entries[:], chunk)
		n, err := c.ioctlPtr(name, req, unsafe.Pointer(buf))
		if err != nil {
			return err
		}
		if n < len(chunk) {
			return fmt.Errorf("%s: KVM refuses MSR %#x (value %#x)", name, chunk[n].Index, chunk[n].Data)
		}
		if back {
			copy(chunk, buf.entries[:])
		}
	}
	return nil
}

// GetLapic reads the local APIC.
// Needs: KVM_CAP_IRQCHIP.
func (c *VCPU) GetLapic() (l LapicState, err error) {
	_, err = c.ioctlPtr("KVM_GET_LAPIC", ioGetLapic, unsafe.Pointer(&l))
	return l, err
}

// SetLapic writes the local APIC.
// Needs: KVM_CAP_IRQCHIP.
func (c *VCPU) SetLapic(l *LapicState) error {
	_, err := c.ioctlPtr("KVM_SET_LAPIC", ioSetLapic, unsafe.Pointer(l))
	return err
}

// GetMPState reads the multiprocessing state.
// Needs: KVM_CAP_MP_STATE.
func (c *VCPU) GetMPState() (s MPState, err error) {
	_, err = c.ioctlPtr("KVM_GET_MP_STATE", ioGetMPState, unsafe.Pointer(&s))
	return s, err
}

// SetMPState writes the multiprocessing state.
// Needs: KVM_CAP_MP_STATE.
func (c *VCPU) SetMPState(s MPState) error {
	_, err := c.ioctlPtr("KVM_SET_MP_STATE", ioSetMPState, unsafe.Pointer(&s))
	return err
}

// KVMClockCtrl tells the guest, through its kvmclock page, that the host stopped it on purpose, so that its watchdogs
// forgive the gap. It fails with EINVAL while the guest has set up no kvmclock.
// Needs: KVM_CAP_KVMCLOCK_CTRL.
func (c *VCPU) KVMClockCtrl() error {
	_, err := c.ioctl("KVM_KVMCLOCK_CTRL", ioKVMClockCtrl, 0)
	return err
}

// TSCKHz gives the frequency of the guest's time stamp counter in kHz.
// Needs: KVM_CAP_GET_TSC_KHZ.
func (c *VCPU) TSCKHz() (int, error) { return c.ioctl("KVM_GET_TSC_KHZ", ioGetTSCKHz, 0) }

// SetTSCKHz sets the frequency of the guest's time stamp counter in kHz.
// Needs: KVM_CAP_TSC_CONTROL, or a value close to the host's own.
func (c *VCPU) SetTSCKHz(khz int) error {
	_, err := c.ioctl("KVM_SET_TSC_KHZ", ioSetTSCKHz, uintptr(khz))
	return err
}
