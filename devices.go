package polyvisor

import (
	"context"
	"fmt"
	"reflect"
)

// deviceOp is one of the three operations on a device.
type deviceOp struct {
	name string
	call func(DeviceAttacher, context.Context, Device) error
}

var (
	opAttach = deviceOp{"attach device", DeviceAttacher.AttachDevice}
	opDetach = deviceOp{"detach device", DeviceAttacher.DetachDevice}
	opUpdate = deviceOp{"update device", DeviceAttacher.UpdateDevice}
)

// AttachDevice adds a device: to the running guest of an active domain, for
// the rest of its run; to the definition of an inactive one
// (virDomainAttachDevice). Defaults are filled in, in a copy. An open file in
// it belongs to the library from this call on, also if it fails, and is for
// active domains only.
//
// Errors: ErrExists if the domain has a device of that name, ErrInvalidConfig,
// ErrUnsupported for a kind that the driver does not have.
func (d *Domain) AttachDevice(ctx context.Context, dev Device) error {
	return d.device(ctx, opAttach, dev)
}

// DetachDevice removes the device of the same kind and DeviceID, and returns
// when the guest has let go of it (virDomainDetachDevice). ErrNotFound if the
// domain has none.
func (d *Domain) DetachDevice(ctx context.Context, dev Device) error {
	return d.device(ctx, opDetach, dev)
}

// UpdateDevice replaces the settings of the device of the same kind and
// DeviceID. ErrNotFound if the domain has none.
func (d *Domain) UpdateDevice(ctx context.Context, dev Device) error {
	return d.device(ctx, opUpdate, dev)
}

func (d *Domain) device(ctx context.Context, op deviceOp, dev Device) error {
	if disk, ok := dev.(*Disk); ok && disk != nil && disk.Source.Open != nil {
		defer disk.Source.Open.Close()
	}
	return d.conn.call(ctx, op.name, d.Name(), func(ctx context.Context) error {
		if err := d.admit(FeatureDevices); err != nil {
			return err
		}
		return d.changeDevice(ctx, op, dev)
	})
}

// changeDevice checks a device and gives it to the driver.
func (d *Domain) changeDevice(ctx context.Context, op deviceOp, dev Device) error {
	dev, err := cloneDevice(dev)
	if err != nil {
		return err
	}
	if err := d.conn.need(deviceNeeds(dev)); err != nil {
		return err
	}
	if err := checkDevice(dev); err != nil {
		return err
	}
	i, ok := As[DeviceAttacher](d.inst)
	if !ok {
		return d.conn.missing(FeatureDevices)
	}
	return d.turn(ctx, func(ctx context.Context, state State) error {
		if err := d.deviceDefaults(ctx, op, state, dev); err != nil {
			return err
		}
		return op.call(i, ctx, dev)
	})
}

// deviceDefaults completes a device that is to be attached, and demands a name
// of one that is to be found.
func (d *Domain) deviceDefaults(ctx context.Context, op deviceOp, state State, dev Device) error {
	disk, isDisk := dev.(*Disk)
	if isDisk && disk.Source.Open != nil && !state.Active() {
		return fmt.Errorf("%w: disk %s: open files are for active domains; give a path", ErrInvalidConfig, disk.Target)
	}
	nic, isNIC := dev.(*NIC)
	if op.name != opAttach.name {
		if isDisk && disk.Target == "" || isNIC && nic.MAC.IsZero() {
			return fmt.Errorf("%w: %s: name the device by its target or MAC address", ErrInvalidConfig, op.name)
		}
	}
	switch {
	case isDisk:
		c, err := d.inst.Config(ctx)
		if err != nil {
			return err
		}
		disk.defaults(c)
	case isNIC:
		nic.defaults()
	}
	return nil
}

// cloneDevice copies a device, so that the driver's is its own.
func cloneDevice(dev Device) (Device, error) {
	if dev == nil || reflect.ValueOf(dev).IsNil() {
		return nil, errNilDevice
	}
	switch dev := dev.(type) {
	case *Disk:
		return new(*dev), nil
	case *NIC:
		return new(*dev), nil
	case *Share:
		return new(*dev), nil
	case *RNG:
		return new(*dev), nil
	}
	return nil, fmt.Errorf("%w: unknown kind of device %T", ErrInvalidConfig, dev)
}
