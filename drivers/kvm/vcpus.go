//go:build linux && amd64

package kvm

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/store"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/vmmproc"
)

// VCPUs tells about the threads of the virtual CPUs.
func (i *instance) VCPUs(ctx context.Context) ([]polyvisor.VCPU, error) {
	v, err := i.look(ctx)
	if err != nil {
		return nil, err
	}
	return i.vcpus(ctx, v)
}

func (i *instance) vcpus(ctx context.Context, v view) ([]polyvisor.VCPU, error) {
	if v.status != nil {
		list, err := askVCPUs(ctx, v.run.Dir)
		if err == nil {
			return vcpusOf(list, v.status.State == vmmproc.StatePaused)
		}
		if !errors.Is(err, vmmproc.ErrGone) && !errors.Is(err, vmmproc.ErrNotReady) {
			return nil, ended(ctx, classify(err))
		}
		// It has stopped since it was looked at.
	}
	c, err := v.config()
	if err != nil {
		return nil, err
	}
	list := make([]polyvisor.VCPU, max(c.VCPUs, c.MaxVCPUs))
	for n := range list {
		list[n] = polyvisor.VCPU{Number: n, State: polyvisor.VCPUOffline, CPU: -1}
	}
	for _, s := range c.VCPU {
		if s.Number < len(list) {
			list[s.Number].Affinity = s.Affinity
		}
	}
	return list, nil
}

func askVCPUs(ctx context.Context, dir string) ([]vmmproc.VCPU, error) {
	c, err := vmmproc.Dial(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.VCPUs(ctx)
}

// vcpusOf translates. The thread of a paused vCPU may be seen on its way to sleep; it executes nothing.
func vcpusOf(list []vmmproc.VCPU, paused bool) ([]polyvisor.VCPU, error) {
	vcpus := make([]polyvisor.VCPU, len(list))
	for n, v := range list {
		// A thread that sleeps waits for an interrupt, or is paused.
		vcpus[n] = polyvisor.VCPU{Number: n, State: polyvisor.VCPUBlocked, CPU: v.CPU, CPUTime: v.Time}
		if v.CPU < 0 {
			vcpus[n].State = polyvisor.VCPUOffline // its thread has ended
		}
		if v.Running && !paused {
			vcpus[n].State = polyvisor.VCPURunning
		}
		var err error
		if vcpus[n].Affinity, err = polyvisor.CPUSetFromMap(v.Affinity); err != nil {
			return nil, err
		}
	}
	return vcpus, nil
}

// PinVCPU binds the thread of a virtual CPU, or changes the definition.
func (i *instance) PinVCPU(ctx context.Context, vcpu int, cpus polyvisor.CPUSet) error {
	if err := checkCPUs(os.DirFS("/"), vcpu, cpus); err != nil {
		return err
	}
	lock, err := i.d.store.LockDomain(ctx, i.uuid)
	if err != nil {
		return ended(ctx, classify(err))
	}
	defer lock.Unlock()
	run, err := i.d.store.ActiveByUUID(i.uuid)
	change := func(c *polyvisor.Config) { pinConfig(c, vcpu, cpus) }
	if errors.Is(err, store.ErrNotFound) {
		err = i.editLocked(ctx, editing{event: store.EventDefined, inactive: true}, change)
		return ended(ctx, classify(err))
	}
	if err != nil {
		return classify(err)
	}
	if err := i.control(ctx, func(c *vmmproc.Client) error { return c.Pin(ctx, vcpu, cpus.Map(-1)) }); err != nil {
		return err
	}
	text, _, err := changed(run.Config, change)
	if err == nil {
		err = i.d.store.AmendRun(ctx, i.uuid, text, "")
	}
	if errors.Is(err, store.ErrNotFound) {
		err = nil // it has just stopped, and with it the binding
	}
	return ended(ctx, classify(err))
}

// pinConfig sets the affinity of a virtual CPU in a configuration.
func pinConfig(c *polyvisor.Config, vcpu int, cpus polyvisor.CPUSet) {
	n, found := slices.BinarySearchFunc(c.VCPU, vcpu, func(v polyvisor.VCPUConfig, n int) int { return v.Number - n })
	if !found {
		c.VCPU = slices.Insert(c.VCPU, n, polyvisor.VCPUConfig{Number: vcpu})
	}
	c.VCPU[n].Affinity = cpus
}

// pins are the bindings with which a machine starts, as maps.
func pins(c *polyvisor.Config) map[int][]byte {
	var m map[int][]byte
	for _, v := range c.VCPU {
		if !v.Affinity.IsZero() {
			if m == nil {
				m = make(map[int][]byte)
			}
			m[v.Number] = v.Affinity.Map(-1)
		}
	}
	return m
}

// Stats tells what the VM process counts.
func (i *instance) Stats(ctx context.Context) (polyvisor.Stats, error) {
	v, err := i.look(ctx)
	if err != nil {
		return polyvisor.Stats{}, err
	}
	s := polyvisor.Stats{Name: i.Name(), UUID: i.UUID(), Time: time.Now()}
	if s.Info, err = v.info(); err != nil {
		return s, err
	}
	if v.status != nil {
		s.Exits = v.status.Exits
		s.Disks, s.NICs = diskStats(v.status.Disks), nicStats(v.status.NICs)
	}
	s.VCPUs, err = i.vcpus(ctx, v)
	return s, err
}

// CoreDump has the VM process write the file, which is as the domain's user.
func (i *instance) CoreDump(ctx context.Context, path string) error {
	return i.control(ctx, func(c *vmmproc.Client) error { return c.CoreDump(ctx, filepath.Clean(path)) })
}

var (
	_ polyvisor.VCPULister  = (*instance)(nil)
	_ polyvisor.VCPUPinner  = (*instance)(nil)
	_ polyvisor.StatsReader = (*instance)(nil)
	_ polyvisor.CoreDumper  = (*instance)(nil)
)
