package domainxml

import (
	"math"
	"slices"
	"strings"

	"github.com/polyvisor/polyvisor"
)

// ParseDevice reads a single device: a disk, interface, filesystem or rng. It
// may leave out all but its name, which is enough to detach it. The error is an
// *Error.
func ParseDevice(text string) (polyvisor.Device, error) {
	root, err := readTree(text)
	if err != nil {
		return nil, err
	}
	r := reader{partial: true}
	var dev polyvisor.Device
	switch pathName(root.Name) {
	case "disk":
		dev = r.disk(root)
	case "interface":
		dev = r.nic(root)
	case "filesystem":
		dev = r.share(root)
	case "rng":
		dev = r.rng(root)
	default:
		return nil, fail(root.line, pathName(root.Name), "%s; disk, interface, filesystem and rng are", notSupported)
	}
	if err := r.result(root); err != nil {
		return nil, err
	}
	return dev, nil
}

func (r *reader) devices(list *node, c *polyvisor.Config) {
	if n := r.one(list, "emulator"); n != nil {
		n.content()
	}
	for _, n := range list.all("disk") {
		if d := r.disk(n); r.keeps(n, d.Target != "" && !d.Source.IsZero() && n.value("device") != "cdrom" && n.value("device") != "floppy") {
			c.Disks = append(c.Disks, *d)
		}
	}
	for _, n := range list.all("interface") {
		if d := r.nic(n); r.keeps(n, d.Network != "" && !d.MAC.IsZero()) {
			c.NICs = append(c.NICs, *d)
		}
	}
	for _, n := range list.all("filesystem") {
		if d := r.share(n); r.keeps(n, d.Tag != "" && d.Source != "") {
			c.Shares = append(c.Shares, *d)
		}
	}
	if n := r.one(list, "rng"); n != nil {
		c.RNG = r.rng(n)
	}
	if n := r.one(list, "vsock"); n != nil {
		c.Vsock = r.vsock(n)
	}
	if n := r.one(list, "memballoon"); n != nil {
		c.Balloon = r.only(n, "model", "virtio", "none") == "virtio"
		r.demand(n, "model")
		r.noise(n)
	}
	r.console(list, c)
	r.plumbing(list)
}

// noise skips what the hypervisor gives a device.
func (r *reader) noise(n *node) {
	for _, name := range []string{"alias", "address"} {
		if k := r.one(n, name); k != nil {
			k.skip()
		}
	}
}

// plumbing skips the devices that libvirt adds by itself.
func (r *reader) plumbing(list *node) {
	skipIf := func(name, attr string, values ...string) {
		for _, n := range list.all(name) {
			if slices.Contains(values, n.value(attr)) {
				n.skip()
			} else {
				n.known = false
			}
		}
	}
	skipIf("controller", "type", "pci", "usb", "ide", "sata", "scsi", "virtio-serial")
	skipIf("audio", "type", "none")
	skipIf("panic", "model", "isa", "pvpanic")
	for _, n := range list.all("input") {
		if t := n.value("type"); n.value("bus") == "ps2" && (t == "mouse" || t == "keyboard") {
			n.skip()
		} else {
			n.known = false
		}
	}
	for _, n := range list.all("video") {
		if m := r.one(n, "model"); m != nil && m.value("type") == "none" {
			n.skip()
		} else {
			n.known = false
		}
	}
}

// console reads the first serial port, and the console that stands for it; or, without a port, the virtio console.
func (r *reader) console(list *node, c *polyvisor.Config) {
	ports := list.all("serial")
	for i, n := range append(ports, list.all("console")...) {
		twin := i >= len(ports)
		if i > 0 && i != len(ports) {
			r.add(n, "", "%s; a domain has one serial port", notSupported)
			n.skip()
			continue
		}
		r.only(n, "type", "pty")
		n.attr("tty")
		if s := r.one(n, "source"); s != nil {
			s.skip() // the pty of a run
		}
		if t := r.one(n, "target"); t != nil {
			if twin && len(ports) == 0 {
				c.Console.Virtio = r.only(t, "type", "serial", "virtio") == "virtio"
			} else if twin {
				r.only(t, "type", "serial")
			} else {
				r.only(t, "type", "isa-serial")
				if m := r.one(t, "model"); m != nil {
					r.only(m, "name", "isa-serial")
				}
			}
			r.only(t, "port", "0")
		}
		r.noise(n)
		log := r.one(n, "log")
		if log == nil {
			continue
		}
		r.only(log, "append", "on")
		file := r.demand(log, "file")
		if twin && len(ports) > 0 && file != c.Console.Log {
			r.add(log, "/@file", "%q %s; the serial port has %q", file, notSupported, c.Console.Log)
		}
		c.Console.Log = file
	}
}

// mode reads how a device is accessed.
func (r *reader) mode(n *node) polyvisor.DeviceMode {
	readOnly := r.flag(n, "readonly")
	shareable := n.Name.Local == "disk" && r.flag(n, "shareable")
	text, ok := n.attrOf(Namespace, "mode")
	var mode polyvisor.DeviceMode
	switch {
	case ok:
		if err := mode.UnmarshalText([]byte(text)); err != nil {
			r.add(n, "/@polyvisor:mode", "%v", err)
		}
		if readOnly && mode != polyvisor.DeviceReadOnly || shareable && mode != polyvisor.DeviceReadWriteForce && !readOnly {
			r.add(n, "/@polyvisor:mode", "%q contradicts <readonly> or <shareable>", text)
		}
	case readOnly: // whether it is shared does not matter then
		mode = polyvisor.DeviceReadOnly
	case shareable:
		mode = polyvisor.DeviceReadWriteForce
	}
	return mode
}

func (r *reader) disk(n *node) *polyvisor.Disk {
	d := &polyvisor.Disk{Mode: r.mode(n), Serial: r.text(n, "serial"), Format: polyvisor.FormatRaw}
	file := "file"
	if r.only(n, "type", "file", "block") == "block" {
		file = "dev"
	}
	r.need(n, "type")
	r.only(n, "device", "disk")
	if k := r.one(n, "driver"); k != nil {
		r.only(k, "name", "qemu")
		if f := r.only(k, "type", string(polyvisor.FormatRaw), string(polyvisor.FormatQCOW2)); f != "" {
			d.Format = polyvisor.DiskFormat(f)
		}
		caches := []string{"default", string(polyvisor.CacheWriteback), string(polyvisor.CacheWritethrough), string(polyvisor.CacheNone), string(polyvisor.CacheUnsafe)}
		if c := r.only(k, "cache", caches...); c != "default" {
			d.Cache = polyvisor.CacheMode(c)
		}
		d.Queues = r.queues(k)
	}
	if k := r.one(n, "source"); k != nil {
		d.Source.Path = r.need(k, file)
		k.attr("index")
	} else {
		r.lacks(n, "/source", "is missing")
	}
	if k := r.one(n, "target"); k != nil {
		d.Target = k.value("dev")
		r.only(k, "bus", "virtio")
	}
	if k := r.one(n, "backingStore"); k != nil && len(k.attrs)+len(k.kids) > 0 {
		k.known = false
	}
	r.noise(n)
	return d
}

// queues reads how many queues a driver has.
func (r *reader) queues(driver *node) int {
	if _, ok := driver.attr("queues"); !ok {
		return 0
	}
	n := int(r.attrNumber(driver, "queues", math.MaxInt32))
	if n == 0 && driver.value("queues") == "0" {
		r.add(driver, "/@queues", "0 queues; leave it out to let the hypervisor choose")
	}
	return n
}

func (r *reader) nic(n *node) *polyvisor.NIC {
	d := &polyvisor.NIC{}
	if k := r.one(n, "mac"); k != nil {
		text := r.demand(k, "address")
		mac, err := polyvisor.ParseMAC(text)
		if text != "" && (err != nil || len(text) != 17) || err == nil && mac.IsZero() {
			r.add(k, "/@address", "%.40q is not the address of an interface; write it as 52:54:00:12:34:56", text)
		}
		d.MAC = mac
	}
	if k := r.one(n, "mtu"); k != nil {
		d.MTU = int(r.attrNumber(k, "size", math.MaxInt32))
		if d.MTU == 0 && k.value("size") == "0" {
			r.add(k, "/@size", "0 is no MTU; leave it out")
		}
	}
	if k := r.one(n, "driver"); k != nil {
		d.Queues = r.queues(k)
	}
	if k := r.one(n, "model"); k != nil {
		r.only(k, "type", "virtio")
	}
	if k := r.one(n, "link"); k != nil {
		r.only(k, "state", "up")
	}
	source, target := r.one(n, "source"), r.one(n, "target")
	switch r.only(n, "type", "user", "bridge", "network", "ethernet") {
	case "user":
		d.Network = polyvisor.NetworkUser
		d.Forwards = r.forwards(n)
		d.HostLoopback = r.hostLoopback(n)
	case "bridge":
		d.Network = polyvisor.NetworkBridge
		d.Source = r.sourceOf(n, source, "bridge")
	case "network":
		d.Network = polyvisor.NetworkManaged
		d.Source = r.sourceOf(n, source, "network")
		if source != nil { // of a run
			source.attr("bridge")
			source.attr("portid")
		}
	case "ethernet":
		d.Network = polyvisor.NetworkTap
		if target == nil {
			r.lacks(n, "/target/@dev", "is missing: the name of the tap device")
		} else {
			d.Source = r.need(target, "dev")
			r.only(target, "managed", "no")
			target = nil
		}
	case "":
		r.need(n, "type")
	}
	if target != nil {
		if dev, ok := target.attr("dev"); ok && !strings.HasPrefix(dev, "vnet") && !strings.HasPrefix(dev, "testnet") {
			r.add(target, "/@dev", "%q %s; the hypervisor chooses the name", dev, notSupported)
		}
	}
	r.noise(n)
	return d
}

func (r *reader) sourceOf(n, source *node, name string) string {
	if source == nil {
		r.lacks(n, "/source/@"+name, "is missing")
		return ""
	}
	return r.need(source, name)
}

func (r *reader) share(n *node) *polyvisor.Share {
	d := &polyvisor.Share{Mode: r.mode(n)}
	r.only(n, "type", "mount")
	r.only(n, "accessmode", "passthrough")
	if k := r.one(n, "driver"); k != nil {
		r.only(k, "type", "virtiofs")
	}
	d.Source = r.sourceOf(n, r.one(n, "source"), "dir")
	if k := r.one(n, "target"); k != nil {
		d.Tag = r.need(k, "dir")
	} else {
		r.lacks(n, "/target/@dir", "is missing: the tag that the guest mounts")
	}
	r.noise(n)
	return d
}

func (r *reader) rng(n *node) *polyvisor.RNG {
	d := &polyvisor.RNG{}
	r.only(n, "model", "virtio")
	if k := r.one(n, "backend"); k != nil {
		r.only(k, "model", "random")
		d.Source = k.content()
	}
	if k := r.one(n, "rate"); k != nil {
		bytes, period := r.attrNumber(k, "bytes", math.MaxUint64), uint64(1000)
		if _, ok := k.attr("period"); ok {
			period = r.attrNumber(k, "period", math.MaxUint32)
		}
		switch {
		case bytes == 0 || period == 0:
			r.add(k, "", "of 0 says nothing; leave it out for no bound")
		case period == 1000:
			d.BytesPerSecond = polyvisor.Bytes(bytes)
		case bytes > math.MaxUint64/1000 || bytes*1000%period != 0:
			r.add(k, "", "%d bytes in %d ms %s; only whole bytes in a second are", bytes, period, notSupported)
		default:
			d.BytesPerSecond = polyvisor.Bytes(bytes * 1000 / period)
		}
	}
	r.noise(n)
	return d
}

func (r *reader) vsock(n *node) *polyvisor.VsockConfig {
	d := &polyvisor.VsockConfig{}
	r.only(n, "model", "virtio")
	if k := r.one(n, "cid"); k != nil {
		auto := r.only(k, "auto", "yes", "no") == "yes"
		_, given := k.attr("address")
		switch {
		case auto: // an address is that of a run
		case !given:
			r.add(k, "", "needs auto=\"yes\" or an address")
		default:
			d.CID = uint32(r.attrNumber(k, "address", math.MaxUint32))
			if d.CID == 0 && k.value("address") == "0" {
				r.add(k, "/@address", "0 is no address; write auto=\"yes\" to let the hypervisor choose")
			}
		}
	}
	r.noise(n)
	return d
}
