package fake

import (
	"context"
	"fmt"
	"time"

	"github.com/polyvisor/polyvisor"
)

// SetMemory changes the definition of an inactive domain, or the balloon of an
// active one.
func (i *instance) SetMemory(ctx context.Context, n polyvisor.Bytes) error {
	return i.do(ctx, opSetMemory, func(d *domain) error {
		if d.run == nil {
			edit(&d.def, func(c *polyvisor.Config) {
				c.Memory, c.MaxMemory = n, max(c.MaxMemory, n)
			})
			d.h.tellLocked(d, polyvisor.Event{Type: polyvisor.EventMemory})
			return nil
		}
		r := d.run
		switch {
		case r.ended != nil:
			return fmt.Errorf("%w: the guest has ended", polyvisor.ErrInvalidState)
		case !r.config.Balloon:
			return &polyvisor.UnsupportedError{Feature: polyvisor.FeatureBalloon, Driver: "fake", Reason: "this domain runs without a balloon; set Config.Balloon"}
		case n > r.config.MaxMemory || n < minMemory:
			return fmt.Errorf("%w: memory %s; want %s to %s", polyvisor.ErrInvalidConfig, n, polyvisor.Bytes(minMemory), r.config.MaxMemory)
		}
		target := uint64(n)
		r.balloon = &target
		r.inflateLocked()
		return nil
	})
}

// inflateLocked lets the guest do what its balloon was asked for, if it can.
func (r *run) inflateLocked() {
	if r.balloon == nil || !r.canRunLocked() {
		return
	}
	g := r.guestLocked()
	if g.stuck || g.hold {
		return
	}
	n := polyvisor.Bytes(*r.balloon)
	r.balloon = nil
	if n == r.config.Memory {
		return
	}
	edit(&r.config, func(c *polyvisor.Config) { c.Memory = n })
	g.mem.shrink(freeMiB(n))
	g.count("balloon")
	r.d.h.tellLocked(r.d, polyvisor.Event{Type: polyvisor.EventMemory})
}

// SetMaxMemory changes the definition.
func (i *instance) SetMaxMemory(ctx context.Context, n polyvisor.Bytes) error {
	return i.do(ctx, opSetMaxMemory, func(d *domain) error {
		if err := d.demandLocked(polyvisor.OpSetMaxMemory); err != nil {
			return err
		}
		edit(&d.def, func(c *polyvisor.Config) { c.MaxMemory, c.Memory = n, min(c.Memory, n) })
		d.h.tellLocked(d, polyvisor.Event{Type: polyvisor.EventMemory})
		return nil
	})
}

// SetVCPUs changes the definition, or plugs processors.
func (i *instance) SetVCPUs(ctx context.Context, n int) error {
	return i.do(ctx, opSetVCPUs, func(d *domain) error {
		if d.run == nil {
			if t := d.def.Topology; !t.IsZero() && n > d.def.MaxVCPUs {
				return fmt.Errorf("%w: vcpus: %d, the topology has room for %d", polyvisor.ErrInvalidConfig, n, d.def.MaxVCPUs)
			}
			edit(&d.def, func(c *polyvisor.Config) { c.VCPUs, c.MaxVCPUs = n, max(n, c.MaxVCPUs) })
			return nil
		}
		return d.run.plugLocked(n)
	})
}

// plugLocked changes the number of processors of the guest.
func (r *run) plugLocked(n int) error {
	switch {
	case r.ended != nil:
		return fmt.Errorf("%w: the guest has ended", polyvisor.ErrInvalidState)
	case n < 1 || n > r.config.MaxVCPUs:
		return fmt.Errorf("%w: vcpus: %d; this domain was started with room for %d", polyvisor.ErrInvalidConfig, n, r.config.MaxVCPUs)
	}
	r.guestLocked() // has seen the old number when it booted
	if r.cpus == nil {
		r.cpus = make([]cpuTime, r.config.MaxVCPUs)
	}
	now, old := r.runningLocked(), r.config.VCPUs
	for i := old; i < n; i++ {
		r.cpus[i].since = now
	}
	for i := n; i < old; i++ {
		r.cpus[i].ran += now - r.cpus[i].since
	}
	edit(&r.config, func(c *polyvisor.Config) { c.VCPUs = n })
	return nil
}

// VCPUs tells about each virtual CPU.
func (i *instance) VCPUs(ctx context.Context) (list []polyvisor.VCPU, err error) {
	err = i.do(ctx, opVCPUs, func(d *domain) error {
		list = d.vcpusLocked()
		return nil
	})
	return list, err
}

func (d *domain) vcpusLocked() []polyvisor.VCPU {
	c := d.configLocked()
	list := make([]polyvisor.VCPU, max(c.MaxVCPUs, c.VCPUs))
	var running time.Duration
	if d.run != nil {
		running = d.run.runningLocked()
	}
	for n := range list {
		v := &list[n]
		v.Number, v.CPU = n, -1
		v.Affinity = settings(c, n).Affinity
		if d.run == nil {
			continue
		}
		v.CPUTime = d.run.vcpuTimeLocked(n, running)
		if n < c.VCPUs {
			v.State = polyvisor.VCPURunning
			if d.run.state != polyvisor.Running && d.run.state != polyvisor.ShuttingDown {
				v.State = polyvisor.VCPUBlocked
			}
			v.CPU = d.h.hostCPULocked(n, v.Affinity)
		}
	}
	return list
}

// hostCPULocked places a processor: on the nth of those it may use.
func (h *Hypervisor) hostCPULocked(n int, affinity polyvisor.CPUSet) int {
	var usable []int
	for c := range h.node.CPUs {
		if affinity.IsZero() || affinity.Has(c) {
			usable = append(usable, c)
		}
	}
	if len(usable) == 0 {
		return -1
	}
	return usable[n%len(usable)]
}

func (h *Hypervisor) checkAffinityLocked(s polyvisor.CPUSet) error {
	if s.IsZero() {
		return nil
	}
	for c := range s.All() {
		if c < h.node.CPUs {
			return nil
		}
	}
	return fmt.Errorf("%w: the host has none of the CPUs %s; it has 0 to %d", polyvisor.ErrInvalidConfig, s, h.node.CPUs-1)
}

// settings are those of one processor.
func settings(c *polyvisor.Config, n int) polyvisor.VCPUConfig {
	for _, v := range c.VCPU {
		if v.Number == n {
			return v
		}
	}
	return polyvisor.VCPUConfig{Number: n}
}

// PinVCPU binds a processor to host CPUs.
func (i *instance) PinVCPU(ctx context.Context, vcpu int, cpus polyvisor.CPUSet) error {
	return i.do(ctx, opPinVCPU, func(d *domain) error {
		v := settings(d.configLocked(), vcpu)
		v.Affinity = cpus
		return d.configureVCPULocked(v)
	})
}

// ConfigureVCPU replaces the settings of a processor.
func (i *instance) ConfigureVCPU(ctx context.Context, v polyvisor.VCPUConfig) error {
	return i.do(ctx, opConfigureVCPU, func(d *domain) error { return d.configureVCPULocked(v) })
}

func (d *domain) configureVCPULocked(v polyvisor.VCPUConfig) error {
	if d.run != nil && d.run.ended != nil {
		return fmt.Errorf("%w: the guest has ended", polyvisor.ErrInvalidState)
	}
	if err := d.h.checkAffinityLocked(v.Affinity); err != nil {
		return err
	}
	d.editLocked(func(c *polyvisor.Config) {
		at := 0
		for at < len(c.VCPU) && c.VCPU[at].Number < v.Number {
			at++
		}
		if at < len(c.VCPU) && c.VCPU[at].Number == v.Number {
			c.VCPU[at] = v
			return
		}
		c.VCPU = append(c.VCPU[:at:at], append([]polyvisor.VCPUConfig{v}, c.VCPU[at:]...)...)
	})
	return nil
}
