package fake

import (
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/polyvisor/polyvisor"
)

// AttachDevice adds a device to the run of an active domain or the definition
// of an inactive one.
func (i *instance) AttachDevice(ctx context.Context, dev polyvisor.Device) error {
	return i.device(ctx, opAttachDevice, dev, polyvisor.EventDeviceAdded, attach)
}

// DetachDevice removes a device.
func (i *instance) DetachDevice(ctx context.Context, dev polyvisor.Device) error {
	return i.device(ctx, opDetachDevice, dev, polyvisor.EventDeviceRemoved, detach)
}

// UpdateDevice replaces the settings of a device.
func (i *instance) UpdateDevice(ctx context.Context, dev polyvisor.Device) error {
	return i.device(ctx, opUpdateDevice, dev, "", update)
}

// deviceChange changes the devices of a configuration.
type deviceChange func(c *polyvisor.Config, dev polyvisor.Device) error

func (i *instance) device(ctx context.Context, op operation, dev polyvisor.Device, event polyvisor.EventType, change deviceChange) error {
	return i.c.do(ctx, op, i.d, "", func(v *verdict) error {
		var img *image
		disk, isDisk := dev.(*polyvisor.Disk)
		// The image is opened without the lock. An inactive domain does not need
		// it, but then the path is no open file, and may not exist yet.
		if isDisk && op != opDetachDevice && i.active() {
			var err error
			if img, err = openImage(disk); err != nil {
				return err
			}
			nameOpenFile(&disk.Source)
		}
		i.c.h.mu.Lock()
		defer i.c.h.unlock()
		err := v.halfway()
		d, gone := i.domainLocked()
		if err == nil {
			err = gone
		}
		if err == nil {
			err = d.deviceLocked(dev, img, event, change)
		}
		if err != nil && img != nil {
			_ = img.file.Close()
		}
		return err
	})
}

func (i *instance) active() bool {
	i.c.h.mu.Lock()
	defer i.c.h.unlock()
	d, err := i.domainLocked()
	return err == nil && d.run != nil
}

// deviceLocked changes the configuration, and then the images of the run.
func (d *domain) deviceLocked(dev polyvisor.Device, img *image, event polyvisor.EventType, change deviceChange) error {
	if d.run != nil && d.run.ended != nil {
		return fmt.Errorf("%w: the guest has ended", polyvisor.ErrInvalidState)
	}
	if share, ok := dev.(*polyvisor.Share); ok && d.run != nil && event != polyvisor.EventDeviceRemoved {
		if err := checkShare(*share); err != nil {
			return err
		}
	}
	if rng, ok := dev.(*polyvisor.RNG); ok && d.run != nil && event != polyvisor.EventDeviceRemoved {
		if _, err := os.Stat(rngSource(rng)); err != nil {
			return fmt.Errorf("source of random numbers: %w", classify(err))
		}
	}
	config := d.configLocked().Clone()
	if err := change(config, dev); err != nil {
		return err
	}
	if d.run == nil {
		if img != nil {
			_ = img.file.Close() // stopped meanwhile
		}
		d.def = config
	} else {
		d.run.guestLocked() // booted without it
		if err := d.run.changeImageLocked(dev, img); err != nil {
			return err
		}
		d.run.config = config
	}
	if event != "" {
		d.h.tellLocked(d, polyvisor.Event{Type: event, Device: dev.DeviceID()})
	}
	return nil
}

// changeImageLocked puts the image of a disk into the run, or takes it out. It
// does nothing else if it fails.
func (r *run) changeImageLocked(dev polyvisor.Device, img *image) error {
	disk, ok := dev.(*polyvisor.Disk)
	if !ok {
		return nil
	}
	if r.files == nil {
		r.files = &files{}
	}
	old, at := r.imageOf(disk.Target)
	if old != nil {
		r.d.h.unlockImageLocked(old)
	}
	if img != nil {
		if err := r.d.h.lockImageLocked(img); err != nil {
			if old != nil && old.write {
				r.d.h.images[old.id]++
				old.held = true
			}
			return err
		}
		if old != nil {
			img.stats = old.stats
		}
		r.files.disks = append(r.files.disks, img)
	}
	if old != nil {
		r.files.disks = slices.Delete(r.files.disks, at, at+1)
		_ = old.file.Close()
	}
	return nil
}

// imageOf finds the image of a disk.
func (r *run) imageOf(target string) (*image, int) {
	if r.files != nil {
		for i, img := range r.files.disks {
			if img.target == target {
				return img, i
			}
		}
	}
	return nil, -1
}

func deviceExists(dev polyvisor.Device) error {
	return fmt.Errorf("%w: the domain has a device %s", polyvisor.ErrExists, dev.DeviceID())
}

func noDevice(dev polyvisor.Device) error {
	return fmt.Errorf("%w: the domain has no such device %s", polyvisor.ErrNotFound, dev.DeviceID())
}

func attach(c *polyvisor.Config, dev polyvisor.Device) error {
	for _, o := range c.Devices() {
		if o.DeviceID() == dev.DeviceID() {
			return deviceExists(dev)
		}
	}
	switch dev := dev.(type) {
	case *polyvisor.Disk:
		c.Disks = append(c.Disks, *dev)
	case *polyvisor.NIC:
		c.NICs = append(c.NICs, *dev)
	case *polyvisor.Share:
		c.Shares = append(c.Shares, *dev)
	case *polyvisor.RNG:
		c.RNG = dev
	}
	return nil
}

// place finds the device of that kind and name.
func place[D any](list []D, id func(*D) string, want string) int {
	for i := range list {
		if id(&list[i]) == want {
			return i
		}
	}
	return -1
}

func detach(c *polyvisor.Config, dev polyvisor.Device) error {
	at := 0
	switch dev := dev.(type) {
	case *polyvisor.Disk:
		if at = place(c.Disks, (*polyvisor.Disk).DeviceID, dev.Target); at >= 0 {
			c.Disks = slices.Delete(c.Disks, at, at+1)
		}
	case *polyvisor.NIC:
		if at = place(c.NICs, (*polyvisor.NIC).DeviceID, dev.DeviceID()); at >= 0 {
			c.NICs = slices.Delete(c.NICs, at, at+1)
		}
	case *polyvisor.Share:
		if at = place(c.Shares, (*polyvisor.Share).DeviceID, dev.Tag); at >= 0 {
			c.Shares = slices.Delete(c.Shares, at, at+1)
		}
	case *polyvisor.RNG:
		if c.RNG == nil {
			at = -1
		}
		c.RNG = nil
	}
	if at < 0 {
		return noDevice(dev)
	}
	return nil
}

func update(c *polyvisor.Config, dev polyvisor.Device) error {
	at := 0
	switch dev := dev.(type) {
	case *polyvisor.Disk:
		if at = place(c.Disks, (*polyvisor.Disk).DeviceID, dev.Target); at >= 0 {
			c.Disks[at] = *dev
		}
	case *polyvisor.NIC:
		if at = place(c.NICs, (*polyvisor.NIC).DeviceID, dev.DeviceID()); at >= 0 {
			c.NICs[at] = *dev
		}
	case *polyvisor.Share:
		if at = place(c.Shares, (*polyvisor.Share).DeviceID, dev.Tag); at >= 0 {
			c.Shares[at] = *dev
		}
	case *polyvisor.RNG:
		if c.RNG == nil {
			at = -1
		} else {
			c.RNG = dev
		}
	}
	if at < 0 {
		return noDevice(dev)
	}
	return nil
}

// nameOpenFile puts the name of an open file in its place: what is told of the
// domain later must not refer to a file that the caller has closed.
func nameOpenFile(f *polyvisor.File) {
	if f.Open != nil {
		*f = polyvisor.Path(f.Open.Name())
	}
}
