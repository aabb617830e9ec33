//go:build linux

package nestedvm

// The machine: the plain PC boots as fast as any other and has what the kernel expects. The processor leaves out
// what TCG cannot emulate, of which QEMU would warn.
const (
	machineType  = "pc,hpet=off,usb=off,vmport=off,smbus=off"
	cpuModel     = "EPYC,+svm,-rdseed,-sha-ni,-fxsr-opt,-misalignsse,-3dnowprefetch,-osvw,-topoext,-nrip-save,-xsavec,-xsaves"
	serialDevice = "virtio-serial-pci"
)
