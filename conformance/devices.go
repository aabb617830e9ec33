package conformance

import (
	"fmt"
	"net"
	"slices"

	"github.com/polyvisor/polyvisor"
)

func deviceCases() []Case {
	var cases []Case
	for _, k := range deviceKinds {
		features := []polyvisor.Feature{polyvisor.FeatureDevices, k.need}
		cases = append(cases, Case{
			Name: "device/" + k.name + "-inactive", Features: features,
			Rule:  "A " + k.name + " is added to the definition of an inactive domain, changed and removed there, and the domain runs with it, which the guest finds as it is. One that is there already is ErrExists, one that is not is ErrNotFound.",
			Seeds: []string{"virDomainAttachDevice", "virDomainDetachDevice"},
			Run:   func(c *C) { deviceLife(c, k, c.define("changing"), false) },
		}, Case{
			Name: "device/" + k.name + "-hot-plug", Features: features,
			Rule:  "A " + k.name + " is added to a running domain, changed and removed while it runs, and each time the guest finds it as it is then. The change is gone with the run.",
			Seeds: []string{"virDomainAttachDevice", "virDomainDetachDevice"},
			Run:   func(c *C) { deviceLife(c, k, c.started("changing"), true) },
		}, Case{
			Name: "device/" + k.name + "-config", Features: []polyvisor.Feature{k.need},
			Rule:  "A domain is defined and runs with a " + k.name + ", which its Config keeps as it was given and the guest finds.",
			Seeds: k.seeds,
			Run: func(c *C) {
				dev := k.device(c, 0)
				d := c.started("equipped", func(cfg *polyvisor.Config) { addDevice(cfg, dev) })
				got := findDevice(c.configOf(d), dev)
				c.check(got != nil && fmt.Sprint(got) == fmt.Sprint(withDefaults(dev)), "the domain has %+v, want %+v", got, withDefaults(dev))
				c.viewer(k.name, d).finds(k.name, dev, "at the start")
			},
		})
	}
	return append(cases, moreDeviceCases()...)
}

func moreDeviceCases() []Case {
	devices := []polyvisor.Feature{polyvisor.FeatureDevices, polyvisor.FeatureDisks}
	return []Case{
		{
			Name: "device/many", Features: devices,
			Rule:  "Many disks are added to a running domain in turn; Config lists them in the order in which they came, and each can be removed by its target, whatever the order.",
			Seeds: []string{"virDomainAttachDevice"},
			Run: func(c *C) {
				deviceMany(c, "disk", func(c *C, n int) polyvisor.Device {
					name := fmt.Sprintf("vd%c", 'g'+n)
					return &polyvisor.Disk{Target: name, Source: polyvisor.Path(c.image(name))}
				})
			},
		},
		{
			Name: "device/many-nics", Features: []polyvisor.Feature{polyvisor.FeatureDevices, polyvisor.FeatureNICs},
			Rule:  "Many NICs are added to a running domain in turn; Config lists them in the order in which they came, and each can be removed by its MAC address, whatever the order.",
			Seeds: []string{"virDomainAttachDevice"},
			Run: func(c *C) {
				deviceMany(c, "nic", func(_ *C, n int) polyvisor.Device {
					return &polyvisor.NIC{MAC: polyvisor.MAC{0x52, 0x54, 0, 0xc0, 0xfe, byte(n)}}
				})
			},
		},
		{
			Name: "device/modes", Features: []polyvisor.Feature{polyvisor.FeatureDisks},
			Rule:  "A disk keeps its mode: what the guest writes is in the image, unless it is to read only. A file that cannot be written may be a read-only disk; as a writable one it is refused at the start at the latest.",
			Seeds: []string{"virDeviceMode", "VIR_DEVICE_DEFAULT", "VIR_DEVICE_RO", "VIR_DEVICE_RW", "VIR_DEVICE_RW_FORCE", "AVirtualMachineRawConfig_addDisk"},
			Run:   deviceModes,
		},
		{
			Name: "device/disk-in-use", Features: []polyvisor.Feature{polyvisor.FeatureDisks},
			Rule:  "A second domain that writes to a disk image in use is refused with ErrBusy when it starts, unless one of them only reads or the mode forces it.",
			Seeds: []string{"VIR_DEVICE_RW_FORCE", "VIR_DEVICE_RW"},
			Run:   deviceInUse,
		},
		{
			Name: "device/refused", Features: devices,
			Rule:  "A device that is wrong, or none, is ErrInvalidConfig and changes nothing.",
			Seeds: []string{"virDomainAttachDevice"},
			Run: func(c *C) {
				d := c.define("picky")
				before := c.configOf(d)
				for _, dev := range []polyvisor.Device{nil, (*polyvisor.Disk)(nil), &polyvisor.Disk{}, &polyvisor.Disk{Target: "../x", Source: polyvisor.Path("/x")},
					&polyvisor.Disk{Source: polyvisor.Path("/x"), Format: "floppy"}, &polyvisor.Disk{Source: polyvisor.Path("/x"), Mode: 9}} {
					c.fails(d.AttachDevice(c.ctx, dev), fmt.Sprintf("attach %+v", dev), polyvisor.CodeInvalidConfig)
				}
				c.check(sameConfig(before, c.configOf(d)), "a device that was refused changed the definition")
			},
		},
	}
}

// deviceKind is a kind of device, with examples of it.
type deviceKind struct {
	name  string
	need  polyvisor.Feature
	seeds []string
	// device gives example n; they differ in what they are found by.
	device func(c *C, n int) polyvisor.Device
	// change alters a setting of a device.
	change func(polyvisor.Device)
	// only is set if a domain has at most one.
	only bool
}

var deviceKinds = []deviceKind{
	{"disk", polyvisor.FeatureDisks, []string{"AVirtualMachineRawConfig_addDisk"}, func(c *C, n int) polyvisor.Device {
		return &polyvisor.Disk{Target: "vd" + string(rune('p'+n)), Source: polyvisor.Path(c.image(fmt.Sprintf("disk%d", n))), Serial: fmt.Sprintf("S%d", n)}
	}, func(d polyvisor.Device) { d.(*polyvisor.Disk).Mode = polyvisor.DeviceReadOnly }, false},
	{"nic", polyvisor.FeatureNICs, nil, func(c *C, n int) polyvisor.Device {
		return &polyvisor.NIC{MAC: polyvisor.MAC{0x52, 0x54, 0, 0xc0, 0xff, byte(n)}}
	}, func(d polyvisor.Device) { d.(*polyvisor.NIC).MTU = 1400 }, false},
	{"share", polyvisor.FeatureShares, nil, func(c *C, n int) polyvisor.Device {
		return &polyvisor.Share{Tag: fmt.Sprintf("tag%d", n), Source: c.dir}
	}, func(d polyvisor.Device) { d.(*polyvisor.Share).Mode = polyvisor.DeviceReadOnly }, false},
	{"rng", polyvisor.FeatureRNG, nil, func(c *C, n int) polyvisor.Device {
		return &polyvisor.RNG{}
	}, func(d polyvisor.Device) { d.(*polyvisor.RNG).BytesPerSecond = 1024 }, true},
}

// forward gives a forward to the guest from a port of the host that is free, all
// of it other than the defaults.
func (c *C) forward() polyvisor.PortForward {
	const host = "127.0.0.2"
	l, err := net.ListenPacket("udp", net.JoinHostPort(host, "0"))
	c.ok(err, "find a free port")
	port := l.LocalAddr().(*net.UDPAddr).Port
	c.ok(l.Close(), "close a socket")
	return polyvisor.PortForward{Protocol: polyvisor.ProtocolUDP, HostIP: host, HostPort: uint16(port), GuestPort: 7}
}

func addDevice(cfg *polyvisor.Config, dev polyvisor.Device) {
	switch dev := dev.(type) {
	case *polyvisor.Disk:
		cfg.Disks = append(slices.Clone(cfg.Disks), *dev)
	case *polyvisor.NIC:
		cfg.NICs = append(slices.Clone(cfg.NICs), *dev)
	case *polyvisor.Share:
		cfg.Shares = append(slices.Clone(cfg.Shares), *dev)
	case *polyvisor.RNG:
		cfg.RNG = dev
	}
}

// withDefaults gives the device with its defaults filled in, as the root
// package does it.
func withDefaults(dev polyvisor.Device) polyvisor.Device {
	var cfg polyvisor.Config
	addDevice(&cfg, dev)
	return cfg.WithDefaults().Devices()[0]
}

// findDevice gives the device of the same kind and name, nil if there is none.
func findDevice(cfg *polyvisor.Config, dev polyvisor.Device) polyvisor.Device {
	for _, d := range cfg.Devices() {
		if d.DeviceID() == dev.DeviceID() && fmt.Sprintf("%T", d) == fmt.Sprintf("%T", dev) {
			return d
		}
	}
	return nil
}

func deviceLife(c *C, k deviceKind, d *polyvisor.Domain, active bool) {
	before := c.configOf(d)
	dev := k.device(c, 1)
	var guest *talk
	if active {
		guest = c.viewer(k.name, d)
		guest.misses(k.name, dev, "at the start")
	}
	c.fails(d.DetachDevice(c.ctx, dev), "detach what is not there", polyvisor.CodeNotFound)
	c.fails(d.UpdateDevice(c.ctx, dev), "update what is not there", polyvisor.CodeNotFound)
	c.ok(d.AttachDevice(c.ctx, dev), "attach")
	got := findDevice(c.configOf(d), dev)
	c.check(got != nil && fmt.Sprint(got) == fmt.Sprint(withDefaults(dev)), "after attach the domain has %+v, want %+v", got, withDefaults(dev))
	guest.finds(k.name, dev, "after attach")
	c.fails(d.AttachDevice(c.ctx, dev), "attach what is there already", polyvisor.CodeExists)
	k.change(dev)
	c.ok(d.UpdateDevice(c.ctx, dev), "update")
	got = findDevice(c.configOf(d), dev)
	c.check(got != nil && fmt.Sprint(got) == fmt.Sprint(withDefaults(dev)), "after update the domain has %+v, want %+v", got, withDefaults(dev))
	guest.finds(k.name, dev, "after update")
	if active {
		c.ok(d.DetachDevice(c.ctx, dev), "detach")
		c.check(findDevice(c.configOf(d), dev) == nil, "after detach the domain still has the device")
		guest.misses(k.name, dev, "after detach")
		c.ok(d.AttachDevice(c.ctx, dev), "attach again")
		guest.finds(k.name, dev, "after another attach")
		c.state(d, polyvisor.Running, "changes of its devices")
		c.ok(d.Destroy(c.ctx), "destroy")
		c.check(sameConfig(before, c.configOf(d)), "the devices of a run are in the definition: %+v, was %+v", c.configOf(d), before)
		return
	}
	c.ok(d.Start(c.ctx), "start with the device")
	c.check(findDevice(c.configOf(d), dev) != nil, "the run does not have the device")
	c.viewer(k.name, d).finds(k.name, dev, "at the start")
	c.ok(d.Destroy(c.ctx), "destroy")
	c.ok(d.DetachDevice(c.ctx, dev), "detach")
	c.check(sameConfig(before, c.configOf(d)), "after detach the definition is %+v, was %+v", c.configOf(d), before)
}

// deviceMany attaches eight devices of a kind and detaches four of them.
func deviceMany(c *C, kind string, device func(c *C, n int) polyvisor.Device) {
	d := c.started("full")
	before := c.configOf(d)
	guest := c.viewer(kind, d)
	var want []polyvisor.Device
	for i := range 8 {
		dev := device(c, (i*3)%8)
		c.ok(d.AttachDevice(c.ctx, dev), "attach %s", dev.DeviceID())
		want = append(want, dev)
	}
	check := func(what string, want []polyvisor.Device) {
		var names, wanted []string
		for _, dev := range c.configOf(d).Devices() {
			if fmt.Sprintf("%T", dev) == fmt.Sprintf("%T", want[0]) && findDevice(before, dev) == nil {
				names = append(names, dev.DeviceID())
			}
		}
		for _, dev := range want {
			wanted = append(wanted, dev.DeviceID())
			guest.finds(kind, dev, "among many")
		}
		c.check(slices.Equal(names, wanted), "the %ss %s %q, want %q", kind, what, names, wanted)
	}
	check("are", want)
	left := slices.Clone(want)
	for _, i := range []int{3, 0, 7, 5} {
		c.ok(d.DetachDevice(c.ctx, want[i]), "detach %s", want[i].DeviceID())
		guest.misses(kind, want[i], "after detach among many")
		left = slices.DeleteFunc(left, func(dev polyvisor.Device) bool { return dev == want[i] })
	}
	check("that are left are", left)
}

func deviceModes(c *C) {
	for _, m := range []polyvisor.DeviceMode{polyvisor.DeviceDefault, polyvisor.DeviceReadOnly, polyvisor.DeviceReadWrite, polyvisor.DeviceReadWriteForce} {
		disk := polyvisor.Disk{Target: "vdm", Source: polyvisor.Path(c.image("disk-" + m.String())), Mode: m}
		d := c.started("mode-"+m.String(), func(cfg *polyvisor.Config) { addDevice(cfg, &disk) })
		got := findDevice(c.configOf(d), &disk)
		c.check(got != nil && got.(*polyvisor.Disk).Mode == m, "a disk of mode %s came back as %+v", m, got)
		c.viewer("disk", d).finds("disk", &disk, "in mode "+m.String())
		c.ok(d.Destroy(c.ctx), "destroy")
	}
	disk := polyvisor.Disk{Target: "vdm", Source: polyvisor.Path(c.path("no-such-image"))}
	d := c.define("without-image", func(cfg *polyvisor.Config) { addDevice(cfg, &disk) })
	c.fails(d.Start(c.ctx), "start without a disk's image", polyvisor.CodeNotFound)
	c.state(d, polyvisor.Shutoff, "a start without a disk's image")
}

func deviceInUse(c *C) {
	image := c.image("contended")
	with := func(m polyvisor.DeviceMode) func(*polyvisor.Config) {
		return func(cfg *polyvisor.Config) {
			addDevice(cfg, &polyvisor.Disk{Target: "vdu", Source: polyvisor.Path(image), Mode: m})
		}
	}
	first := c.started("first", with(polyvisor.DeviceReadWrite))
	second := c.define("second", with(polyvisor.DeviceReadWrite))
	c.fails(second.Start(c.ctx), "start of a second writer", polyvisor.CodeBusy)
	c.state(second, polyvisor.Shutoff, "a start that was refused")
	forced := c.started("forced", with(polyvisor.DeviceReadWriteForce))
	c.ok(forced.Destroy(c.ctx), "destroy")
	c.ok(first.Destroy(c.ctx), "destroy the first writer")
	c.ok(second.Start(c.ctx), "start of the only writer")
}
