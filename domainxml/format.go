package domainxml

import (
	"encoding/xml"
	"fmt"
	"regexp"

	"github.com/google/uuid"
	"libvirt.org/go/libvirtxml"

	"github.com/polyvisor/polyvisor"
)

// Options say what a Config does not.
type Options struct {
	// Type is the domain's type, the word for its hypervisor: "kvm" if empty.
	Type string
	// Arch is the architecture of the guest in Go's words, as in
	// polyvisor.Capabilities; it is left to the hypervisor if empty.
	Arch string
	// Machine is the model of the machine, and Emulator the program that runs it;
	// both are left to the hypervisor if empty.
	Machine, Emulator string
	// Panic adds the device by which a guest's kernel tells that it has crashed,
	// of the given model, such as "isa"; none if empty.
	Panic string
	// Random writes DefaultRandom where a Config names no source of random numbers, and
	// notes that: a hypervisor would choose one and tell that.
	Random bool
	// SharedMemory makes the guest's memory such that shares can be attached later.
	SharedMemory bool
	// Aliases gives devices names by which AliasID finds their DeviceIDs.
	Aliases bool
}

// DefaultRandom is the host's source of random numbers where none is named.
const DefaultRandom = "/dev/urandom"

// archs are libvirt's words for architectures.
var archs = map[string]string{"amd64": "x86_64", "arm64": "aarch64", "386": "i686", "": ""}

// Format writes a valid Config as domain XML, with its defaults except those
// that are random: UUID and MAC addresses that are not set are left out.
//
// The error matches polyvisor.ErrInvalidConfig: the Config is not valid, or it
// has open files, which have no form in XML.
func Format(c *polyvisor.Config, o Options) (string, error) {
	if err := c.Validate(); err != nil {
		return "", err
	}
	for _, f := range c.Files() {
		if f.File.Open != nil {
			return "", fmt.Errorf("%w: %s: open file %s has no form in XML; give its path", polyvisor.ErrInvalidConfig, f.Field, f.File)
		}
	}
	c = complete(c)
	devices := metaDevicesOf(c)
	exact := makeHoldable(c)
	random := o.Random && c.RNG != nil && c.RNG.Source == ""
	if random {
		c.RNG.Source = DefaultRandom
	}
	arch, ok := archs[o.Arch]
	if !ok {
		arch = o.Arch // riscv64, s390x and others have one word
	}
	if o.Type == "" {
		o.Type = "kvm"
	}
	d := &libvirtxml.Domain{
		Type: o.Type, Name: c.Name, Title: c.Title,
		OnPoweroff: string(c.OnPoweroff), OnReboot: string(c.OnReboot), OnCrash: string(c.OnCrash),
		OS: &libvirtxml.DomainOS{
			Type:   &libvirtxml.DomainOSType{Type: "hvm", Arch: arch, Machine: o.Machine},
			Kernel: c.Boot.Kernel.Path, Initrd: c.Boot.Initrd.Path, Cmdline: c.Boot.CommandLine,
		},
		Features: &libvirtxml.DomainFeatureList{ACPI: &libvirtxml.DomainFeature{}, APIC: &libvirtxml.DomainFeatureAPIC{}},
		Clock:    &libvirtxml.DomainClock{Offset: "utc"},
		Devices:  deviceList(c),
	}
	d.Devices.Emulator = o.Emulator
	if o.Aliases {
		setAliases(d.Devices, c)
	}
	if o.Panic != "" {
		d.Devices.Panics = []libvirtxml.DomainPanic{{Model: o.Panic}}
	}
	if c.UUID != uuid.Nil {
		d.UUID = c.UUID.String()
	}
	if !c.Boot.Firmware.IsZero() {
		d.OS.Loader = &libvirtxml.DomainLoader{Type: "rom", Path: c.Boot.Firmware.Path}
	}
	if m := metaOf(c, devices, exact, random); m != nil {
		text, err := xml.MarshalIndent(m, "    ", "  ")
		if err != nil {
			return "", err
		}
		d.Metadata = &libvirtxml.DomainMetadata{XML: "\n" + string(text) + "\n  "}
	}
	formatResources(d, c, o)
	text, err := d.Marshal()
	if err != nil {
		return "", err
	}
	return closeEmpty(text) + "\n", nil
}

// emptyElement is an element without content. encoding/xml writes '<' and '>'
// of texts as references, so it is nothing else.
var emptyElement = regexp.MustCompile(`<([^/<>][^<>]*)></[^<>]+>`)

// closeEmpty writes <a></a> as <a/>, as libvirt does.
func closeEmpty(text string) string { return emptyElement.ReplaceAllString(text, "<$1/>") }

// complete is WithDefaults without what is random.
func complete(c *polyvisor.Config) *polyvisor.Config {
	d := c.WithDefaults()
	d.UUID = c.UUID
	for i := range c.NICs {
		d.NICs[i].MAC = c.NICs[i].MAC
	}
	if c.Memory == 0 && c.MaxMemory != 0 {
		d.Memory = 0 // it was taken away, which is no default
	}
	return d
}

func formatResources(d *libvirtxml.Domain, c *polyvisor.Config, o Options) {
	const kib = polyvisor.KiB // a valid size is a multiple of 4 KiB
	d.Memory = &libvirtxml.DomainMemory{Value: uint(c.MaxMemory / kib), Unit: "KiB"}
	d.CurrentMemory = &libvirtxml.DomainCurrentMemory{Value: uint(c.Memory / kib), Unit: "KiB"}
	if len(c.Shares) > 0 || o.SharedMemory {
		// libvirt wants it for virtiofs.
		d.MemoryBacking = &libvirtxml.DomainMemoryBacking{
			MemorySource: &libvirtxml.DomainMemorySource{Type: "memfd"},
			MemoryAccess: &libvirtxml.DomainMemoryAccess{Mode: "shared"},
		}
	}
	d.VCPU = &libvirtxml.DomainVCPU{Placement: "static", Value: uint(c.MaxVCPUs)}
	if c.VCPUs != c.MaxVCPUs {
		d.VCPU.Current = uint(c.VCPUs)
	}
	if t := c.Topology; !t.IsZero() {
		d.CPU = &libvirtxml.DomainCPU{Topology: &libvirtxml.DomainCPUTopology{Sockets: t.Sockets, Cores: t.Cores, Threads: t.Threads}}
	}
	for _, v := range c.VCPU {
		if v.Affinity.IsZero() {
			continue
		}
		if d.CPUTune == nil {
			d.CPUTune = &libvirtxml.DomainCPUTune{}
		}
		d.CPUTune.VCPUPin = append(d.CPUTune.VCPUPin, libvirtxml.DomainCPUTuneVCPUPin{VCPU: uint(v.Number), CPUSet: v.Affinity.String()})
	}
}
