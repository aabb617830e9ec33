// Package machine makes the virtual machine of package vmm one that package
// vmmproc can run: it is what the VM process is made of besides those two.
package machine

import "github.com/polyvisor/polyvisor/drivers/kvm/internal/vmm"

// Spec is what travels from the program that starts a domain to its VM process.
type Spec struct {
	// Device is the KVM device.
	Device string `json:"device"`
	// Machine is the machine. Kernel and initial RAM disk come as open files; their
	// paths in it are for messages.
	Machine vmm.Spec `json:"machine"`
}

// Names of the open files that travel with a Spec.
const (
	KernelFile = "kernel"
	InitrdFile = "initrd"
)
