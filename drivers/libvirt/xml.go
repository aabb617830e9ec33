package libvirt

import (
	"context"
	"errors"

	"github.com/digitalocean/go-libvirt"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/domainxml"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/classed"
)

// DefineXML stores a domain as it is written.
func (d *driver) DefineXML(ctx context.Context, xml string) (polyvisor.Instance, error) {
	return d.define(ctx, xml, identityOf(xml), nil)
}

// CreateXML starts a transient domain as it is written.
func (d *driver) CreateXML(ctx context.Context, xml string, o polyvisor.StartOptions) (polyvisor.Instance, error) {
	i, err := d.create(ctx, xml, identityOf(xml), o)
	if err != nil {
		if c, _, perr := domainxml.ParseLoose(xml); perr == nil {
			err = d.diagnose(c, err)
		}
		return nil, err
	}
	return i, nil
}

// XML gives the domain's XML, of an active one what it runs with.
func (i *instance) XML(ctx context.Context) (string, error) {
	s, err := i.d.link.session()
	if err != nil {
		return "", err
	}
	xml, err := s.XML(ctx, &i.dom, 0)
	return xml, s.failed(err)
}

var errTaken = errors.New("the domain has a device of that kind and name")

// AttachDeviceXML adds a device as it is written.
func (i *instance) AttachDeviceXML(ctx context.Context, xml string) error {
	return i.deviceXML(ctx, xml, func(ctx context.Context, s *session, dev polyvisor.Device, flags libvirt.DomainDeviceModifyFlags) error {
		if dev != nil {
			if _, err := i.find(ctx, s, dev); err == nil {
				return classed.As(polyvisor.ErrExists, errTaken)
			}
		}
		return s.Attach(ctx, &i.dom, xml, flags)
	})
}

// DetachDeviceXML removes the device that is described.
func (i *instance) DetachDeviceXML(ctx context.Context, xml string) error {
	var gone polyvisor.Device
	err := i.deviceXML(ctx, xml, func(ctx context.Context, s *session, dev polyvisor.Device, flags libvirt.DomainDeviceModifyFlags) error {
		text := xml
		if dev != nil {
			own, err := i.find(ctx, s, dev)
			if err != nil {
				return err
			}
			text, gone = own, dev
		}
		return s.Detach(ctx, &i.dom, text, flags)
	})
	if err != nil || gone == nil {
		return err
	}
	return i.awaitDetached(ctx, gone)
}

// UpdateDeviceXML replaces the settings of the device that is described.
func (i *instance) UpdateDeviceXML(ctx context.Context, xml string) error {
	return i.deviceXML(ctx, xml, func(ctx context.Context, s *session, dev polyvisor.Device, flags libvirt.DomainDeviceModifyFlags) error {
		if dev != nil {
			if _, err := i.find(ctx, s, dev); err != nil {
				return err
			}
		}
		err := s.Update(ctx, &i.dom, xml, flags)
		if err != nil && dev != nil && flags == libvirt.DomainDeviceModifyConfig {
			err = i.replace(ctx, s, dev, xml)
		}
		return err
	})
}

// deviceXML changes a device. dev is it by its DeviceID, nil if it is of a kind or in a
// form that only libvirt knows.
func (i *instance) deviceXML(ctx context.Context, xml string, f func(ctx context.Context, s *session, dev polyvisor.Device, flags libvirt.DomainDeviceModifyFlags) error) error {
	dev := domainxml.DeviceIn(xml)
	return i.change(ctx, func(ctx context.Context, s *session) error {
		flags, _, err := i.deviceFlags(ctx, s)
		if err != nil {
			return err
		}
		err = f(ctx, s, dev, flags)
		if number(err) == libvirt.ErrConfigUnsupported && reportedBy(err) == fromDomain {
			return classed.As(polyvisor.ErrInvalidConfig, err) // there is no such device at all
		}
		return err
	})
}

var (
	_ polyvisor.XMLDefiner  = (*driver)(nil)
	_ polyvisor.XMLInstance = (*instance)(nil)
)
