package polyvisor

import (
	"context"
	"fmt"
)

// turn runs f while it is the domain's turn, with its state.
func (d *Domain) turn(ctx context.Context, f func(ctx context.Context, state State) error) error {
	s, err := d.conn.acquire(ctx, d.id)
	if err != nil {
		return err
	}
	defer d.conn.release(s)
	state, err := d.inst.State(ctx)
	if err != nil {
		return err
	}
	return f(ctx, state)
}

// change runs an operation that is legal in every state, with the ability it
// needs.
func change[T any](ctx context.Context, d *Domain, op string, need Feature, f func(ctx context.Context, i T, state State) error) error {
	return d.conn.call(ctx, op, d.Name(), func(ctx context.Context) error {
		if err := d.admit(need); err != nil {
			return err
		}
		i, ok := As[T](d.inst)
		if !ok {
			return d.conn.missing(need)
		}
		return d.turn(ctx, func(ctx context.Context, state State) error { return f(ctx, i, state) })
	})
}

func badArg(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrInvalidConfig}, args...)...)
}

// SetMemory changes the guest's memory, in bytes (virDomainSetMemory,
// allocate_vm_memory). An active domain's guest is asked to grow or shrink
// through its balloon; see Info for how far it has come. An inactive domain's
// definition is changed; 0 takes its memory away (deallocate_vm_memory) and
// the domain cannot start until it is given some.
//
// Errors: ErrInvalidConfig if n is more than the maximum, or 0 for an active
// domain; ErrUnsupported if the active domain has no balloon.
func (d *Domain) SetMemory(ctx context.Context, n Bytes) error {
	return change(ctx, d, "set memory", FeatureMemory, func(ctx context.Context, i MemorySetter, state State) error {
		info, err := d.inst.Info(ctx)
		if err != nil {
			return err
		}
		switch {
		case state.Active() && n == 0:
			return badArg("memory: an active domain needs some; destroy it to take all of it")
		case n > info.MaxMemory && (state.Active() || info.MaxMemory != 0):
			return badArg("memory: %s is more than the maximum, %s; see SetMaxMemory", n, info.MaxMemory)
		}
		if err := d.conn.checkMemory(n); err != nil {
			return err
		}
		if state.Active() {
			if err := d.conn.need(FeatureBalloon); err != nil {
				return err
			}
		}
		return i.SetMemory(ctx, n)
	})
}

// SetMaxMemory changes the most memory that an inactive domain can be given, in
// bytes (virDomainSetMaxMemory). Its memory is lowered to it if it has more.
func (d *Domain) SetMaxMemory(ctx context.Context, n Bytes) error {
	return d.operate(ctx, OpSetMaxMemory, FeatureMemory, func(ctx context.Context, _ *slot) error {
		i, ok := As[MemorySetter](d.inst)
		if !ok {
			return d.conn.missing(FeatureMemory)
		}
		if err := d.conn.checkMemory(n); err != nil {
			return err
		}
		return i.SetMaxMemory(ctx, n)
	})
}

func (c *Conn) checkMemory(n Bytes) error {
	switch {
	case n%pageBytes != 0:
		return badArg("memory: %s is not a multiple of 4KiB", n)
	case n != 0 && uint64(n) < c.caps.MinMemory:
		return badArg("memory: %s, at least %s is needed", n, Bytes(c.caps.MinMemory))
	case c.caps.MaxMemory != 0 && uint64(n) > c.caps.MaxMemory:
		return badArg("memory: %s, the host allows at most %s", n, Bytes(c.caps.MaxMemory))
	}
	return nil
}

// SetVCPUs changes the number of virtual CPUs (virDomainSetVcpus, assign_vcpu):
// of an active domain by hot-plug, up to Config.MaxVCPUs; of an inactive one in
// its definition, where the maximum follows if it is less.
func (d *Domain) SetVCPUs(ctx context.Context, n int) error {
	return change(ctx, d, "set vcpus", FeatureVCPUs, func(ctx context.Context, i VCPUSetter, state State) error {
		if n < 1 || d.conn.caps.MaxVCPUs > 0 && n > d.conn.caps.MaxVCPUs {
			return badArg("vcpus: %d; want 1 to %d", n, d.conn.caps.MaxVCPUs)
		}
		if state.Active() {
			if err := d.conn.need(FeatureMaxVCPUs); err != nil {
				return err
			}
			c, err := d.inst.Config(ctx)
			if err != nil {
				return err
			}
			if n > c.MaxVCPUs {
				return badArg("vcpus: %d; this domain was started with room for %d", n, c.MaxVCPUs)
			}
		}
		return i.SetVCPUs(ctx, n)
	})
}

// VCPUs tells about each virtual CPU: its state, its time, where it runs and
// where it may run (virDomainGetVcpus).
func (d *Domain) VCPUs(ctx context.Context) ([]VCPU, error) {
	var list []VCPU
	err := d.read(ctx, "vcpus", func(ctx context.Context) (err error) {
		if err := d.conn.need(FeatureVCPUInfo); err != nil {
			return err
		}
		i, ok := As[VCPULister](d.inst)
		if !ok {
			return d.conn.missing(FeatureVCPUInfo)
		}
		list, err = i.VCPUs(ctx)
		return err
	})
	return list, err
}

// PinVCPU binds a virtual CPU to host CPUs (virDomainPinVcpu): for the rest of
// an active domain's run, or in the definition of an inactive one.
func (d *Domain) PinVCPU(ctx context.Context, vcpu int, cpus CPUSet) error {
	return change(ctx, d, "pin vcpu", FeatureVCPUPin, func(ctx context.Context, i VCPUPinner, _ State) error {
		if cpus.IsZero() {
			return badArg("pin vcpu: no CPU; a virtual CPU needs at least one")
		}
		if err := d.checkVCPU(ctx, VCPUConfig{Number: vcpu}); err != nil {
			return err
		}
		return i.PinVCPU(ctx, vcpu, cpus)
	})
}

// ConfigureVCPU replaces the settings of one virtual CPU (configure_vcpu): for
// the rest of an active domain's run, or in the definition of an inactive one.
func (d *Domain) ConfigureVCPU(ctx context.Context, c VCPUConfig) error {
	return change(ctx, d, "configure vcpu", FeatureVCPUConfig, func(ctx context.Context, i VCPUConfigurer, _ State) error {
		if err := d.checkVCPU(ctx, c); err != nil {
			return err
		}
		return i.ConfigureVCPU(ctx, c)
	})
}

func (d *Domain) checkVCPU(ctx context.Context, v VCPUConfig) error {
	c, err := d.inst.Config(ctx)
	if err != nil {
		return err
	}
	var p problems
	p.vcpu(v, max(c.MaxVCPUs, c.VCPUs))
	return p.err()
}
