package polyvisor_test

import (
	"context"
	"encoding/xml"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"

	"github.com/polyvisor/polyvisor"
)

// The optional abilities of the recorder and its domains.

func (i *recInstance) Save(ctx context.Context, path string) error {
	return i.operate(ctx, polyvisor.OpSave, func() error {
		i.r.saved[path] = i.d
		i.d.end(i.r, polyvisor.StopKilled)
		return nil
	})
}

func (r *recorder) Restore(ctx context.Context, path string, o polyvisor.StartOptions) (polyvisor.Instance, error) {
	r.startedWith(o)
	leave, err := r.enter(ctx, "restore")
	defer leave()
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	d, ok := r.saved[path]
	if !ok {
		return nil, fmt.Errorf("%s: %w", path, polyvisor.ErrNotFound)
	}
	r.domains[d.config.UUID] = d
	d.gone = false
	d.begin(r)
	return r.instance(d), nil
}

func (i *recInstance) CoreDump(ctx context.Context, _ string) error {
	return i.operate(ctx, polyvisor.OpCoreDump, func() error { return nil })
}

func (i *recInstance) Rename(ctx context.Context, name string) error {
	return i.operate(ctx, polyvisor.OpRename, func() error { i.d.config.Name = name; return nil })
}

func (i *recInstance) SetMaxMemory(ctx context.Context, n polyvisor.Bytes) error {
	return i.operate(ctx, polyvisor.OpSetMaxMemory, func() error {
		i.d.config.MaxMemory, i.d.config.Memory = n, min(n, i.d.config.Memory)
		return nil
	})
}

// change runs an operation that is legal in every state.
func (i *recInstance) change(ctx context.Context, call string, effect func(c *polyvisor.Config) error) error {
	defer i.alone(call)()
	return i.do(ctx, call, func() error { return effect(i.d.config) })
}

func (i *recInstance) SetMemory(ctx context.Context, n polyvisor.Bytes) error {
	return i.change(ctx, "set memory", func(c *polyvisor.Config) error { c.Memory = n; return nil })
}

func (i *recInstance) SetVCPUs(ctx context.Context, n int) error {
	return i.change(ctx, "set vcpus", func(c *polyvisor.Config) error {
		c.VCPUs, c.MaxVCPUs = n, max(c.MaxVCPUs, n)
		return nil
	})
}

func (i *recInstance) VCPUs(ctx context.Context) (list []polyvisor.VCPU, err error) {
	return list, i.do(ctx, "vcpus", func() error {
		for n := range i.d.config.MaxVCPUs {
			list = append(list, polyvisor.VCPU{Number: n, CPU: -1})
		}
		for _, v := range i.d.config.VCPU {
			list[v.Number].Affinity = v.Affinity
		}
		return nil
	})
}

func (i *recInstance) PinVCPU(ctx context.Context, vcpu int, cpus polyvisor.CPUSet) error {
	return i.change(ctx, "pin vcpu", func(c *polyvisor.Config) error {
		c.VCPU = []polyvisor.VCPUConfig{{Number: vcpu, Affinity: cpus}}
		return nil
	})
}

func (i *recInstance) ConfigureVCPU(ctx context.Context, v polyvisor.VCPUConfig) error {
	return i.change(ctx, "configure vcpu", func(c *polyvisor.Config) error {
		c.VCPU = []polyvisor.VCPUConfig{v}
		return nil
	})
}

func (i *recInstance) SetLabels(ctx context.Context, labels map[string]string) error {
	return i.change(ctx, "set labels", func(c *polyvisor.Config) error { c.Labels = labels; return nil })
}

func (i *recInstance) SetAutostart(ctx context.Context, on bool) error {
	return i.change(ctx, "set autostart", func(c *polyvisor.Config) error { c.Autostart = on; return nil })
}

// find gives the place of a device of the same kind and DeviceID.
func find(c *polyvisor.Config, dev polyvisor.Device) polyvisor.Device {
	for _, d := range c.Devices() {
		if fmt.Sprintf("%T %s", d, d.DeviceID()) == fmt.Sprintf("%T %s", dev, dev.DeviceID()) {
			return d
		}
	}
	return nil
}

// onDevice runs a device operation, which is given the device it is about if
// the domain has it.
func (i *recInstance) onDevice(ctx context.Context, call string, dev polyvisor.Device, effect func(c *polyvisor.Config, old polyvisor.Device) error) error {
	return i.change(ctx, call, func(c *polyvisor.Config) error {
		i.r.device = dev
		if disk, ok := dev.(*polyvisor.Disk); ok {
			i.r.takeFile(disk.Source)
		}
		if dev.DeviceID() == "" {
			i.r.violate("%s of a device without a DeviceID", call)
		}
		old := find(c, dev)
		switch {
		case call == "attach device" && old != nil:
			return fmt.Errorf("device %s: %w", dev.DeviceID(), polyvisor.ErrExists)
		case call != "attach device" && old == nil:
			return fmt.Errorf("device %s: %w", dev.DeviceID(), polyvisor.ErrNotFound)
		}
		return effect(c, old)
	})
}

func (i *recInstance) AttachDevice(ctx context.Context, dev polyvisor.Device) error {
	return i.onDevice(ctx, "attach device", dev, func(c *polyvisor.Config, _ polyvisor.Device) error {
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

func (i *recInstance) DetachDevice(ctx context.Context, dev polyvisor.Device) error {
	return i.onDevice(ctx, "detach device", dev, func(c *polyvisor.Config, _ polyvisor.Device) error {
		c.Disks = slices.DeleteFunc(c.Disks, func(d polyvisor.Disk) bool { return d.Target == dev.DeviceID() })
		c.NICs = slices.DeleteFunc(c.NICs, func(n polyvisor.NIC) bool { return n.DeviceID() == dev.DeviceID() })
		c.Shares = slices.DeleteFunc(c.Shares, func(s polyvisor.Share) bool { return s.Tag == dev.DeviceID() })
		if dev.DeviceID() == "rng" {
			c.RNG = nil
		}
		return nil
	})
}

func (i *recInstance) UpdateDevice(ctx context.Context, dev polyvisor.Device) error {
	return i.onDevice(ctx, "update device", dev, func(_ *polyvisor.Config, old polyvisor.Device) error {
		switch old := old.(type) {
		case *polyvisor.Disk:
			*old = *dev.(*polyvisor.Disk)
		case *polyvisor.NIC:
			*old = *dev.(*polyvisor.NIC)
		case *polyvisor.Share:
			*old = *dev.(*polyvisor.Share)
		case *polyvisor.RNG:
			*old = *dev.(*polyvisor.RNG)
		}
		return nil
	})
}

func (i *recInstance) Stats(ctx context.Context) (s polyvisor.Stats, err error) {
	return s, i.do(ctx, "stats", func() error {
		s.Name, s.UUID, s.Info.State = i.d.config.Name, i.d.config.UUID, i.d.state
		return nil
	})
}

func (r *recorder) Subscribe(ctx context.Context, sink func(polyvisor.Event)) (func(), error) {
	leave, err := r.enter(ctx, "subscribe")
	defer leave()
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.nextSink++
	n := r.nextSink
	r.sinks[n] = sink
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.closes > 0 {
			r.violate("a subscription was canceled after Close")
		}
		if _, ok := r.sinks[n]; !ok {
			r.violate("a subscription was canceled twice")
		}
		delete(r.sinks, n)
	}, nil
}

// emit tells events to all subscribers, under the lock, as a driver may.
func (r *recorder) emit(events ...polyvisor.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range events {
		for _, sink := range r.sinks {
			sink(e)
		}
	}
}

// The XML of the recorder says little, but in XML.
type (
	recXML struct {
		XMLName xml.Name `xml:"domain"`
		Name    string   `xml:"name"`
		UUID    string   `xml:"uuid,omitempty"`
	}
	recDisk struct {
		XMLName xml.Name `xml:"disk"`
		Target  string   `xml:"target,attr"`
		Source  string   `xml:"source,attr"`
	}
)

func (r *recorder) ParseDomainXML(text string) (*polyvisor.Config, error) {
	var d recXML
	if err := xml.Unmarshal([]byte(text), &d); err != nil {
		return nil, fmt.Errorf("%w: %w", polyvisor.ErrInvalidConfig, err)
	}
	c := &polyvisor.Config{Name: d.Name}
	if d.UUID == "" {
		return c, nil
	}
	id, err := uuid.Parse(d.UUID)
	c.UUID = id
	return c, err
}

func (r *recorder) FormatDomainXML(c *polyvisor.Config) (string, error) {
	b, err := xml.Marshal(recXML{Name: c.Name, UUID: c.UUID.String()})
	return string(b), err
}

func (r *recorder) ParseDeviceXML(text string) (polyvisor.Device, error) {
	var d recDisk
	if err := xml.Unmarshal([]byte(text), &d); err != nil {
		return nil, fmt.Errorf("%w: %w", polyvisor.ErrInvalidConfig, err)
	}
	return &polyvisor.Disk{Target: d.Target, Source: polyvisor.Path(d.Source)}, nil
}

// rawDriver is a recorder that takes XML as it is, and reads the statistics
// of all in one go.
type rawDriver struct{ *recorder }

func (r rawDriver) Lookup(ctx context.Context, key polyvisor.Key) (polyvisor.Instance, error) {
	return raw(r.recorder.Lookup(ctx, key))
}

func (r rawDriver) DefineXML(ctx context.Context, text string) (polyvisor.Instance, error) {
	return r.addXML(ctx, text, false)
}

func (r rawDriver) CreateXML(ctx context.Context, text string, o polyvisor.StartOptions) (polyvisor.Instance, error) {
	r.startedWith(o)
	return r.addXML(ctx, text, true)
}

func (r rawDriver) addXML(ctx context.Context, text string, transient bool) (polyvisor.Instance, error) {
	c, err := r.ParseDomainXML(text)
	if err != nil {
		return nil, err
	}
	call := map[bool]string{false: "define xml", true: "create xml"}[transient]
	return raw(r.add(ctx, call, c.WithDefaults(), transient))
}

func (r rawDriver) BulkStats(ctx context.Context, list []polyvisor.Instance) ([]polyvisor.Stats, error) {
	leave, err := r.enter(ctx, "bulk stats")
	defer leave()
	var all []polyvisor.Stats
	for _, i := range list {
		all = append(all, polyvisor.Stats{Name: i.Name()})
	}
	return all, err
}

func raw(i polyvisor.Instance, err error) (polyvisor.Instance, error) {
	if err != nil {
		return nil, err
	}
	return rawInstance{i.(*recInstance)}, nil
}

type rawInstance struct{ *recInstance }

func (i rawInstance) XML(ctx context.Context) (text string, err error) {
	return text, i.do(ctx, "xml", func() error { text = "<raw/>"; return nil })
}

func (i rawInstance) onXML(ctx context.Context, call, text string) error {
	return i.change(ctx, call, func(c *polyvisor.Config) error {
		labels := maps.Clone(c.Labels)
		if labels == nil {
			labels = make(map[string]string)
		}
		labels["xml"] = text
		c.Labels = labels
		return nil
	})
}

func (i rawInstance) AttachDeviceXML(ctx context.Context, text string) error {
	return i.onXML(ctx, "attach xml", text)
}

func (i rawInstance) DetachDeviceXML(ctx context.Context, text string) error {
	return i.onXML(ctx, "detach xml", text)
}

func (i rawInstance) UpdateDeviceXML(ctx context.Context, text string) error {
	return i.onXML(ctx, "update xml", text)
}
