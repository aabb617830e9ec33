//go:build linux && amd64

package kvmapi

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
)

// The numbers are sizeof and offsetof of linux/kvm.h and asm/kvm.h of Linux 6.1 on x86-64.
func TestLayout(t *testing.T) {
	var (
		mr  MemoryRegion
		r   Regs
		s   Sregs
		seg Segment
		f   FPU
		c   ClockData
		ifd irqfd
		ev  ioeventfd
		cb  cpuidBuffer
		mb  msrBuffer
	)
	for _, c := range []struct {
		name      string
		got, want uintptr
	}{
		{"sizeof kvm_regs", unsafe.Sizeof(r), 144},
		{"kvm_regs.rip", unsafe.Offsetof(r.RIP), 128},
		{"kvm_regs.rflags", unsafe.Offsetof(r.RFLAGS), 136},
		{"sizeof kvm_sregs", unsafe.Sizeof(s), 312},
		{"kvm_sregs.gdt", unsafe.Offsetof(s.GDT), 192},
		{"kvm_sregs.cr0", unsafe.Offsetof(s.CR0), 224},
		{"kvm_sregs.efer", unsafe.Offsetof(s.EFER), 264},
		{"kvm_sregs.interrupt_bitmap", unsafe.Offsetof(s.InterruptBitmap), 280},
		{"sizeof kvm_segment", unsafe.Sizeof(seg), 24},
		{"kvm_segment.selector", unsafe.Offsetof(seg.Selector), 12},
		{"kvm_segment.type", unsafe.Offsetof(seg.Type), 14},
		{"kvm_segment.unusable", unsafe.Offsetof(seg.Unusable), 22},
		{"sizeof kvm_dtable", unsafe.Sizeof(DTable{}), 16},
		{"sizeof kvm_fpu", unsafe.Sizeof(f), 416},
		{"kvm_fpu.fcw", unsafe.Offsetof(f.FCW), 128},
		{"kvm_fpu.xmm", unsafe.Offsetof(f.XMM), 152},
		{"kvm_fpu.mxcsr", unsafe.Offsetof(f.MXCSR), 408},
		{"sizeof kvm_msr_entry", unsafe.Sizeof(MSR{}), 16},
		{"kvm_msrs.entries", unsafe.Offsetof(mb.entries), 8},
		{"sizeof kvm_cpuid_entry2", unsafe.Sizeof(CPUIDEntry{}), 40},
		{"kvm_cpuid2.entries", unsafe.Offsetof(cb.entries), 8},
		{"sizeof kvm_lapic_state", unsafe.Sizeof(LapicState{}), 1024},
		{"sizeof kvm_translation", unsafe.Sizeof(translation{}), 24},
		{"kvm_translation.valid", unsafe.Offsetof(translation{}.Valid), 16},
		{"sizeof kvm_mp_state", unsafe.Sizeof(MPState(0)), 4},
		{"sizeof kvm_userspace_memory_region", unsafe.Sizeof(mr), 32},
		{"kvm_userspace_memory_region.userspace_addr", unsafe.Offsetof(mr.UserspaceAddr), 24},
		{"sizeof kvm_pit_config", unsafe.Sizeof(pitConfig{}), 64},
		{"sizeof kvm_irq_level", unsafe.Sizeof(irqLevel{}), 8},
		{"sizeof kvm_irqfd", unsafe.Sizeof(ifd), 32},
		{"kvm_irqfd.resamplefd", unsafe.Offsetof(ifd.ResampleFD), 12},
		{"sizeof kvm_ioeventfd", unsafe.Sizeof(ev), 64},
		{"kvm_ioeventfd.fd", unsafe.Offsetof(ev.FD), 20},
		{"kvm_ioeventfd.flags", unsafe.Offsetof(ev.Flags), 24},
		{"sizeof kvm_clock_data", unsafe.Sizeof(c), 48},
		{"kvm_clock_data.realtime", unsafe.Offsetof(c.Realtime), 16},
		{"kvm_clock_data.host_tsc", unsafe.Offsetof(c.HostTSC), 24},
	} {
		assert.Equal(t, c.want, c.got, c.name)
	}
}

// The ioctl numbers are made again from direction, number and size of the argument, which the layout test has checked.
func TestIoctlNumbers(t *testing.T) {
	const none, write, read = 0, 1, 2
	enc := func(dir, nr, size uintptr) uintptr { return dir<<30 | size<<16 | 0xae<<8 | nr }
	for _, c := range []struct {
		name      string
		got, want uintptr
	}{
		{"KVM_GET_API_VERSION", ioGetAPIVersion, enc(none, 0x00, 0)},
		{"KVM_CREATE_VM", ioCreateVM, enc(none, 0x01, 0)},
		{"KVM_GET_MSR_INDEX_LIST", ioGetMSRIndexList, enc(read|write, 0x02, 4)},
		{"KVM_CHECK_EXTENSION", ioCheckExtension, enc(none, 0x03, 0)},
		{"KVM_GET_VCPU_MMAP_SIZE", ioGetVCPUMmapSize, enc(none, 0x04, 0)},
		{"KVM_GET_SUPPORTED_CPUID", ioGetSupportedCPUID, enc(read|write, 0x05, 8)},
		{"KVM_CREATE_VCPU", ioCreateVCPU, enc(none, 0x41, 0)},
		{"KVM_SET_USER_MEMORY_REGION", ioSetUserMemoryRegion, enc(write, 0x46, unsafe.Sizeof(MemoryRegion{}))},
		{"KVM_SET_TSS_ADDR", ioSetTSSAddr, enc(none, 0x47, 0)},
		{"KVM_SET_IDENTITY_MAP_ADDR", ioSetIdentityMapAddr, enc(write, 0x48, 8)},
		{"KVM_CREATE_IRQCHIP", ioCreateIRQChip, enc(none, 0x60, 0)},
		{"KVM_IRQ_LINE", ioIRQLine, enc(write, 0x61, unsafe.Sizeof(irqLevel{}))},
		{"KVM_SIGNAL_MSI", ioSignalMSI, enc(write, 0xa5, unsafe.Sizeof(msi{}))},
		{"KVM_IRQFD", ioIRQFD, enc(write, 0x76, unsafe.Sizeof(irqfd{}))},
		{"KVM_CREATE_PIT2", ioCreatePIT2, enc(write, 0x77, unsafe.Sizeof(pitConfig{}))},
		{"KVM_IOEVENTFD", ioIOEventFD, enc(write, 0x79, unsafe.Sizeof(ioeventfd{}))},
		{"KVM_SET_CLOCK", ioSetClock, enc(write, 0x7b, unsafe.Sizeof(ClockData{}))},
		{"KVM_GET_CLOCK", ioGetClock, enc(read, 0x7c, unsafe.Sizeof(ClockData{}))},
		{"KVM_RUN", ioRun, enc(none, 0x80, 0)},
		{"KVM_GET_REGS", ioGetRegs, enc(read, 0x81, unsafe.Sizeof(Regs{}))},
		{"KVM_SET_REGS", ioSetRegs, enc(write, 0x82, unsafe.Sizeof(Regs{}))},
		{"KVM_GET_SREGS", ioGetSregs, enc(read, 0x83, unsafe.Sizeof(Sregs{}))},
		{"KVM_SET_SREGS", ioSetSregs, enc(write, 0x84, unsafe.Sizeof(Sregs{}))},
		{"KVM_GET_MSRS", ioGetMSRs, enc(read|write, 0x88, 8)},
		{"KVM_SET_MSRS", ioSetMSRs, enc(write, 0x89, 8)},
		{"KVM_GET_FPU", ioGetFPU, enc(read, 0x8c, unsafe.Sizeof(FPU{}))},
		{"KVM_SET_FPU", ioSetFPU, enc(write, 0x8d, unsafe.Sizeof(FPU{}))},
		{"KVM_GET_LAPIC", ioGetLapic, enc(read, 0x8e, unsafe.Sizeof(LapicState{}))},
		{"KVM_SET_LAPIC", ioSetLapic, enc(write, 0x8f, unsafe.Sizeof(LapicState{}))},
		{"KVM_SET_CPUID2", ioSetCPUID2, enc(write, 0x90, 8)},
		{"KVM_TRANSLATE", ioTranslate, enc(read|write, 0x85, 24)},
		{"KVM_GET_MP_STATE", ioGetMPState, enc(read, 0x98, 4)},
		{"KVM_SET_MP_STATE", ioSetMPState, enc(write, 0x99, 4)},
		{"KVM_SET_TSC_KHZ", ioSetTSCKHz, enc(none, 0xa2, 0)},
		{"KVM_GET_TSC_KHZ", ioGetTSCKHz, enc(none, 0xa3, 0)},
		{"KVM_KVMCLOCK_CTRL", ioKVMClockCtrl, enc(none, 0xad, 0)},
	} {
		assert.Equal(t, c.want, c.got, c.name)
	}
}
