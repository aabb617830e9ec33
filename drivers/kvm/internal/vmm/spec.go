package vmm

import (
	"errors"
	"fmt"
	"strings"
)

// Bounds of a Spec.
const (
	MinMemory = 32 << 20 // bytes
	MaxVCPUs  = 64
)

// Spec says what a machine is. It holds no open files and no pointers into the process, so that it can be sent to the
// process that runs the machine.
type Spec struct {
	Memory    uint64 `json:"memory"`               // bytes, a multiple of 4096, at least MinMemory
	VCPUs     int    `json:"vcpus"`                // 1 to MaxVCPUs
	HugePages bool   `json:"huge_pages,omitempty"` // advise the host to back memory by transparent huge pages
	Boot      Boot   `json:"boot"`

	Disks []Disk `json:"disks,omitempty"`
	NICs  []NIC  `json:"nics,omitempty"`
	RNG   *RNG   `json:"rng,omitempty"` // a random number generator
	// VirtioConsole is a virtio console beside the serial port: it takes the input, and what is printed on both goes to
	// one place.
	VirtioConsole bool   `json:"virtio_console,omitempty"`
	Vsock         *Vsock `json:"vsock,omitempty"`
}

// Vsock is a socket device.
type Vsock struct {
	CID uint32 `json:"cid"` // the guest's address, 3 to 4294967294
}

// NIC is a network interface.
type NIC struct {
	Name string  `json:"name"` // in errors and counters
	MAC  [6]byte `json:"mac"`
	MTU  uint16  `json:"mtu,omitempty"` // told to the guest; 0 tells nothing
	// Files are the names in Options.Files of the back end: one non-blocking file for each pair of queues, with a frame
	// in each read and write.
	Files []string `json:"files"`
	// Tap says that the files are queues of a tap with headers of 12 bytes and offloads (kvmapi.OpenTapQueue).
	Tap bool `json:"tap,omitempty"`
}

// Disk is a block device.
type Disk struct {
	Name     string `json:"name"`   // in errors and counters
	File     string `json:"file"`   // the name of the image in Options.Files, which is locked already
	Format   string `json:"format"` // "raw" or "qcow2"
	ReadOnly bool   `json:"read_only,omitempty"`
	Serial   string `json:"serial,omitempty"`
	Cache    string `json:"cache,omitempty"`  // see disk.ParseCache
	Queues   int    `json:"queues,omitempty"` // 0 is one for each vCPU, up to four
}

// RNG is a random number generator.
type RNG struct {
	// File is the name in Options.Files of what gives the numbers; empty for the kernel's own.
	File string `json:"file,omitempty"`
	// BytesPerSecond bounds what the guest gets; 0 is no bound.
	BytesPerSecond uint64 `json:"bytes_per_second,omitempty"`
}

// hasPCI says whether the machine has devices that want a PCI bus, or firmware, which does.
func (s *Spec) hasPCI() bool {
	return len(s.Disks)+len(s.NICs) > 0 || s.RNG != nil || s.VirtioConsole || s.Vsock != nil || s.Boot.Kind == BootFirmware
}

// Boot kinds.
const (
	BootLinux = "linux" // a Linux kernel: ELF vmlinux or bzImage
	BootGuest = "guest" // the guest that is built in
	// BootFirmware is UEFI firmware for QEMU's PC (OVMF), which boots from a disk.
	BootFirmware = "firmware"
)

// Boot says what a machine runs.
type Boot struct {
	Kind        string `json:"kind"`
	Kernel      string `json:"kernel,omitempty"` // path; Options.Kernel goes before it
	Initrd      string `json:"initrd,omitempty"` // path; Options.Initrd goes before it
	CommandLine string `json:"command_line,omitempty"`
	Entry       string `json:"entry,omitempty"` // "" lets the loader choose, "long64", "pvh"

	Firmware string `json:"firmware,omitempty"` // the name in Options.Files of the image
	// Variables is the name in Options.Files of what keeps the firmware's variables, for reading and writing; empty
	// forgets them with the machine.
	Variables string `json:"variables,omitempty"`
}

// ErrSpec is what every error of Validate matches.
var ErrSpec = errors.New("invalid machine specification")

// Validate checks what can be checked without the host and reports all that is wrong.
func (s *Spec) Validate() error {
	var bad []string
	add := func(format string, a ...any) { bad = append(bad, fmt.Sprintf(format, a...)) }
	switch {
	case s.Memory < MinMemory:
		add("memory of %d bytes is less than the least, %d", s.Memory, MinMemory)
	case s.Memory%4096 != 0:
		add("memory of %d bytes is not a multiple of 4096", s.Memory)
	}
	if s.VCPUs < 1 || s.VCPUs > MaxVCPUs {
		add("%d vCPUs, a machine has 1 to %d", s.VCPUs, MaxVCPUs)
	}
	switch s.Boot.Kind {
	case BootLinux:
	case BootGuest:
		if s.Boot.Kernel != "" || s.Boot.Initrd != "" {
			add("the built-in guest takes no kernel and no initrd")
		}
	case BootFirmware:
		if s.Boot.Kernel != "" || s.Boot.Initrd != "" || s.Boot.CommandLine != "" || s.Boot.Entry != "" {
			add("firmware takes no kernel, initrd, command line and entry")
		}
	default:
		add("boot kind %q is none of %q, %q, %q", s.Boot.Kind, BootLinux, BootGuest, BootFirmware)
	}
	switch s.Boot.Entry {
	case "", "long64", "pvh":
	default:
		add("boot entry %q is none of \"\", \"long64\", \"pvh\"", s.Boot.Entry)
	}
	if strings.ContainsRune(s.Boot.CommandLine, 0) {
		add("the command line has a zero byte")
	}
	if bad == nil {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrSpec, strings.Join(bad, "; "))
}
