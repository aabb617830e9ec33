//go:build linux && amd64

package kvm

import (
	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/domainxml"
)

// ParseDomainXML reads libvirt domain XML.
func (d *driver) ParseDomainXML(xml string) (*polyvisor.Config, error) { return domainxml.Parse(xml) }

// FormatDomainXML writes a configuration as libvirt domain XML of type kvm.
func (d *driver) FormatDomainXML(c *polyvisor.Config) (string, error) {
	return domainxml.Format(c, domainxml.Options{Type: "kvm", Arch: d.caps.Arch})
}

// ParseDeviceXML reads the XML of one device.
func (d *driver) ParseDeviceXML(xml string) (polyvisor.Device, error) {
	return domainxml.ParseDevice(xml)
}

var _ polyvisor.XMLCodec = (*driver)(nil)
