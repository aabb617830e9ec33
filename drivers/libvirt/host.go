package libvirt

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"libvirt.org/go/libvirtxml"
)

// host is what the daemon tells of its hypervisor when a connection is opened.
type host struct {
	// hypervisor is libvirt's name of it, such as "QEMU" or "TEST".
	hypervisor string
	// arch is the guests' architecture in Go's words, osType how they see the
	// hypervisor.
	arch, osType string
	// domainType, machine and emulator are the defaults for a Config: the best type
	// there is, the hypervisor's own choice if empty.
	domainType, machine, emulator string
	panicDevice                   string
	maxVCPUs                      int
	// cpus is how many CPUs the host may have, which the maps of CPUs are long.
	cpus int
	// caps are the domain capabilities, nil if the hypervisor does not tell.
	caps *libvirtxml.DomainCaps
}

// noGuests says that the hypervisor runs nothing: no guest notices that a domain is
// started and then suspended, where libvirt cannot start it suspended.
func (h *host) noGuests() bool { return h.hypervisor == testHypervisor }

// testHypervisor is libvirt's name of its hypervisor in memory.
const testHypervisor = "TEST"

// goArchs are Go's words for architectures.
var goArchs = map[string]string{"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "armv7l": "arm", "ppc64le": "ppc64le", "loongarch64": "loong64"}

func goArch(arch string) string {
	if a, ok := goArchs[arch]; ok {
		return a
	}
	return arch
}

// askHost gathers the facts. domainType is the one to prefer, empty for the best.
func askHost(ctx context.Context, s *session, domainType string) (*host, error) {
	h := &host{}
	var err error
	if h.hypervisor, err = s.Type(ctx); err != nil {
		return nil, fmt.Errorf("asking for the hypervisor's name: %w", s.failed(err))
	}
	text, err := s.Capabilities(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking for the host's capabilities: %w", s.failed(err))
	}
	var caps libvirtxml.Caps
	if err := caps.Unmarshal(text); err != nil {
		return nil, fmt.Errorf("reading the host's capabilities: %w", err)
	}
	arch := h.choose(&caps, domainType)
	info, err := s.NodeInfo(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking for the host's CPUs: %w", s.failed(err))
	}
	h.cpus = max(1, int(info.Nodes)*int(info.Sockets)*int(info.Cores)*int(info.Threads), int(info.Cpus))
	text, err = s.DomainCapabilities(ctx, h.emulator, arch, h.machine, h.domainType)
	switch {
	case err == nil:
		h.caps = &libvirtxml.DomainCaps{}
		if err := h.caps.Unmarshal(text); err != nil {
			return nil, fmt.Errorf("reading the domain capabilities: %w", err)
		}
		if h.caps.VCPU != nil {
			h.maxVCPUs = int(h.caps.VCPU.Max)
		}
	case number(err) == 0:
		return nil, s.failed(err)
	}
	if h.maxVCPUs == 0 {
		if n, err := s.MaxVCPUs(ctx, h.domainType); err == nil {
			h.maxVCPUs = int(n)
		} else if number(err) == 0 {
			return nil, s.failed(err)
		}
	}
	return h, nil
}

// sharedMemory says whether guests are to have memory that directories can be shared
// with, which is settled when they start.
func (h *host) sharedMemory() bool {
	return h.caps != nil && h.caps.Devices != nil && h.caps.Devices.FileSystem != nil && offers(h.caps.Devices.FileSystem.Enums, "driverType", "virtiofs")
}

// choose takes the kind of guest that is closest to the host, and of the types of
// domains the wanted one, or else the one with the host's acceleration. It gives
// libvirt's word for the architecture.
func (h *host) choose(caps *libvirtxml.Caps, domainType string) (arch string) {
	hostArch := ""
	if caps.Host.CPU != nil {
		hostArch = caps.Host.CPU.Arch
	}
	h.osType, h.arch = "hvm", goArch(hostArch)
	if len(caps.Guests) == 0 {
		h.domainType = strings.ToLower(h.hypervisor)
		return hostArch
	}
	rank := func(g libvirtxml.CapsGuest) (n int) {
		if g.Arch.Name == hostArch {
			n += 2
		}
		if g.OSType == "hvm" {
			n++
		}
		return n
	}
	best := caps.Guests[0]
	for _, g := range caps.Guests[1:] {
		if rank(g) > rank(best) {
			best = g
		}
	}
	arch = best.Arch.Name
	h.osType, h.arch, h.emulator = best.OSType, goArch(arch), best.Arch.Emulator
	var types []string
	machines := best.Arch.Machines
	for _, d := range best.Arch.Domains {
		types = append(types, d.Type)
	}
	for _, want := range []string{domainType, "kvm", "hvf"} {
		if want != "" && slices.Contains(types, want) {
			h.domainType = want
			break
		}
	}
	if h.domainType == "" && len(types) > 0 {
		h.domainType = types[0]
	}
	for _, d := range best.Arch.Domains {
		if d.Type != h.domainType {
			continue
		}
		if d.Emulator != "" {
			h.emulator = d.Emulator
		}
		if len(d.Machines) > 0 {
			machines = d.Machines
		}
	}
	// Of QEMU's PCs the one with a plain PCI bus has room for devices that are
	// attached later.
	if slices.ContainsFunc(machines, func(m libvirtxml.CapsGuestMachine) bool { return m.Name == "pc" }) {
		h.machine = "pc"
	}
	if h.hypervisor == "QEMU" && (arch == "x86_64" || arch == "i686") {
		h.panicDevice = "isa"
	}
	return arch
}
