package fake

import (
	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/domainxml"
)

// ParseDomainXML reads libvirt domain XML.
func (*driver) ParseDomainXML(xml string) (*polyvisor.Config, error) { return domainxml.Parse(xml) }

// FormatDomainXML writes it.
func (*driver) FormatDomainXML(c *polyvisor.Config) (string, error) {
	return domainxml.Format(c, domainxml.Options{Type: "fake"})
}

// ParseDeviceXML reads libvirt device XML.
func (*driver) ParseDeviceXML(xml string) (polyvisor.Device, error) {
	return domainxml.ParseDevice(xml)
}
