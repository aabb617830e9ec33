package vcpu

import (
	"fmt"
	"strings"
)

// FaultKind says why a processor cannot go on.
type FaultKind int

// Kinds of faults.
const (
	FaultShutdown      FaultKind = iota // triple fault (KVM_EXIT_SHUTDOWN)
	FaultInternalError                  // KVM cannot emulate or deliver something
	FaultFailEntry                      // the hardware refuses the guest's state
	FaultSystemEvent                    // the guest asked the kernel's paravirtual interface to stop; Event says how
	FaultHLT                            // halted without an interrupt controller in the kernel
	FaultRun                            // KVM_RUN itself failed
	FaultUnexpected                     // an exit reason that we do not know
)

// Fault is why a processor stopped for good. It is an error with everything that is known.
type Fault struct {
	VCPU  int
	Kind  FaultKind
	Event uint32 // of FaultSystemEvent: kvmapi.SystemEvent...

	SubError uint32   // of FaultInternalError
	Data     []uint64 // of FaultInternalError
	Reason   uint64   // hardware reason of FaultFailEntry, exit reason of FaultUnexpected
	HostCPU  uint32   // of FaultFailEntry
	Err      error    // of FaultRun

	// Where the guest was, when KnowRegs. RegsLost says that the registers are those of a reset processor instead: what
	// AMD's hardware leaves behind after a triple fault is undefined, so KVM resets them. A triple fault that KVM itself
	// found, while it emulated or injected something, leaves them as they were, also on AMD.
	KnowRegs, RegsLost           bool
	RIP, RSP, CR0, CR2, CR3, CR4 uint64
	EFER                         uint64
	CS                           uint16
	Code                         []byte // the bytes at RIP, empty when unknown
}

var subErrors = map[uint32]string{
	1: "emulation failure",
	2: "an exception while another was being delivered",
	3: "an exit while an event was being delivered",
	4: "unexpected exit reason of the hardware",
}

func (f *Fault) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "vCPU %d: ", f.VCPU)
	switch f.Kind {
	case FaultShutdown:
		b.WriteString("triple fault")
	case FaultInternalError:
		name := subErrors[f.SubError]
		if name == "" {
			name = "unknown"
		}
		fmt.Fprintf(&b, "KVM internal error, sub-error %d (%s)", f.SubError, name)
		for i, d := range f.Data {
			fmt.Fprintf(&b, " data[%d]=%#x", i, d)
		}
	case FaultFailEntry:
		fmt.Fprintf(&b, "the hardware refuses to enter the guest, reason %#x on host CPU %d", f.Reason, f.HostCPU)
	case FaultSystemEvent:
		fmt.Fprintf(&b, "system event %d", f.Event)
	case FaultHLT:
		b.WriteString("halted without an interrupt controller")
	case FaultRun:
		fmt.Fprintf(&b, "KVM_RUN: %v", f.Err)
	default:
		fmt.Fprintf(&b, "unexpected exit reason %d", f.Reason)
	}
	switch {
	case f.RegsLost:
		b.WriteString("; the hardware found it and the registers were reset, so where the guest was is not known")
	case f.KnowRegs:
		fmt.Fprintf(&b, "; rip=%#x cs=%#x rsp=%#x cr0=%#x cr2=%#x cr3=%#x cr4=%#x efer=%#x", f.RIP, f.CS, f.RSP, f.CR0, f.CR2, f.CR3, f.CR4, f.EFER)
	}
	if len(f.Code) > 0 {
		fmt.Fprintf(&b, "; code bytes: % x", f.Code)
	}
	return b.String()
}

// Unwrap gives the errno of a failed KVM_RUN.
func (f *Fault) Unwrap() error { return f.Err }
