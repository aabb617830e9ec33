//go:build linux

package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Of linux/kvm.h; none of them takes an argument other than 0.
const (
	kvmCreateVM      = 0xae01
	kvmCreateVCPU    = 0xae41
	kvmCreateIRQChip = 0xae60
)

// keepBusy makes two virtual machines that never run, and that stay as long as this process. KVM patches the kernel's code
// whenever the first machine of a kind comes or the last one goes: one whose local APIC is off, as it is before a guest has
// switched it on, one without an APIC in the kernel, any at all. An emulated processor may go on with the code from
// before, or with the breakpoint that stands there meanwhile, for ever. With these two there is never a first or a last.
func keepBusy(kvm *os.File) error {
	for _, irqchip := range []bool{true, false} {
		vm, err := create(int(kvm.Fd()), kvmCreateVM)
		if err != nil {
			return fmt.Errorf("make a virtual machine: %w", err)
		}
		if irqchip {
			if _, err := create(vm, kvmCreateIRQChip); err != nil {
				return fmt.Errorf("give a virtual machine interrupt controllers: %w", err)
			}
		}
		if _, err := create(vm, kvmCreateVCPU); err != nil {
			return fmt.Errorf("give a virtual machine a processor: %w", err)
		}
	}
	return nil
}

// create calls an ioctl that makes something, again when a signal comes between: the Go runtime sends some.
func create(fd int, request uint) (int, error) {
	for {
		got, err := unix.IoctlRetInt(fd, request)
		if err != unix.EINTR {
			return got, err
		}
	}
}
