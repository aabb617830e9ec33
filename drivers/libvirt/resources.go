package libvirt

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/digitalocean/go-libvirt"

	"github.com/polyvisor/polyvisor"
)

// isActive asks whether the domain is active.
func (i *instance) isActive(ctx context.Context, s *session) (bool, error) {
	state, _, err := s.State(ctx, &i.dom)
	return active(state), err
}

// SetMemory changes the definition of an inactive domain, or asks the guest of an
// active one.
func (i *instance) SetMemory(ctx context.Context, n polyvisor.Bytes) error {
	if n == 0 {
		return fmt.Errorf("%w: libvirt has no domain without memory", polyvisor.ErrInvalidConfig)
	}
	on := false
	kib := uint64(n / polyvisor.KiB)
	err := i.change(ctx, func(ctx context.Context, s *session) (err error) {
		if on, err = i.isActive(ctx, s); err != nil {
			return err
		}
		c, _, err := i.read(ctx, s, 0)
		switch {
		case err != nil:
			return err
		case !on:
			return i.setDefinedMemory(ctx, s, kib, c.Balloon)
		case !c.Balloon:
			return &polyvisor.UnsupportedError{Feature: polyvisor.FeatureBalloon, Driver: "libvirt", Reason: "this domain was started without a balloon"}
		}
		i.record().balloon(kib)
		err = s.SetMemory(ctx, &i.dom, kib, libvirt.DomainMemLive)
		if err != nil {
			i.record().balloon(0)
		}
		return err
	})
	if err == nil && on {
		i.d.hub.tell(i, polyvisor.EventMemory, "")
	}
	return err
}

// setDefinedMemory changes the memory of a definition. A run has less than the maximum
// only as far as a balloon takes it from the guest; so without one the two are the same.
func (i *instance) setDefinedMemory(ctx context.Context, s *session, kib uint64, balloon bool) error {
	if balloon || i.d.host.noGuests() {
		return s.SetMemory(ctx, &i.dom, kib, libvirt.DomainMemConfig)
	}
	info, err := s.Info(ctx, &i.dom)
	if err != nil {
		return err
	}
	flags := []libvirt.DomainMemoryModFlags{libvirt.DomainMemConfig, libvirt.DomainMemConfig | libvirt.DomainMemMaximum}
	if kib > info.MaxMem {
		flags[0], flags[1] = flags[1], flags[0]
	}
	for _, f := range flags {
		if err := s.SetMemory(ctx, &i.dom, kib, f); err != nil {
			return err
		}
	}
	return nil
}

// SetMaxMemory changes the maximum of an inactive domain.
func (i *instance) SetMaxMemory(ctx context.Context, n polyvisor.Bytes) error {
	kib := uint64(n / polyvisor.KiB)
	return i.change(ctx, func(ctx context.Context, s *session) error {
		info, err := s.Info(ctx, &i.dom)
		if err != nil {
			return err
		}
		if info.Memory > kib {
			if err := s.SetMemory(ctx, &i.dom, kib, libvirt.DomainMemConfig); err != nil {
				return err
			}
		}
		return s.SetMemory(ctx, &i.dom, kib, libvirt.DomainMemConfig|libvirt.DomainMemMaximum)
	})
}

// SetVCPUs plugs virtual CPUs in or out of an active domain, or changes the definition
// of an inactive one.
func (i *instance) SetVCPUs(ctx context.Context, n int) error {
	if n < 1 || n > math.MaxInt32 {
		return fmt.Errorf("%w: %d virtual CPUs", polyvisor.ErrInvalidConfig, n)
	}
	slow := false
	err := i.change(ctx, func(ctx context.Context, s *session) error {
		on, err := i.isActive(ctx, s)
		if err != nil {
			return err
		}
		if on {
			err := s.SetVCPUs(ctx, &i.dom, uint32(n), libvirt.DomainVCPULive)
			slow = number(err) == libvirt.ErrOperationTimeout
			return err
		}
		most, err := s.CountVCPUs(ctx, &i.dom, libvirt.DomainVCPUConfig|libvirt.DomainVCPUMaximum)
		if err != nil {
			return err
		}
		if n > int(most) {
			if err := s.SetVCPUs(ctx, &i.dom, uint32(n), libvirt.DomainVCPUConfig|libvirt.DomainVCPUMaximum); err != nil {
				return err
			}
		}
		return s.SetVCPUs(ctx, &i.dom, uint32(n), libvirt.DomainVCPUConfig)
	})
	if slow {
		return i.awaitVCPUs(ctx, n, err)
	}
	return err
}

// awaitVCPUs waits until the guest has let go of virtual CPUs, which it was asked to:
// libvirt waits a few seconds only.
func (i *instance) awaitVCPUs(ctx context.Context, n int, asked error) error {
	for {
		s, err := i.d.link.session()
		if err != nil {
			return err
		}
		have, err := s.CountVCPUs(ctx, &i.dom, libvirt.DomainVCPULive)
		switch {
		case err != nil:
			return s.failed(err)
		case int(have) <= n:
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), asked)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// cpuMapLength is how many bytes a map of the host's CPUs takes.
func (d *driver) cpuMapLength() int { return (d.host.cpus + 7) / 8 }

// affinity reads a map of host CPUs; one with all of them says nothing.
func (d *driver) affinity(m []byte) polyvisor.CPUSet {
	var cpus []int
	for c := range min(d.host.cpus, 8*len(m)) {
		if m[c/8]&(1<<(c%8)) != 0 {
			cpus = append(cpus, c)
		}
	}
	if len(cpus) == d.host.cpus {
		return polyvisor.CPUSet{}
	}
	return polyvisor.CPUs(cpus...)
}

// vcpuStates are libvirt's states of a virtual CPU.
var vcpuStates = map[libvirt.VCPUState]polyvisor.VCPUState{
	libvirt.VCPUOffline: polyvisor.VCPUOffline, libvirt.VCPURunning: polyvisor.VCPURunning, libvirt.VCPUBlocked: polyvisor.VCPUBlocked,
}

// VCPUs tells about each virtual CPU.
func (i *instance) VCPUs(ctx context.Context) ([]polyvisor.VCPU, error) {
	s, err := i.d.link.session()
	if err != nil {
		return nil, err
	}
	list, err := i.vcpus(ctx, s)
	return list, s.failed(err)
}

func (i *instance) vcpus(ctx context.Context, s *session) ([]polyvisor.VCPU, error) {
	state, _, err := s.State(ctx, &i.dom)
	if err != nil {
		return nil, err
	}
	on := active(state)
	flags, impact := libvirt.DomainVCPUConfig, libvirt.DomainAffectConfig
	if on {
		flags, impact = libvirt.DomainVCPULive, libvirt.DomainAffectLive
	}
	most, err := s.CountVCPUs(ctx, &i.dom, flags|libvirt.DomainVCPUMaximum)
	if err != nil {
		return nil, err
	}
	list := make([]polyvisor.VCPU, max(most, 0))
	for n := range list {
		list[n] = polyvisor.VCPU{Number: n, CPU: -1}
	}
	length := i.d.cpuMapLength()
	maps, got, err := s.PinInfo(ctx, &i.dom, most, int32(length), impact)
	if err != nil {
		return nil, err
	}
	for n := range min(int(got), len(list), len(maps)/length) {
		list[n].Affinity = i.d.affinity(maps[n*length : (n+1)*length])
	}
	if !on {
		return list, nil
	}
	infos, _, err := s.VCPUs(ctx, &i.dom, most, int32(length))
	if err != nil {
		return nil, err
	}
	for _, info := range infos {
		if int(info.Number) >= len(list) {
			continue
		}
		v := &list[info.Number]
		v.State, v.CPUTime = vcpuStates[libvirt.VCPUState(info.State)], time.Duration(info.CPUTime)
		if v.State == polyvisor.VCPURunning && states[state] == polyvisor.Paused {
			v.State = polyvisor.VCPUBlocked // libvirt tells of its thread
		}
		if v.State != polyvisor.VCPUOffline && info.CPU >= 0 {
			v.CPU = int(info.CPU)
		}
	}
	return list, nil
}

// PinVCPU binds a virtual CPU to host CPUs.
func (i *instance) PinVCPU(ctx context.Context, vcpu int, cpus polyvisor.CPUSet) error {
	m := make([]byte, i.d.cpuMapLength())
	some := false
	for c := range cpus.All() {
		if c < i.d.host.cpus {
			m[c/8] |= 1 << (c % 8)
			some = true
		}
	}
	if !some {
		return fmt.Errorf("%w: the host has none of the CPUs %s; it has %d", polyvisor.ErrInvalidConfig, cpus, i.d.host.cpus)
	}
	return i.change(ctx, func(ctx context.Context, s *session) error {
		on, err := i.isActive(ctx, s)
		if err != nil {
			return err
		}
		impact := libvirt.DomainAffectConfig
		if on {
			impact = libvirt.DomainAffectLive
		}
		return s.Pin(ctx, &i.dom, uint32(vcpu), m, impact)
	})
}

var (
	_ polyvisor.MemorySetter = (*instance)(nil)
	_ polyvisor.VCPUSetter   = (*instance)(nil)
	_ polyvisor.VCPULister   = (*instance)(nil)
	_ polyvisor.VCPUPinner   = (*instance)(nil)
)
