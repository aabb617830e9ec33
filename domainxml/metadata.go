package domainxml

import (
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/polyvisor/polyvisor"
)

// meta is the element of Namespace in the form that encoding/xml writes.
type meta struct {
	XMLName        xml.Name     `xml:"polyvisor:domain"`
	Namespace      string       `xml:"xmlns:polyvisor,attr"`
	InstanceID     string       `xml:"polyvisor:instanceId,omitempty"`
	Autostart      *struct{}    `xml:"polyvisor:autostart"`
	Protected      *struct{}    `xml:"polyvisor:protected"`
	HypervisorAuth *struct{}    `xml:"polyvisor:hypervisorAuth"`
	Log            *metaFile    `xml:"polyvisor:log"`
	Console        *metaConsole `xml:"polyvisor:console"`
	VCPUs          []metaVCPU   `xml:"polyvisor:vcpu"`
	Memory         []metaMemory `xml:"polyvisor:memory"`
	Random         *struct{}    `xml:"polyvisor:random"`
	Labels         []metaLabel  `xml:"polyvisor:label"`
	Devices        []metaDevice `xml:"polyvisor:device"`
	NICs           []metaNIC    `xml:"polyvisor:interface"`
	Exact          []metaExact  `xml:"polyvisor:exact"`
}

type metaFile struct {
	Path string `xml:"path,attr"`
}

type metaConsole struct {
	In  string `xml:"in,attr,omitempty"`
	Out string `xml:"out,attr,omitempty"`
}

type metaVCPU struct {
	Number int `xml:"number,attr"`
	Weight int `xml:"weight,attr,omitempty"`
}

type metaMemory struct {
	File  string `xml:"file,attr"`
	Start string `xml:"start,attr"`
	End   string `xml:"end,attr"`
}

type metaLabel struct {
	Key   string `xml:"key,attr"`
	Value string `xml:",chardata"`
}

type metaDevice struct {
	ID       string `xml:"id,attr"`
	Encoding string `xml:"encoding,attr,omitempty"` // of the ID: base64 or none
	Mode     string `xml:"mode,attr"`
}

// metaNIC is of the interface of that number, from 0: addresses may not be there yet.
type metaNIC struct {
	Number       int    `xml:"number,attr"`
	HostLoopback string `xml:"hostLoopback,attr,omitempty"`
	Queues       int    `xml:"queues,attr,omitempty"` // 1 or nothing: libvirt forgets a driver/@queues of 1
}

type metaExact struct {
	Field string `xml:"field,attr"`
	Value string `xml:",chardata"`
}

// metaOf gives what of a Config stands in the metadata, nil if nothing does.
// The texts of the Config are such that XML can hold. random says that the source of
// random numbers is written though the Config names none.
func metaOf(c *polyvisor.Config, devices []metaDevice, exact []metaExact, random bool) *meta {
	m := &meta{Namespace: Namespace, Devices: devices, Exact: exact}
	some := len(devices)+len(exact) > 0
	if !c.InstanceID.IsZero() {
		id, _ := c.InstanceID.MarshalText() // it never fails
		m.InstanceID, some = string(id), true
	}
	flag := func(p **struct{}, set bool) {
		if set {
			*p, some = &struct{}{}, true
		}
	}
	flag(&m.Random, random)
	flag(&m.Autostart, c.Autostart)
	flag(&m.Protected, c.Protected)
	flag(&m.HypervisorAuth, c.HypervisorAuth)
	if !c.Log.IsZero() {
		m.Log, some = &metaFile{c.Log.Path}, true
	}
	if !c.Console.In.IsZero() || !c.Console.Out.IsZero() {
		m.Console, some = &metaConsole{c.Console.In.Path, c.Console.Out.Path}, true
	}
	for _, v := range c.VCPU {
		// One with an affinity alone is a <vcpupin>.
		if v.Weight != 0 || v.Affinity.IsZero() {
			m.VCPUs, some = append(m.VCPUs, metaVCPU{v.Number, v.Weight}), true
		}
	}
	for _, b := range c.MemoryBacking {
		m.Memory, some = append(m.Memory, metaMemory{b.File.Path, fmt.Sprintf("%#x", b.Start), fmt.Sprintf("%#x", b.End)}), true
	}
	for _, k := range sortedKeys(c.Labels) {
		m.Labels, some = append(m.Labels, metaLabel{k, c.Labels[k]}), true
	}
	for i, n := range c.NICs {
		k := metaNIC{Number: i}
		if n.HostLoopback {
			k.HostLoopback = yes
		}
		if n.Queues == 1 {
			k.Queues = 1
		}
		if k != (metaNIC{Number: i}) {
			m.NICs, some = append(m.NICs, k), true
		}
	}
	if !some {
		return nil
	}
	return m
}

// metaDevicesOf gives the modes that devices do not say themselves, by the true
// names of the devices.
func metaDevicesOf(c *polyvisor.Config) []metaDevice {
	var list []metaDevice
	for _, d := range c.Devices() {
		mode := unsaidMode(d)
		if mode == polyvisor.DeviceDefault {
			continue
		}
		e := metaDevice{ID: d.DeviceID(), Mode: mode.String()}
		if !holdable(e.ID) {
			e.ID, e.Encoding = base64.StdEncoding.EncodeToString([]byte(e.ID)), "base64"
		}
		list = append(list, e)
	}
	return list
}

// unsaidMode is the mode of a device that libvirt has no element for.
func unsaidMode(d polyvisor.Device) polyvisor.DeviceMode {
	switch d := d.(type) {
	case *polyvisor.Disk:
		if d.Mode == polyvisor.DeviceReadWrite {
			return d.Mode
		}
	case *polyvisor.Share:
		if d.Mode != polyvisor.DeviceReadOnly {
			return d.Mode
		}
	}
	return polyvisor.DeviceDefault
}

// metadata reads our element among those of others, which are refused.
func (r *reader) metadata(all *node, c *polyvisor.Config) {
	if all == nil {
		return
	}
	list := all.allOf(xml.Name{Space: Namespace, Local: "domain"})
	if len(list) == 0 {
		return
	}
	for _, k := range list[1:] {
		r.add(k, "", "there is one before; give it once")
		k.skip()
	}
	m := list[0]
	if n := r.one(m, "instanceId"); n != nil {
		if err := c.InstanceID.UnmarshalText([]byte(strings.TrimSpace(n.content()))); err != nil {
			r.add(n, "", "is not %d hexadecimal digits", 2*len(c.InstanceID))
		}
	}
	c.Autostart = r.flag(m, "autostart")
	c.Protected = r.flag(m, "protected")
	c.HypervisorAuth = r.flag(m, "hypervisorAuth")
	if n := r.one(m, "log"); n != nil {
		c.Log.Path = r.demand(n, "path")
	}
	if n := r.one(m, "console"); n != nil {
		c.Console.In.Path, c.Console.Out.Path = n.value("in"), n.value("out")
	}
	if r.flag(m, "random") && c.RNG != nil && c.RNG.Source == DefaultRandom {
		c.RNG.Source = ""
	}
	r.metaVCPUs(m, c)
	for _, n := range m.all("memory") {
		c.MemoryBacking = append(c.MemoryBacking, polyvisor.MemoryBacking{
			File: polyvisor.Path(r.demand(n, "file")), Start: r.address(n, "start"), End: r.address(n, "end"),
		})
	}
	for _, n := range m.all("label") {
		key := r.demand(n, "key")
		if _, twice := c.Labels[key]; twice {
			r.add(n, "/@key", "label %.80q was given before", key)
		}
		if c.Labels == nil {
			c.Labels = make(map[string]string)
		}
		c.Labels[key] = n.content()
	}
	r.metaExact(m, c)
	r.metaDevices(m, c)
	r.metaNICs(m, c)
}

func (r *reader) metaVCPUs(m *node, c *polyvisor.Config) {
	at := make(map[int]int)
	for i, v := range c.VCPU {
		at[v.Number] = i
	}
	seen := make(map[int]bool)
	for _, n := range m.all("vcpu") {
		number, weight := int(r.attrNumber(n, "number", math.MaxInt32)), 0
		if _, ok := n.attr("weight"); ok {
			weight = int(r.attrNumber(n, "weight", math.MaxInt32))
		}
		if seen[number] {
			r.add(n, "/@number", "vCPU %d was given before", number)
			continue
		}
		seen[number] = true
		if i, pinned := at[number]; pinned {
			c.VCPU[i].Weight = weight
			continue
		}
		c.VCPU = append(c.VCPU, polyvisor.VCPUConfig{Number: number, Weight: weight})
	}
	sortVCPUs(c)
}

func (r *reader) address(n *node, name string) uint64 {
	text := r.demand(n, name)
	v, err := strconv.ParseUint(text, 0, 64)
	if text != "" && err != nil {
		r.add(n, "/@"+name, "%.40q is not an address; write it as 0x100000", text)
	}
	return v
}

// metaDevices reads the modes of devices, by their names.
func (r *reader) metaDevices(m *node, c *polyvisor.Config) {
	modes := make(map[string]*polyvisor.DeviceMode)
	for i := range c.Disks {
		modes[c.Disks[i].Target] = &c.Disks[i].Mode
	}
	for i := range c.Shares {
		modes[c.Shares[i].Tag] = &c.Shares[i].Mode
	}
	for _, n := range m.all("device") {
		id, text := r.demand(n, "id"), r.demand(n, "mode")
		if r.only(n, "encoding", "base64") != "" {
			b, err := base64.StdEncoding.DecodeString(id)
			if err != nil {
				r.add(n, "/@id", "is not base64")
			}
			id = string(b)
		}
		var mode polyvisor.DeviceMode
		p := modes[id]
		switch err := mode.UnmarshalText([]byte(text)); {
		case err != nil:
			r.add(n, "/@mode", "%v", err)
		case p == nil:
			r.add(n, "/@id", "there is no disk or filesystem %.80q, or it was given before", id)
		case *p != polyvisor.DeviceDefault:
			r.add(n, "/@mode", "%q contradicts what the device says itself", text)
		default:
			*p = mode
			delete(modes, id)
		}
	}
}

func (r *reader) metaExact(m *node, c *polyvisor.Config) {
	texts := textsOf(c)
	for _, n := range m.all("exact") {
		field := r.demand(n, "field")
		value, err := base64.StdEncoding.DecodeString(strings.TrimSpace(n.content()))
		t, ok := texts[field]
		switch {
		case err != nil:
			r.add(n, "", "is not base64")
		case !ok:
			r.add(n, "/@field", "there is no text %.80q", field)
		case holdable(string(value)) || substitute(string(value)) != t.get():
			r.add(n, "", "does not belong to the text of %s, which was changed", field)
		default:
			t.set(string(value))
		}
	}
}

// metaNICs reads what the metadata say of interfaces.
func (r *reader) metaNICs(m *node, c *polyvisor.Config) {
	given := make(map[uint64]bool)
	for _, n := range m.all("interface") {
		i := r.attrNumber(n, "number", math.MaxInt32)
		_, queues := n.attr("queues")
		_, loopback := n.attr("hostLoopback")
		if !queues {
			r.demand(n, "hostLoopback")
		}
		r.only(n, "hostLoopback", yes)
		r.only(n, "queues", "1")
		switch {
		case i >= uint64(len(c.NICs)):
			r.add(n, "/@number", "there is no interface %d; they are counted from 0", i)
			continue
		case given[i]:
			r.add(n, "/@number", "interface %d was given before", i)
		case loopback && c.NICs[i].Network != polyvisor.NetworkUser:
			r.add(n, "/@hostLoopback", "interface %d is not of type user, whose guests alone reach the host's loopback", i)
		case queues && c.NICs[i].Queues > 1:
			r.add(n, "/@queues", "interface %d has %d queues", i, c.NICs[i].Queues)
		}
		given[i] = true
		c.NICs[i].HostLoopback = c.NICs[i].HostLoopback || loopback
		if queues {
			c.NICs[i].Queues = 1
		}
	}
}
