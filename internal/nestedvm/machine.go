//go:build linux

package nestedvm

// The machine: the plain PC boots as fast as any and has what the kernel expects.
const (
	machineType  = "pc,hpet=off,usb=off,vmport=off,smbus=off"
	cpuModel     = "EPYC,+svm"
	serialDevice = "virtio-serial-pci"
)
