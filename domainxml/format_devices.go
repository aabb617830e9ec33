package domainxml

import (
	"encoding/xml"
	"fmt"
	"strings"

	"libvirt.org/go/libvirtxml"

	"github.com/polyvisor/polyvisor"
)

// FormatDevice writes a single device. The error matches
// polyvisor.ErrInvalidConfig: there is no device, it has an open file, or a text
// that XML cannot hold.
func FormatDevice(dev polyvisor.Device) (string, error) { return formatDevice(dev, false) }

// FormatNamedDevice is FormatDevice with the name for the hypervisor that Alias gives.
func FormatNamedDevice(dev polyvisor.Device) (string, error) { return formatDevice(dev, true) }

func formatDevice(dev polyvisor.Device, named bool) (string, error) {
	var doc interface{ Marshal() (string, error) }
	c := &polyvisor.Config{}
	switch d := dev.(type) {
	case *polyvisor.Disk:
		if d == nil {
			return "", errNoDevice
		}
		if d.Source.Open != nil {
			return "", fmt.Errorf("%w: disk %s: open file %s has no form in XML; give its path", polyvisor.ErrInvalidConfig, d.Target, d.Source)
		}
		c.Disks = []polyvisor.Disk{*d}
		doc = diskXML(d)
	case *polyvisor.NIC:
		if d == nil {
			return "", errNoDevice
		}
		c.NICs = []polyvisor.NIC{*d}
		doc = nicXML(d)
	case *polyvisor.Share:
		if d == nil {
			return "", errNoDevice
		}
		c.Shares = []polyvisor.Share{*d}
		doc = shareXML(d)
	case *polyvisor.RNG:
		if d == nil {
			return "", errNoDevice
		}
		c.RNG = d
		doc = rngXML(d)
	default:
		return "", errNoDevice
	}
	for field, t := range textsOf(c) {
		if !holdable(t.get()) {
			return "", fmt.Errorf("%w: device %q: %s has a character that XML cannot hold", polyvisor.ErrInvalidConfig, dev.DeviceID(), field)
		}
	}
	if named {
		*aliasOf(doc) = &libvirtxml.DomainAlias{Name: Alias(dev)}
	}
	text, err := doc.Marshal()
	if err != nil {
		return "", err
	}
	at := strings.IndexByte(text, ' ')
	text = text[:at] + ownAttributes(dev) + text[at:]
	return closeEmpty(text) + "\n", nil
}

var errNoDevice = fmt.Errorf("%w: no device", polyvisor.ErrInvalidConfig)

func deviceList(c *polyvisor.Config) *libvirtxml.DomainDeviceList {
	list := &libvirtxml.DomainDeviceList{MemBalloon: &libvirtxml.DomainMemBalloon{Model: "none"}}
	for i := range c.Disks {
		list.Disks = append(list.Disks, *diskXML(&c.Disks[i]))
	}
	for i := range c.NICs {
		list.Interfaces = append(list.Interfaces, *nicXML(&c.NICs[i]))
	}
	for i := range c.Shares {
		list.Filesystems = append(list.Filesystems, *shareXML(&c.Shares[i]))
	}
	if c.RNG != nil {
		list.RNGs = append(list.RNGs, *rngXML(c.RNG))
	}
	if c.Vsock != nil {
		cid := &libvirtxml.DomainVSockCID{Auto: "yes"}
		if c.Vsock.CID != 0 {
			cid = &libvirtxml.DomainVSockCID{Auto: "no", Address: fmt.Sprint(c.Vsock.CID)}
		}
		list.VSock = &libvirtxml.DomainVSock{Model: "virtio", CID: cid}
	}
	if c.Balloon {
		list.MemBalloon.Model = "virtio"
	}
	pty := &libvirtxml.DomainChardevSource{Pty: &libvirtxml.DomainChardevSourcePty{}}
	serial := libvirtxml.DomainSerial{Source: pty, Target: &libvirtxml.DomainSerialTarget{Type: "isa-serial", Port: new(uint)}}
	console := libvirtxml.DomainConsole{Source: pty, Target: &libvirtxml.DomainConsoleTarget{Type: "serial", Port: new(uint)}}
	if c.Console.Log != "" {
		serial.Log = &libvirtxml.DomainChardevLog{File: c.Console.Log, Append: "on"}
		console.Log = serial.Log
	}
	if c.Console.Virtio {
		console.Target.Type = "virtio"
	} else {
		list.Serials = append(list.Serials, serial)
	}
	list.Consoles = append(list.Consoles, console)
	return list
}

func diskXML(d *polyvisor.Disk) *libvirtxml.DomainDisk {
	format := d.Format
	if format == "" {
		format = polyvisor.FormatRaw
	}
	x := &libvirtxml.DomainDisk{
		Device: "disk",
		Driver: &libvirtxml.DomainDiskDriver{Name: "qemu", Type: string(format)},
		Source: &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: d.Source.Path}},
		Target: &libvirtxml.DomainDiskTarget{Dev: d.Target, Bus: "virtio"},
		Serial: d.Serial,
	}
	x.Driver.Cache = string(d.Cache)
	if d.Queues != 0 {
		queues := uint(d.Queues)
		x.Driver.Queues = &queues
	}
	switch d.Mode {
	case polyvisor.DeviceReadOnly:
		x.ReadOnly = &libvirtxml.DomainDiskReadOnly{}
	case polyvisor.DeviceReadWriteForce:
		x.Shareable = &libvirtxml.DomainDiskShareable{}
	}
	return x
}

func nicXML(d *polyvisor.NIC) *libvirtxml.DomainInterface {
	x := &libvirtxml.DomainInterface{Source: &libvirtxml.DomainInterfaceSource{}, Model: &libvirtxml.DomainInterfaceModel{Type: "virtio"}}
	if !d.MAC.IsZero() {
		x.MAC = &libvirtxml.DomainInterfaceMAC{Address: d.MAC.String()}
	}
	switch d.Network {
	case polyvisor.NetworkBridge:
		x.Source.Bridge = &libvirtxml.DomainInterfaceSourceBridge{Bridge: d.Source}
	case polyvisor.NetworkManaged:
		x.Source.Network = &libvirtxml.DomainInterfaceSourceNetwork{Network: d.Source}
	case polyvisor.NetworkTap:
		x.Source.Ethernet = &libvirtxml.DomainInterfaceSourceEthernet{}
		x.Target = &libvirtxml.DomainInterfaceTarget{Dev: d.Source, Managed: "no"}
	default:
		x.Source.User = &libvirtxml.DomainInterfaceSourceUser{}
		forwardsXML(x, d.Forwards)
	}
	if d.Queues != 0 {
		x.Driver = &libvirtxml.DomainInterfaceDriver{Queues: uint(d.Queues)}
	}
	if d.MTU != 0 {
		x.MTU = &libvirtxml.DomainInterfaceMTU{Size: uint(d.MTU)}
	}
	return x
}

func shareXML(d *polyvisor.Share) *libvirtxml.DomainFilesystem {
	x := &libvirtxml.DomainFilesystem{
		AccessMode: "passthrough",
		Driver:     &libvirtxml.DomainFilesystemDriver{Type: "virtiofs"},
		Source:     &libvirtxml.DomainFilesystemSource{Mount: &libvirtxml.DomainFilesystemSourceMount{Dir: d.Source}},
		Target:     &libvirtxml.DomainFilesystemTarget{Dir: d.Tag},
	}
	if d.Mode == polyvisor.DeviceReadOnly {
		x.ReadOnly = &libvirtxml.DomainFilesystemReadOnly{}
	}
	return x
}

// rngXML gives a source of random numbers by the name xml.Marshal needs.
func rngXML(d *polyvisor.RNG) *libvirtxml.DomainRNG {
	x := &libvirtxml.DomainRNG{
		XMLName: xml.Name{Local: "rng"},
		Model:   "virtio",
		Backend: &libvirtxml.DomainRNGBackend{Random: &libvirtxml.DomainRNGBackendRandom{Device: d.Source}},
	}
	if d.BytesPerSecond != 0 {
		x.Rate = &libvirtxml.DomainRNGRate{Bytes: uint(d.BytesPerSecond), Period: 1000}
	}
	return x
}
