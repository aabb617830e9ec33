package domainxml

import (
	"encoding/hex"
	"strings"

	"libvirt.org/go/libvirtxml"

	"github.com/polyvisor/polyvisor"
)

// aliasPrefix begins the names that this package gives devices. libvirt demands
// "ua-" of names that it has not given itself, and letters, digits, '_' and '-'.
const aliasPrefix = "ua-pv-"

// kindWord is in aliases, because a DeviceID is unique within its kind only.
func kindWord(dev polyvisor.Device) string {
	switch dev.(type) {
	case *polyvisor.Disk:
		return "disk"
	case *polyvisor.NIC:
		return "nic"
	case *polyvisor.Share:
		return "share"
	}
	return "rng"
}

// Alias gives the name of a device for the hypervisor, from which AliasID gives the
// DeviceID again, also when the device is gone.
func Alias(dev polyvisor.Device) string {
	return aliasPrefix + kindWord(dev) + "-" + hex.EncodeToString([]byte(dev.DeviceID()))
}

// AliasID gives the DeviceID of a device that was named by Alias.
func AliasID(alias string) (id string, ok bool) {
	rest, ok := strings.CutPrefix(alias, aliasPrefix)
	if !ok {
		return "", false
	}
	_, text, _ := strings.Cut(rest, "-")
	b, err := hex.DecodeString(text)
	return string(b), err == nil && len(b) > 0
}

// setAliases names the devices that Format has written, of those that have a name of
// their own already: a MAC address that is to be chosen is none.
func setAliases(list *libvirtxml.DomainDeviceList, c *polyvisor.Config) {
	name := func(dev polyvisor.Device, p **libvirtxml.DomainAlias) { *p = &libvirtxml.DomainAlias{Name: Alias(dev)} }
	for i := range c.Disks {
		name(&c.Disks[i], &list.Disks[i].Alias)
	}
	for i := range c.NICs {
		if !c.NICs[i].MAC.IsZero() {
			name(&c.NICs[i], &list.Interfaces[i].Alias)
		}
	}
	for i := range c.Shares {
		name(&c.Shares[i], &list.Filesystems[i].Alias)
	}
	if c.RNG != nil {
		name(c.RNG, &list.RNGs[0].Alias)
	}
}

// aliasOf is where a device's name stands.
func aliasOf(doc any) **libvirtxml.DomainAlias {
	switch x := doc.(type) {
	case *libvirtxml.DomainDisk:
		return &x.Alias
	case *libvirtxml.DomainInterface:
		return &x.Alias
	case *libvirtxml.DomainFilesystem:
		return &x.Alias
	case *libvirtxml.DomainRNG:
		return &x.Alias
	}
	return new(*libvirtxml.DomainAlias)
}
