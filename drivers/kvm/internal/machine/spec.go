// Package machine makes the virtual machine of package vmm one that package
// vmmproc can run: it is what the VM process is made of besides those two.
package machine

import (
	"strconv"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/vmm"
)

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

// VsockSocket is the unix socket in a run's directory through which programs of the host reach the ports of its guest
// (package vsock says how).
const VsockSocket = "vsock.sock"

// VsockSocketOf is the unix socket in a run's directory on which a program of the host serves a port for the guest.
func VsockSocketOf(port uint32) string {
	return VsockSocket + "_" + strconv.FormatUint(uint64(port), 10)
}
