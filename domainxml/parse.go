package domainxml

import (
	"cmp"
	"encoding/xml"
	"math"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/polyvisor/polyvisor"
)

// maxPins bounds the memory that sets of CPUs take.
const maxPins = 8192

// Parse reads a domain. The error is an *Error with everything that is wrong or
// that a Config cannot say. What Config.Validate checks is not checked here, and
// no defaults are filled in.
func Parse(text string) (*polyvisor.Config, error) {
	root, err := readTree(text)
	if err != nil {
		return nil, err
	}
	if root.Name != (xml.Name{Local: "domain"}) {
		return nil, fail(root.line, pathName(root.Name), "the document is not a domain")
	}
	var r reader
	c := r.domain(root)
	if err := r.result(root); err != nil {
		return nil, err
	}
	return c, nil
}

// domain reads what a Config can say, and notes what it cannot.
func (r *reader) domain(root *node) *polyvisor.Config {
	c := &polyvisor.Config{}
	if kind, _ := root.attr("type"); kind == "lxc" || kind == "openvz" {
		r.add(root, "/@type", "%q %s: it is a container, and a domain here is a virtual machine", kind, notSupported)
	}
	root.attr("id")
	c.Name = r.text(root, "name")
	c.Title = r.text(root, "title")
	r.uuid(root, c)
	r.memory(root, c)
	r.vcpus(root, c)
	r.platform(root)
	c.OnPoweroff = r.action(root, "on_poweroff")
	c.OnReboot = r.action(root, "on_reboot")
	c.OnCrash = r.action(root, "on_crash")
	if devices := r.one(root, "devices"); devices != nil {
		r.devices(devices, c)
	}
	r.boot(root, c) // behind the devices: what boots depends on them
	r.metadata(r.one(root, "metadata"), c)
	return c
}

func (r *reader) uuid(root *node, c *polyvisor.Config) {
	n := r.one(root, "uuid")
	if n == nil {
		return
	}
	text := strings.TrimSpace(n.content())
	id, err := uuid.Parse(text)
	if err != nil || len(text) != 36 && len(text) != 32 {
		r.add(n, "", "%.60q is not a UUID", text)
		return
	}
	if id == uuid.Nil {
		r.add(n, "", "a UUID of zeros names no domain; leave it out for a random one")
	}
	c.UUID = id
}

// memory reads the two amounts. libvirt's <maxMemory> is for memory modules,
// which a Config does not have.
func (r *reader) memory(root *node, c *polyvisor.Config) {
	memory, current := r.one(root, "memory"), r.one(root, "currentMemory")
	if memory != nil {
		c.MaxMemory = r.sized(memory)
		c.Memory = c.MaxMemory
	}
	if current != nil {
		c.Memory = r.sized(current)
		if memory == nil {
			r.add(current, "", "needs <memory>, the most that the domain can be given")
		}
	}
	if backing := r.one(root, "memoryBacking"); backing != nil {
		// How virtiofs needs it; the guest sees no difference.
		if n := r.one(backing, "source"); n != nil {
			r.only(n, "type", "memfd")
		}
		if n := r.one(backing, "access"); n != nil {
			r.only(n, "mode", "shared")
		}
	}
}

func (r *reader) vcpus(root *node, c *polyvisor.Config) {
	if n := r.one(root, "vcpu"); n != nil {
		r.only(n, "placement", "static")
		c.MaxVCPUs = int(r.number(n, "", n.content(), math.MaxInt32))
		c.VCPUs = c.MaxVCPUs
		if _, ok := n.attr("current"); ok {
			c.VCPUs = int(r.attrNumber(n, "current", math.MaxInt32))
		}
	}
	if cpu := r.one(root, "cpu"); cpu != nil {
		r.only(cpu, "mode", "host-passthrough", "host-model")
		cpu.attr("check")
		cpu.attr("migratable")
		if n := r.one(cpu, "topology"); n != nil {
			c.Topology = polyvisor.Topology{
				Sockets: int(r.attrNumber(n, "sockets", math.MaxInt16)),
				Cores:   int(r.attrNumber(n, "cores", math.MaxInt16)),
				Threads: int(r.attrNumber(n, "threads", math.MaxInt16)),
			}
			r.only(n, "dies", "1")
			r.only(n, "clusters", "1")
		}
	}
	tune := r.one(root, "cputune")
	if tune == nil {
		return
	}
	seen := make(map[int]bool)
	for _, n := range tune.all("vcpupin") {
		number := int(r.attrNumber(n, "vcpu", math.MaxInt32))
		text := r.demand(n, "cpuset")
		cpus, err := polyvisor.ParseCPUSet(text)
		switch {
		case err != nil:
			r.add(n, "/@cpuset", "%.40q is not a set of CPUs; write it as 0-3,^2,8", text)
		case cpus.IsZero() && text != "":
			r.add(n, "/@cpuset", "%.40q has no CPU", text)
		case len(seen) == maxPins:
			r.add(n, "", "more than %d vCPUs are pinned", maxPins)
		case seen[number]:
			r.add(n, "/@vcpu", "vCPU %d was pinned before", number)
		default:
			seen[number] = true
			c.VCPU = append(c.VCPU, polyvisor.VCPUConfig{Number: number, Affinity: cpus})
		}
	}
	sortVCPUs(c)
}

func sortVCPUs(c *polyvisor.Config) {
	slices.SortFunc(c.VCPU, func(a, b polyvisor.VCPUConfig) int { return cmp.Compare(a.Number, b.Number) })
}

func (r *reader) boot(root *node, c *polyvisor.Config) {
	os := r.one(root, "os")
	if os == nil {
		return
	}
	if n := r.one(os, "type"); n != nil {
		if kind := strings.TrimSpace(n.content()); kind != "hvm" {
			r.add(n, "", "%.40q %s; hvm is", kind, notSupported)
		}
		r.only(n, "arch", "x86_64")
		n.attr("machine")
	}
	c.Boot.Kernel.Path = r.text(os, "kernel")
	c.Boot.Initrd.Path = r.text(os, "initrd")
	c.Boot.CommandLine = r.text(os, "cmdline")
	if n := r.one(os, "loader"); n != nil {
		c.Boot.Firmware.Path = n.content()
		r.only(n, "type", "rom", "pflash")
		r.only(n, "readonly", "yes")
		r.only(n, "secure", "no")
	}
	for _, n := range os.all("boot") {
		r.demand(n, "dev")
		if r.only(n, "dev", "hd") == "hd" && c.Boot.IsZero() && len(c.Disks) > 0 {
			r.add(n, "", "to boot from a disk name the firmware that does it in <loader>")
		}
	}
}

// platform reads what a Config has no choice of.
func (r *reader) platform(root *node) {
	if n := r.one(root, "features"); n != nil {
		for _, name := range []string{"acpi", "apic", "pae"} {
			r.one(n, name)
		}
		if port := r.one(n, "vmport"); port != nil {
			r.only(port, "state", "off")
		}
	}
	if n := r.one(root, "clock"); n != nil {
		r.only(n, "offset", "utc")
	}
	if n := r.one(root, "pm"); n != nil {
		for _, name := range []string{"suspend-to-mem", "suspend-to-disk"} {
			if k := r.one(n, name); k != nil {
				r.only(k, "enabled", "no")
			}
		}
	}
	if n := r.one(root, "resource"); n != nil {
		if k := r.one(n, "partition"); k != nil && strings.TrimSpace(k.content()) != "/machine" {
			r.add(k, "", "%.60q %s; /machine is", k.content(), notSupported)
		}
	}
	for _, n := range root.all("seclabel") {
		if t := n.value("type"); t == "none" || t == "dynamic" {
			n.skip()
		} else {
			r.add(n, "/@type", "%q %s; none or dynamic is", t, notSupported)
			n.skip()
		}
	}
}

func (r *reader) action(root *node, name string) polyvisor.Action {
	n := r.one(root, name)
	if n == nil {
		return ""
	}
	a := polyvisor.Action(strings.TrimSpace(n.content()))
	switch a {
	case polyvisor.ActionDestroy, polyvisor.ActionRestart, polyvisor.ActionPreserve, polyvisor.ActionRenameRestart:
		return a
	}
	r.add(n, "", "%.40q %s; %s, %s, %s or %s is", string(a), notSupported, polyvisor.ActionDestroy,
		polyvisor.ActionRestart, polyvisor.ActionPreserve, polyvisor.ActionRenameRestart)
	return ""
}
