package polyvisor

import (
	"context"
	"fmt"
)

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
// domain; ErrUnsupported if the active domain's driver has no balloon.
func (d *Domain) SetMemory(ctx context.Context, n Bytes) error {
	return change(ctx, d, "set memory", FeatureMemory, d.conn.checkMemory(n), func(ctx context.Context, i MemorySetter, active bool) error {
		if active {
			if err := d.conn.need(FeatureBalloon); err != nil {
				return err
			}
		}
		info, err := d.inst.Info(ctx)
		if err != nil {
			return err
		}
		switch {
		case active && n == 0:
			return badArg("memory: an active domain needs some; destroy it to take all of it")
		case info.MaxMemory != 0 && n > info.MaxMemory:
			return badArg("memory: %s is more than the maximum, %s; see SetMaxMemory", n, info.MaxMemory)
		}
		return i.SetMemory(ctx, n)
	})
}

// SetMaxMemory changes the most memory that an inactive domain can be given, in
// bytes (virDomainSetMaxMemory). Its memory is lowered to it if it has more.
func (d *Domain) SetMaxMemory(ctx context.Context, n Bytes) error {
	args := d.conn.checkMemory(n)
	if n == 0 {
		args = badArg("max_memory: 0; SetMemory takes a domain's memory away")
	}
	return change(ctx, d, OpSetMaxMemory, FeatureMemory, args, func(ctx context.Context, i MemorySetter, _ bool) error {
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
// its definition, where the maximum rises with it. A definition's topology
// bounds it.
func (d *Domain) SetVCPUs(ctx context.Context, n int) error {
	var args error
	switch most := d.conn.caps.MaxVCPUs; {
	case n < 1:
		args = badArg("vcpus: %d; a domain needs at least one", n)
	case most > 0 && n > most:
		args = badArg("vcpus: %d, the host allows at most %d", n, most)
	}
	return change(ctx, d, "set vcpus", FeatureVCPUs, args, func(ctx context.Context, i VCPUSetter, active bool) error {
		if active {
			if err := d.conn.need(FeatureMaxVCPUs); err != nil {
				return err
			}
		}
		c, err := d.inst.Config(ctx)
		switch {
		case err != nil:
			return err
		case active && n > c.MaxVCPUs:
			return badArg("vcpus: %d; this domain was started with room for %d", n, c.MaxVCPUs)
		case n > c.MaxVCPUs && !c.Topology.IsZero():
			return badArg("vcpus: %d; the domain's topology has room for %d", n, c.MaxVCPUs)
		}
		return i.SetVCPUs(ctx, n)
	})
}

// VCPUs tells about each virtual CPU: its state, its time, where it runs and
// where it may run (virDomainGetVcpus).
func (d *Domain) VCPUs(ctx context.Context) ([]VCPU, error) {
	var list []VCPU
	err := d.read(ctx, "vcpus", func(ctx context.Context) error {
		i, err := offered[VCPULister](d.conn, d.inst, FeatureVCPUInfo)
		if err != nil {
			return err
		}
		list, err = i.VCPUs(ctx)
		return err
	})
	return list, err
}

// PinVCPU binds a virtual CPU to host CPUs (virDomainPinVcpu): for the rest of
// an active domain's run, or in the definition of an inactive one.
func (d *Domain) PinVCPU(ctx context.Context, vcpu int, cpus CPUSet) error {
	var args error
	if cpus.IsZero() {
		args = badArg("no CPU; a virtual CPU needs at least one")
	}
	return change(ctx, d, "pin vcpu", FeatureVCPUPin, args, func(ctx context.Context, i VCPUPinner, _ bool) error {
		if err := d.checkVCPU(ctx, VCPUConfig{Number: vcpu}); err != nil {
			return err
		}
		return i.PinVCPU(ctx, vcpu, cpus)
	})
}

// ConfigureVCPU replaces the settings of one virtual CPU (configure_vcpu): for
// the rest of an active domain's run, or in the definition of an inactive one.
// An affinity in them needs FeatureVCPUPin too.
func (d *Domain) ConfigureVCPU(ctx context.Context, c VCPUConfig) error {
	var p problems
	p.weight(c)
	args := p.err()
	if !c.Affinity.IsZero() && args == nil {
		args = d.conn.need(FeatureVCPUPin)
	}
	return change(ctx, d, "configure vcpu", FeatureVCPUConfig, args, func(ctx context.Context, i VCPUConfigurer, _ bool) error {
		if err := d.checkVCPU(ctx, c); err != nil {
			return err
		}
		return i.ConfigureVCPU(ctx, c)
	})
}

// checkVCPU checks settings against the domain's virtual CPUs.
func (d *Domain) checkVCPU(ctx context.Context, v VCPUConfig) error {
	c, err := d.inst.Config(ctx)
	if err != nil {
		return err
	}
	var p problems
	p.vcpu(v, max(c.MaxVCPUs, c.VCPUs))
	return p.err()
}
