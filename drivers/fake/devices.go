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

func noDevice(dev polyvisor.Device) error {
	return fmt.Errorf("%w: the domain has no such device %s", polyvisor.ErrNotFound, dev.DeviceID())
}

// find gives the place of the device of that kind and name, -1 if there is none.
func find(c *polyvisor.Config, dev polyvisor.Device) int {
	switch dev := dev.(type) {
	case *polyvisor.Disk:
		return slices.IndexFunc(c.Disks, func(o polyvisor.Disk) bool { return o.Target == dev.Target })
	case *polyvisor.NIC:
		return slices.IndexFunc(c.NICs, func(o polyvisor.NIC) bool { return o.MAC == dev.MAC })
	case *polyvisor.Share:
		return slices.IndexFunc(c.Shares, func(o polyvisor.Share) bool { return o.Tag == dev.Tag })
	case *polyvisor.RNG:
		if c.RNG != nil {
			return 0
		}
	}
	return -1
}

func attach(c *polyvisor.Config, dev polyvisor.Device) error {
	if find(c, dev) >= 0 {
		return fmt.Errorf("%w: the domain has a device %s", polyvisor.ErrExists, dev.DeviceID())
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

func detach(c *polyvisor.Config, dev polyvisor.Device) error {
	at := find(c, dev)
	if at < 0 {
		return noDevice(dev)
	}
	switch dev.(type) {
	case *polyvisor.Disk:
		c.Disks = slices.Delete(c.Disks, at, at+1)
	case *polyvisor.NIC:
		c.NICs = slices.Delete(c.NICs, at, at+1)
	case *polyvisor.Share:
		c.Shares = slices.Delete(c.Shares, at, at+1)
	case *polyvisor.RNG:
		c.RNG = nil
	}
	return nil
}

func update(c *polyvisor.Config, dev polyvisor.Device) error {
	at := find(c, dev)
	if at < 0 {
		return noDevice(dev)
	}
	switch dev := dev.(type) {
	case *polyvisor.Disk:
		c.Disks[at] = *dev
	case *polyvisor.NIC:
		c.NICs[at] = *dev
	case *polyvisor.Share:
		c.Shares[at] = *dev
	case *polyvisor.RNG:
		c.RNG = dev
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
