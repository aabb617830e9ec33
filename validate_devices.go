package polyvisor

import (
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxLabels     = 64
	maxLabelKey   = 63
	maxLabelValue = 4096
	maxSerial     = 20
	maxShareTag   = 36
	minMTU        = 68
	maxMTU        = 65535
	maxWeight     = 10000
	minCID        = 3
	anyCID        = 1<<32 - 1
	// maxOfAKind bounds how many devices of a kind and how many memory backings
	// a configuration has.
	maxOfAKind = 256
)

// deviceDefaults fills in what devices need and were not given.
func (c *Config) deviceDefaults() {
	for i := range c.Disks {
		c.Disks[i].defaults(c)
	}
	for i := range c.NICs {
		c.NICs[i].defaults(c)
	}
}

func (d *Disk) defaults(c *Config) {
	if d.Format == "" {
		d.Format = FormatRaw
	}
	for n := 0; d.Target == ""; n++ {
		name := diskName(n)
		if !slices.ContainsFunc(c.Disks, func(o Disk) bool { return o.Target == name }) {
			d.Target = name
		}
	}
}

// diskName gives vda to vdz, vdaa and so on.
func diskName(n int) string {
	name := ""
	for n >= 0 {
		name = string(rune('a'+n%26)) + name
		n = n/26 - 1
	}
	return "vd" + name
}

func (n *NIC) defaults(c *Config) {
	if n.Network == "" {
		n.Network = NetworkUser
	}
	for i := range n.Forwards {
		n.Forwards[i].defaults()
	}
	for n.MAC.IsZero() {
		// The prefix that QEMU and libvirt use for KVM guests; locally administered.
		mac := MAC{0x52, 0x54, 0x00}
		rand.Read(mac[3:])
		if !slices.ContainsFunc(c.NICs, func(o NIC) bool { return o.MAC == mac }) {
			n.MAC = mac
		}
	}
}

// validateResources checks memory, virtual CPUs and labels.
func (c *Config) validateResources(p *problems) {
	if c.MaxMemory%pageBytes != 0 {
		p.add("max_memory: %s is not a multiple of 4KiB", c.MaxMemory)
	}
	if c.MaxMemory != 0 && c.Memory > c.MaxMemory {
		p.add("memory: %s is more than max_memory, %s", c.Memory, c.MaxMemory)
	}
	switch {
	case c.MaxVCPUs < 0 && c.VCPUs >= 0:
		p.add("max_vcpus: %d is negative", c.MaxVCPUs)
	case c.MaxVCPUs > 0 && c.VCPUs > c.MaxVCPUs:
		p.add("vcpus: %d is more than max_vcpus, %d", c.VCPUs, c.MaxVCPUs)
	}
	cpus := max(c.VCPUs, c.MaxVCPUs, 1)
	if t := c.Topology; !t.IsZero() && !t.fits(cpus) {
		p.add("topology: %d sockets of %d cores of %d threads are not %d vCPUs", t.Sockets, t.Cores, t.Threads, cpus)
	}
	if len(c.VCPU) > cpus {
		p.add("vcpu: settings of %d vCPUs, the domain has %d", len(c.VCPU), cpus)
	} else {
		for i, v := range c.VCPU {
			p.vcpu(v, cpus)
			if i > 0 && v.Number <= c.VCPU[i-1].Number {
				p.add("vcpu: number %d comes after %d; give each once, in rising order", v.Number, c.VCPU[i-1].Number)
			}
		}
	}
	if p.count("memory_backing", len(c.MemoryBacking)) {
		p.memoryBacking(c.MemoryBacking)
	}
	p.labels(c.Labels)
}

// fits tells whether the product is the number of CPUs, which no overflow
// feigns.
func (t Topology) fits(cpus int) bool {
	return t.Sockets > 0 && t.Cores > 0 && t.Threads > 0 &&
		t.Threads == cpus/t.Sockets/t.Cores && t.Sockets*t.Cores*t.Threads == cpus
}

// count bounds a list; false means that it is too long to be looked at.
func (p *problems) count(what string, n int) bool {
	if n > maxOfAKind {
		p.add("%s: %d, at most %d are allowed", what, n, maxOfAKind)
	}
	return n <= maxOfAKind
}

func (p *problems) memoryBacking(list []MemoryBacking) {
	for i, m := range list {
		switch {
		case m.File.IsZero():
			p.add("memory_backing[%d]: no file", i)
		case m.Start%pageBytes != 0 || m.End%pageBytes != 0 || m.Start >= m.End:
			p.add("memory_backing[%d]: %#x to %#x is not a range of whole pages", i, m.Start, m.End)
		}
		for j, o := range list[:i] {
			if m.Start < o.End && o.Start < m.End {
				p.add("memory_backing[%d]: overlaps memory_backing[%d]", i, j)
				break
			}
		}
	}
}

func (p *problems) vcpu(v VCPUConfig, cpus int) {
	if v.Number < 0 || v.Number >= cpus {
		p.add("vcpu: number %d; the domain has 0 to %d", v.Number, cpus-1)
	}
	p.weight(v)
}

func (p *problems) weight(v VCPUConfig) {
	if v.Weight < 0 || v.Weight > maxWeight {
		p.add("vcpu: weight %d of vCPU %d; want 1 to %d, or 0 for the host's default", v.Weight, v.Number, maxWeight)
	}
}

func (p *problems) labels(labels map[string]string) {
	if len(labels) > maxLabels {
		p.add("labels: %d, at most %d are allowed", len(labels), maxLabels)
		return
	}
	if len(labels) == 0 {
		return
	}
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		v := labels[k]
		if k == "" || len(k) > maxLabelKey || strings.ContainsFunc(k, notLabelRune) {
			p.add("labels: key %q; want 1 to %d letters, digits, '.', '-', '_' or '/'", k, maxLabelKey)
		}
		if len(v) > maxLabelValue || !utf8.ValidString(v) || strings.ContainsFunc(v, unicode.IsControl) {
			p.add("labels: value of %q; want at most %d bytes of UTF-8 without control characters", k, maxLabelValue)
		}
	}
}

func notLabelRune(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(".-_/", r)
}

// validateDevices checks each device and that no two of a kind have the same
// name.
func (c *Config) validateDevices(p *problems) {
	few := p.count("disks", len(c.Disks))
	few = p.count("nics", len(c.NICs)) && few
	few = p.count("shares", len(c.Shares)) && few
	if few {
		c.eachDevice(p)
		c.publishedOnce(p)
	}
	if v := c.Vsock; v != nil && v.CID != 0 && (v.CID < minCID || v.CID == anyCID) {
		p.add("vsock.cid: %d is reserved; want %d or more, or 0 to let the driver choose", v.CID, minCID)
	}
}

func (c *Config) eachDevice(p *problems) {
	type name struct{ kind, id string }
	seen := make(map[name]bool)
	for _, d := range c.Devices() {
		p.device(d)
		if unnamed(d) {
			continue // named by the defaults
		}
		n := name{kindOf(d), d.DeviceID()}
		if seen[n] {
			p.add("%s %q: another %s of the domain has that name", n.kind, n.id, n.kind)
		}
		seen[n] = true
	}
}

func (p *problems) device(d Device) {
	switch d := d.(type) {
	case *Disk:
		p.disk(d)
	case *NIC:
		p.nic(d)
	case *Share:
		name := fmt.Sprintf("share %q", d.Tag)
		if d.Tag == "" || len(d.Tag) > maxShareTag || !utf8.ValidString(d.Tag) || strings.ContainsFunc(d.Tag, unicode.IsControl) {
			p.add("share: tag %q; want 1 to %d bytes of UTF-8 without control characters", d.Tag, maxShareTag)
		}
		if d.Source == "" {
			p.add("%s: no source directory", name)
		}
		p.path(name, d.Source)
		p.mode(name, d.Mode)
	case *RNG:
		p.path("rng", d.Source)
	}
}

func (p *problems) disk(d *Disk) {
	name := fmt.Sprintf("disk %q", d.Target)
	if strings.ContainsFunc(d.Target, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') }) {
		p.add("%s: the target wants small letters and digits, such as vda", name)
	}
	if d.Source.IsZero() {
		p.add("%s: no source image", name)
	}
	switch d.Format {
	case "", FormatRaw, FormatQCOW2:
	default:
		p.add("%s: format %q; want %q or %q", name, d.Format, FormatRaw, FormatQCOW2)
	}
	if len(d.Serial) > maxSerial || strings.ContainsFunc(d.Serial, func(r rune) bool { return r <= ' ' || r > '~' }) {
		p.add("%s: serial %q; want at most %d printable ASCII characters", name, d.Serial, maxSerial)
	}
	switch d.Cache {
	case "", CacheWriteback, CacheWritethrough, CacheNone, CacheUnsafe:
	default:
		p.add("%s: cache %q; want %q, %q, %q or %q", name, d.Cache, CacheWriteback, CacheWritethrough, CacheNone, CacheUnsafe)
	}
	p.queues(name, d.Queues)
	p.mode(name, d.Mode)
}

func (p *problems) queues(name string, n int) {
	if n < 0 || n > maxQueues {
		p.add("%s: %d queues; want 1 to %d, or 0 to let the driver choose", name, n, maxQueues)
	}
}

func (p *problems) mode(name string, m DeviceMode) {
	if m > DeviceReadWriteForce {
		p.add("%s: unknown %s", name, m)
	}
}

func (p *problems) nic(n *NIC) {
	name := "nic " + n.MAC.String()
	if n.MAC[0]&1 != 0 {
		p.add("%s: a group address cannot be a NIC's own", name)
	}
	switch n.Network {
	case "", NetworkUser:
		if n.Source != "" {
			p.add("%s: network user takes no source", name)
		}
	case NetworkBridge, NetworkTap, NetworkManaged:
		if n.Source == "" || !utf8.ValidString(n.Source) || strings.ContainsFunc(n.Source, unicode.IsControl) {
			p.add("%s: network %s needs the name of one as its source", name, n.Network)
		}
	default:
		p.add("%s: network %q; want %q, %q, %q or %q", name, n.Network, NetworkUser, NetworkBridge, NetworkTap, NetworkManaged)
	}
	if n.MTU != 0 && (n.MTU < minMTU || n.MTU > maxMTU) {
		p.add("%s: MTU %d; want %d to %d", name, n.MTU, minMTU, maxMTU)
	}
	p.queues(name, n.Queues)
	if n.Queues > 1 && (n.Network == "" || n.Network == NetworkUser) {
		p.add("%s: %d queues; network user has one", name, n.Queues)
	}
	if n.HostLoopback && n.Network != "" && n.Network != NetworkUser {
		p.add("%s: the host's loopback is reached by network user only; on network %s let the host's program listen on an address of its own", name, n.Network)
	}
	p.forwards(name, n)
}
