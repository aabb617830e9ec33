package cli_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"time"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/domainxml"
)

func (d *memDriver) ParseDomainXML(xml string) (*polyvisor.Config, error) {
	return domainxml.Parse(xml)
}
func (d *memDriver) FormatDomainXML(c *polyvisor.Config) (string, error) {
	return domainxml.Format(c, domainxml.Options{Type: "memtest", Arch: "amd64"})
}
func (d *memDriver) ParseDeviceXML(xml string) (polyvisor.Device, error) {
	return domainxml.ParseDevice(xml)
}

// Subscribe implements EventSource.
func (d *memDriver) Subscribe(_ context.Context, sink func(polyvisor.Event)) (func(), error) {
	d.h.mu.Lock()
	defer d.h.mu.Unlock()
	if d.h.sinks == nil {
		d.h.sinks = make(map[int]func(polyvisor.Event))
	}
	d.h.nextID++
	n := d.h.nextID
	d.h.sinks[n] = sink
	return func() {
		d.h.mu.Lock()
		defer d.h.mu.Unlock()
		delete(d.h.sinks, n)
	}, nil
}

// emitLocked tells an event; the host's mu is held.
func (h *memHost) emitLocked(d *memDomain, e polyvisor.Event) {
	e.Time, e.Name, e.UUID, e.State = time.Now(), d.name, d.id, d.state
	for _, sink := range h.sinks {
		sink(e)
	}
}

// change changes the configuration of a domain.
func (d *memDomain) change(f func(c *polyvisor.Config) error) error {
	d.h.mu.Lock()
	defer d.h.mu.Unlock()
	c := d.config.Clone()
	if err := f(c); err != nil {
		return err
	}
	d.config = c
	return nil
}

func (d *memDomain) SetMemory(_ context.Context, n polyvisor.Bytes) error {
	return d.change(func(c *polyvisor.Config) error { c.Memory = n; return nil })
}

func (d *memDomain) SetMaxMemory(_ context.Context, n polyvisor.Bytes) error {
	return d.change(func(c *polyvisor.Config) error { c.MaxMemory, c.Memory = n, min(n, c.Memory); return nil })
}

func (d *memDomain) SetVCPUs(_ context.Context, n int) error {
	return d.change(func(c *polyvisor.Config) error { c.VCPUs, c.MaxVCPUs = n, max(n, c.MaxVCPUs); return nil })
}

func (d *memDomain) VCPUs(context.Context) ([]polyvisor.VCPU, error) {
	d.h.mu.Lock()
	defer d.h.mu.Unlock()
	list := make([]polyvisor.VCPU, d.config.MaxVCPUs)
	for i := range list {
		list[i] = polyvisor.VCPU{Number: i, CPU: -1}
		if d.state.Active() && i < d.config.VCPUs {
			list[i].State, list[i].CPU, list[i].CPUTime = polyvisor.VCPURunning, 0, time.Second
		}
	}
	for _, v := range d.config.VCPU {
		list[v.Number].Affinity = v.Affinity
	}
	return list, nil
}

func (d *memDomain) PinVCPU(ctx context.Context, vcpu int, cpus polyvisor.CPUSet) error {
	return d.ConfigureVCPU(ctx, polyvisor.VCPUConfig{Number: vcpu, Affinity: cpus})
}

func (d *memDomain) ConfigureVCPU(_ context.Context, v polyvisor.VCPUConfig) error {
	return d.change(func(c *polyvisor.Config) error {
		c.VCPU = append(slices.DeleteFunc(c.VCPU, func(o polyvisor.VCPUConfig) bool { return o.Number == v.Number }), v)
		slices.SortFunc(c.VCPU, func(a, b polyvisor.VCPUConfig) int { return a.Number - b.Number })
		return nil
	})
}

// device finds a device of the same kind and name.
func device(c *polyvisor.Config, dev polyvisor.Device) polyvisor.Device {
	for _, o := range c.Devices() {
		if o.DeviceID() == dev.DeviceID() && reflect.TypeOf(o) == reflect.TypeOf(dev) {
			return o
		}
	}
	return nil
}

func (d *memDomain) AttachDevice(_ context.Context, dev polyvisor.Device) error {
	return d.change(func(c *polyvisor.Config) error {
		if device(c, dev) != nil {
			return fmt.Errorf("%w: device %s", polyvisor.ErrExists, dev.DeviceID())
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
	})
}

func (d *memDomain) DetachDevice(_ context.Context, dev polyvisor.Device) error {
	return d.change(func(c *polyvisor.Config) error {
		if device(c, dev) == nil {
			return fmt.Errorf("%w: device %s", polyvisor.ErrNotFound, dev.DeviceID())
		}
		c.Disks = slices.DeleteFunc(c.Disks, func(o polyvisor.Disk) bool { return o.Target == dev.DeviceID() })
		c.NICs = slices.DeleteFunc(c.NICs, func(o polyvisor.NIC) bool { return o.DeviceID() == dev.DeviceID() })
		c.Shares = slices.DeleteFunc(c.Shares, func(o polyvisor.Share) bool { return o.Tag == dev.DeviceID() })
		if dev.DeviceID() == "rng" {
			c.RNG = nil
		}
		return nil
	})
}

func (d *memDomain) UpdateDevice(_ context.Context, dev polyvisor.Device) error {
	return d.change(func(c *polyvisor.Config) error {
		o := device(c, dev)
		if o == nil {
			return fmt.Errorf("%w: device %s", polyvisor.ErrNotFound, dev.DeviceID())
		}
		reflect.ValueOf(o).Elem().Set(reflect.ValueOf(dev).Elem())
		return nil
	})
}

func (d *memDomain) SetLabels(_ context.Context, labels map[string]string) error {
	return d.change(func(c *polyvisor.Config) error { c.Labels = labels; return nil })
}

func (d *memDomain) SetAutostart(_ context.Context, on bool) error {
	return d.change(func(c *polyvisor.Config) error { c.Autostart = on; return nil })
}

func (d *memDomain) Rename(_ context.Context, name string) error {
	d.h.mu.Lock()
	defer d.h.mu.Unlock()
	for _, o := range d.h.domains {
		if o.name == name {
			return fmt.Errorf("%w: domain %q", polyvisor.ErrExists, name)
		}
	}
	c := d.config.Clone()
	c.Name = name
	d.name, d.config = name, c
	d.h.emitLocked(d, polyvisor.Event{Type: polyvisor.EventRenamed})
	return nil
}

func (d *memDomain) Stats(ctx context.Context) (polyvisor.Stats, error) {
	info, err := d.Info(ctx)
	if err != nil {
		return polyvisor.Stats{}, err
	}
	s := polyvisor.Stats{Name: d.Name(), UUID: d.id, Info: info, Time: time.Now()}
	s.VCPUs, err = d.VCPUs(ctx)
	for i := range d.config.Disks {
		s.Disks = append(s.Disks, polyvisor.DiskStats{Target: d.config.Disks[i].Target, ReadBytes: 4 * polyvisor.KiB, WriteBytes: polyvisor.MiB})
	}
	return s, err
}

func writeNew(path string, v any) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%w: %w", polyvisor.ErrExists, err)
	}
	if err != nil {
		return err
	}
	return errors.Join(json.NewEncoder(f).Encode(v), f.Close())
}

func (d *memDomain) Save(_ context.Context, path string) error {
	if err := writeNew(path, d.config); err != nil {
		return err
	}
	d.finish(d.current(), polyvisor.StopKilled, "saved to "+path)
	return nil
}

func (d *memDomain) CoreDump(_ context.Context, path string) error { return writeNew(path, d.config) }

func (d *memDriver) Restore(ctx context.Context, path string, o polyvisor.StartOptions) (polyvisor.Instance, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", polyvisor.ErrNotFound, err)
	}
	if err != nil {
		return nil, err
	}
	c, err := polyvisor.ParseConfig(text)
	if err != nil {
		return nil, err
	}
	dom, err := d.h.add(c, true)
	if err != nil {
		return nil, err
	}
	return dom, dom.Start(ctx, o)
}
