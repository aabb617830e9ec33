package libvirt

import (
	"context"
	"fmt"
	"time"

	"github.com/digitalocean/go-libvirt"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/domainxml"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/classed"
)

// deviceFlags says what of a domain a change of its devices affects: the run of an
// active one, the definition of an inactive one.
func (i *instance) deviceFlags(ctx context.Context, s *session) (flags libvirt.DomainDeviceModifyFlags, on bool, err error) {
	on, err = i.isActive(ctx, s)
	if on {
		return libvirt.DomainDeviceModifyLive, true, err
	}
	return libvirt.DomainDeviceModifyConfig, false, err
}

// find gives the domain's own XML of a device, ErrNotFound if it has none.
func (i *instance) find(ctx context.Context, s *session, dev polyvisor.Device) (string, error) {
	xml, err := s.XML(ctx, &i.dom, 0)
	if err != nil {
		return "", err
	}
	element, ok, err := domainxml.DeviceXML(xml, dev)
	if err != nil {
		return "", err
	}
	if !ok {
		return "", fmt.Errorf("%w: the domain has no device %q of that kind", polyvisor.ErrNotFound, dev.DeviceID())
	}
	return element, nil
}

// given is a device as libvirt is to have it: where no source of random numbers is named
// libvirt would take another one, and tell that.
func given(dev polyvisor.Device) polyvisor.Device {
	if rng, ok := dev.(*polyvisor.RNG); ok && rng.Source == "" {
		return &polyvisor.RNG{Source: domainxml.DefaultRandom, BytesPerSecond: rng.BytesPerSecond}
	}
	return dev
}

// AttachDevice adds a device.
func (i *instance) AttachDevice(ctx context.Context, dev polyvisor.Device) error {
	on := false
	err := i.change(ctx, func(ctx context.Context, s *session) error {
		flags, active, err := i.deviceFlags(ctx, s)
		if err != nil {
			return err
		}
		on = active
		switch _, err := i.find(ctx, s, dev); {
		case err == nil:
			return fmt.Errorf("%w: the domain has a device %q of that kind", polyvisor.ErrExists, dev.DeviceID())
		case polyvisor.CodeOf(err) != polyvisor.CodeNotFound || number(err) != 0:
			return err
		}
		xml, err := domainxml.FormatNamedDevice(given(dev))
		if err != nil {
			return err
		}
		if err := s.Attach(ctx, &i.dom, xml, flags); err != nil {
			return i.diagnoseDevice(dev, s.failed(err))
		}
		return i.noteMode(ctx, s, dev)
	})
	if err == nil && !on {
		i.d.hub.tell(i, polyvisor.EventDeviceAdded, dev.DeviceID())
	}
	return err
}

// DetachDevice removes a device and returns when the guest has let go of it.
func (i *instance) DetachDevice(ctx context.Context, dev polyvisor.Device) error {
	on := false
	err := i.change(ctx, func(ctx context.Context, s *session) error {
		flags, active, err := i.deviceFlags(ctx, s)
		if err != nil {
			return err
		}
		on = active
		xml, err := i.find(ctx, s, dev)
		if err != nil {
			return err
		}
		return s.Detach(ctx, &i.dom, xml, flags)
	})
	if err != nil {
		return err
	}
	if !on {
		i.d.hub.tell(i, polyvisor.EventDeviceRemoved, dev.DeviceID())
		return nil
	}
	return i.awaitDetached(ctx, dev)
}

// detachAgain is when a guest is asked once more to let go of a device: one that has not
// booted yet has not noticed.
const detachAgain = 10 * time.Second

// awaitDetached waits until the guest has let go of a device: libvirt waits a few
// seconds only.
func (i *instance) awaitDetached(ctx context.Context, dev polyvisor.Device) error {
	again := time.Now().Add(detachAgain)
	for wait := time.Millisecond; ; wait = min(2*wait, time.Second/2) {
		s, err := i.d.link.session()
		if err != nil {
			return err
		}
		xml, err := i.find(ctx, s, dev)
		if err == nil && time.Now().After(again) {
			again = time.Now().Add(detachAgain)
			if err := s.Detach(ctx, &i.dom, xml, libvirt.DomainDeviceModifyLive); err != nil {
				i.d.log.Debug("asking the guest once more to let go of a device", "domain", i.Name(), "device", dev.DeviceID(), "error", err)
			}
		}
		switch {
		case number(err) == libvirt.ErrNoDomain, polyvisor.CodeOf(err) == polyvisor.CodeNotFound:
			return nil
		case err != nil:
			return s.failed(err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the guest has not let go of the device yet: %w", ctx.Err())
		case <-time.After(wait):
		}
	}
}

// UpdateDevice replaces the settings of a device.
func (i *instance) UpdateDevice(ctx context.Context, dev polyvisor.Device) error {
	return i.change(ctx, func(ctx context.Context, s *session) error {
		flags, on, err := i.deviceFlags(ctx, s)
		if err != nil {
			return err
		}
		if _, err := i.find(ctx, s, dev); err != nil {
			return err
		}
		xml, err := domainxml.FormatNamedDevice(given(dev))
		if err != nil {
			return err
		}
		err = s.Update(ctx, &i.dom, xml, flags)
		if err != nil && !on {
			// Of a definition libvirt updates some settings only; it is written anew.
			err = i.replace(ctx, s, dev, xml)
		}
		if err != nil {
			return err
		}
		return i.noteMode(ctx, s, dev)
	})
}

// replace puts another device in the place of one in the definition.
func (i *instance) replace(ctx context.Context, s *session, dev polyvisor.Device, device string) error {
	xml, err := s.XML(ctx, &i.dom, libvirt.DomainXMLInactive|libvirt.DomainXMLSecure)
	if err != nil {
		return err
	}
	changed, ok, err := domainxml.ReplaceDevice(xml, dev, device)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%w: the domain has no device %q of that kind", polyvisor.ErrNotFound, dev.DeviceID())
	}
	_, err = s.Define(ctx, changed)
	return err
}

// noteMode keeps what libvirt has no element for: the mode of a device, and that no source
// of random numbers was named.
func (i *instance) noteMode(ctx context.Context, s *session, dev polyvisor.Device) error {
	if !i.d.caps.Has(polyvisor.FeatureLabels) {
		return nil
	}
	return i.editMetadata(ctx, s, func(c *polyvisor.Config) bool {
		changed := setMode(c, dev)
		if changed {
			i.record().quiet()
		}
		return changed
	})
}

// setMode sets what is kept of the same device of a Config, and says whether it was another.
func setMode(c *polyvisor.Config, dev polyvisor.Device) bool {
	set := func(p *polyvisor.DeviceMode, mode polyvisor.DeviceMode) bool {
		changed := *p != mode
		*p = mode
		return changed
	}
	switch dev := dev.(type) {
	case *polyvisor.Disk:
		for n := range c.Disks {
			if c.Disks[n].Target == dev.Target {
				return set(&c.Disks[n].Mode, dev.Mode)
			}
		}
	case *polyvisor.Share:
		for n := range c.Shares {
			if c.Shares[n].Tag == dev.Tag {
				return set(&c.Shares[n].Mode, dev.Mode)
			}
		}
	}
	if rng, ok := dev.(*polyvisor.RNG); ok && c.RNG != nil && c.RNG.Source != rng.Source {
		c.RNG.Source = rng.Source
		return true
	}
	return false
}

// diagnoseDevice finds out why a device cannot be attached.
func (i *instance) diagnoseDevice(dev polyvisor.Device, err error) error {
	if polyvisor.CodeOf(err) != polyvisor.CodeUnknown {
		return err
	}
	c := &polyvisor.Config{}
	if disk, ok := dev.(*polyvisor.Disk); ok {
		c.Disks = []polyvisor.Disk{*disk}
	}
	if i.d.locked(c, err) {
		return classed.As(polyvisor.ErrBusy, err)
	}
	return i.d.diagnose(c, err)
}

// aliasID gives the DeviceID that a hypervisor's name of a device stands for, or that
// name itself.
func aliasID(alias string) string {
	if id, ok := domainxml.AliasID(alias); ok {
		return id
	}
	return alias
}

var _ polyvisor.DeviceAttacher = (*instance)(nil)
