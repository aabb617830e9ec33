package polyvisor

import (
	"context"
	"fmt"
	"slices"
)

// deviceOp is one of the three operations on a device.
type deviceOp struct {
	op   Op
	call func(DeviceAttacher, context.Context, Device) error
}

var (
	opAttach = deviceOp{"attach device", DeviceAttacher.AttachDevice}
	opDetach = deviceOp{"detach device", DeviceAttacher.DetachDevice}
	opUpdate = deviceOp{"update device", DeviceAttacher.UpdateDevice}
)

// AttachDevice adds a device: to the running guest of an active domain, for
// the rest of its run; to the definition of an inactive one
// (virDomainAttachDevice). Defaults are filled in, in a copy: Config tells the
// target or MAC address that was chosen. An open file in it belongs to the
// library from this call on, also if it fails, and is for active domains only.
//
// Errors: ErrExists if the domain has a device of that kind and DeviceID,
// ErrInvalidConfig, ErrUnsupported for a kind that the driver does not have.
func (d *Domain) AttachDevice(ctx context.Context, dev Device) error {
	return d.device(ctx, opAttach, dev)
}

// DetachDevice removes the device of the same kind and DeviceID, and returns
// when the guest has let go of it (virDomainDetachDevice). Nothing but the
// DeviceID needs to be set. ErrNotFound if the domain has no such device.
func (d *Domain) DetachDevice(ctx context.Context, dev Device) error {
	return d.device(ctx, opDetach, dev)
}

// UpdateDevice replaces the settings of the device of the same kind and
// DeviceID, with open files as AttachDevice takes them. ErrNotFound if the
// domain has no such device.
func (d *Domain) UpdateDevice(ctx context.Context, dev Device) error {
	return d.device(ctx, opUpdate, dev)
}

func (d *Domain) device(ctx context.Context, op deviceOp, dev Device) error {
	if disk, ok := dev.(*Disk); ok && disk != nil && disk.Source.Open != nil {
		defer disk.Source.Open.Close()
	}
	return d.conn.call(ctx, string(op.op), d.Name(), func(ctx context.Context) error {
		return d.changeDevice(ctx, op, dev)
	})
}

// changeDevice checks a device and gives a copy to the driver.
func (d *Domain) changeDevice(ctx context.Context, op deviceOp, dev Device) error {
	dev, args := cloneDevice(dev)
	if args == nil {
		args = d.checkDevice(op, dev)
	}
	return perform(ctx, d, op.op, FeatureDevices, args, func(ctx context.Context, i DeviceAttacher, active bool) error {
		if disk, ok := dev.(*Disk); ok && disk.Source.Open != nil && !active {
			return badArg("disk %q: open files are for active domains; give a path", disk.Target)
		}
		if op.op != opDetach.op {
			if err := d.deviceDefaults(ctx, dev); err != nil {
				return err
			}
		}
		return op.call(i, ctx, dev)
	})
}

// checkDevice checks a device by itself: what it needs of the driver, its
// settings, and whether it is named where it is to be found.
func (d *Domain) checkDevice(op deviceOp, dev Device) error {
	for _, f := range deviceNeeds(dev) {
		if err := d.conn.need(f); err != nil {
			return err
		}
	}
	var p problems
	if op.op != opAttach.op && unnamed(dev) {
		p.add("%s: which one? name it by its target, MAC address or tag", kindOf(dev))
	}
	if op.op == opDetach.op {
		bareDevice(dev)
		return p.err()
	}
	if disk, ok := dev.(*Disk); ok {
		p.file(fmt.Sprintf("disk %q", disk.Target), disk.Source)
	}
	p.device(dev)
	return p.err()
}

// unnamed tells whether the DeviceID is left to the defaults.
func unnamed(dev Device) bool {
	if nic, ok := dev.(*NIC); ok {
		return nic.MAC.IsZero()
	}
	return dev.DeviceID() == ""
}

// bareDevice clears everything but the DeviceID.
func bareDevice(dev Device) {
	switch dev := dev.(type) {
	case *Disk:
		*dev = Disk{Target: dev.Target}
	case *NIC:
		*dev = NIC{MAC: dev.MAC}
	case *Share:
		*dev = Share{Tag: dev.Tag}
	case *RNG:
		*dev = RNG{}
	}
}

// deviceDefaults completes a device that is to be attached or to take the place
// of another.
func (d *Domain) deviceDefaults(ctx context.Context, dev Device) error {
	c, err := d.inst.Config(ctx)
	if err != nil {
		return err
	}
	switch dev := dev.(type) {
	case *Disk:
		dev.defaults(c)
	case *NIC:
		dev.defaults(c)
	}
	return nil
}

// errNilDevice refuses a nil device, typed or not.
var errNilDevice = fmt.Errorf("%w: no device", ErrInvalidConfig)

// cloneDevice copies a device, so that the driver's is its own.
func cloneDevice(dev Device) (Device, error) {
	switch dev := dev.(type) {
	case *Disk:
		return clonePointer(dev)
	case *NIC:
		d, err := clonePointer(dev)
		if err == nil {
			d.(*NIC).Forwards = nilIfEmpty(slices.Clone(dev.Forwards))
		}
		return d, err
	case *Share:
		return clonePointer(dev)
	case *RNG:
		return clonePointer(dev)
	case nil:
		return nil, errNilDevice
	}
	return nil, badArg("unknown kind of device %T", dev)
}

func clonePointer[T any, P interface {
	*T
	Device
}](dev P) (Device, error) {
	if dev == nil {
		return nil, errNilDevice
	}
	return P(new(*dev)), nil
}

// kindOf names the kind of a device.
func kindOf(dev Device) string {
	switch dev.(type) {
	case *Disk:
		return "disk"
	case *NIC:
		return "NIC"
	case *Share:
		return "share"
	}
	return "RNG"
}
