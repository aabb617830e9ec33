//go:build linux && amd64

package vmm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/guestmem"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/kvmapi"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/vcpu"
)

// Addresses below 4 GiB that KVM takes for itself on some Intel hosts: one page and the three after it.
const (
	identityMapAddr = 0xfeffc000
	tssAddr         = 0xfeffd000
)

// Options is what a machine needs from the process it lives in.
type Options struct {
	// Device is the KVM device, normally and when empty kvmapi.DevicePath.
	Device string
	// Console receives what the guest prints, on a processor's thread and, with a virtio console, in a goroutine of that
	// at the same time. It must not block for long. Nil discards.
	Console io.Writer
	// Files are what devices of the Spec name. They stay the caller's, and open until Close has returned.
	Files map[string]*os.File
	// Vsock is what a socket device needs of the host.
	Vsock VsockHost
	// OnDeviceError is told that what is behind a device failed, in any goroutine; it must not block for long. Nil is nobody.
	OnDeviceError func(device, detail string)
	// Kernel and Initrd go before the paths of the Spec. They are read by New and closed by it, also when it fails.
	Kernel, Initrd *os.File
}

// New makes a machine, which does not run yet. ctx bounds the call alone. An error leaves nothing behind.
func New(ctx context.Context, spec Spec, opts Options) (_ *Machine, err error) {
	defer opts.closeFiles()
	if opts.Device == "" {
		opts.Device = kvmapi.DevicePath
	}
	// Before anything of the host is touched.
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	m := &Machine{spec: spec, state: StateCreated, stopReq: make(chan struct{}), done: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.undo.run())
		}
	}()

	// The device first: without it all else is in vain. It is needed only until the machine is made.
	sys, err := kvmapi.Open(opts.Device)
	if err != nil {
		return nil, err
	}
	defer sys.Close()
	caps, err := probe(sys, spec)
	if err != nil {
		return nil, err
	}

	// Memory, then the loading of the guest: what most often fails for reasons of the user's, and needs nothing of KVM.
	memOpts := []guestmem.Option{guestmem.WithHole(spec.hole())}
	if spec.HugePages {
		memOpts = append(memOpts, guestmem.WithHugePages())
	}
	if m.mem, err = guestmem.New(spec.Memory, memOpts...); err != nil {
		return nil, err
	}
	m.undo.add(m.mem.Close)
	entry, err := m.load(ctx, opts)
	if err != nil {
		return nil, err
	}
	if err := entry.WriteTables(m.mem); err != nil {
		return nil, err
	}

	if spec.Boot.Kind == BootFirmware {
		if err := m.openFirmware(opts); err != nil {
			return nil, err
		}
	}

	if m.vm, err = sys.CreateVM(); err != nil {
		return nil, createError(err)
	}
	m.undo.add(m.vm.Close)
	for i, r := range m.mem.Regions() {
		err := m.vm.SetUserMemoryRegion(kvmapi.MemoryRegion{Slot: uint32(i), GuestPhysAddr: r.GuestAddr, Size: r.Size, UserspaceAddr: uint64(r.HostAddr)})
		if err != nil {
			return nil, fmt.Errorf("guest memory at %#x, %d bytes: %w", r.GuestAddr, r.Size, err)
		}
	}
	// KVM's own pages and the interrupt chips come before the first processor: it is made with a local APIC or without.
	if err := m.vm.SetIdentityMapAddr(identityMapAddr); err != nil {
		return nil, err
	}
	if err := m.vm.SetTSSAddr(tssAddr); err != nil {
		return nil, err
	}
	if err := m.vm.CreateIRQChip(); err != nil {
		return nil, err
	}
	if err := m.vm.CreatePIT2(); err != nil {
		return nil, err
	}

	// Devices drive interrupt lines of the chips and are what processors talk to, so they lie between the two.
	if m.platform, err = newPlatform(m.vm, spec.acpiBase(), opts.Console, m.requestStop); err != nil {
		return nil, err
	}
	m.undo.add(func() error { m.platform.close(); return nil })
	if m.firmware != nil {
		if err := m.mapFirmware(opts); err != nil {
			return nil, err
		}
		if err := m.addChipset(); err != nil {
			return nil, err
		}
	}
	if err := m.addDevices(sys, opts); err != nil {
		return nil, err
	}

	for i := range spec.VCPUs {
		c, err := m.vm.CreateVCPU(i)
		if err != nil {
			return nil, fmt.Errorf("vCPU %d: %w", i, err)
		}
		m.undo.add(c.Close)
		m.cpus = append(m.cpus, c)
		if err := vcpu.Setup(c, entry.Mode, vcpu.Topology{ID: i, Cores: spec.VCPUs}, caps.cpuid, caps.tscDeadline); err != nil {
			return nil, fmt.Errorf("vCPU %d: %w", i, err)
		}
	}
	// Only the first starts by itself, the others wait for its start-up interrupts.
	if err := entry.Apply(m.cpus[0]); err != nil {
		return nil, fmt.Errorf("vCPU 0: %w", err)
	}

	// Threads last, since they are what has to be stopped and not only closed.
	for i, c := range m.cpus {
		v, err := vcpu.New(vcpu.Config{ID: i, CPU: c, Bus: m.platform, Memory: m.mem, OnFault: func(f *vcpu.Fault) { m.requestStop(endOf(f)) }})
		if err != nil {
			return nil, fmt.Errorf("vCPU %d: %w", i, err)
		}
		m.undo.add(func() error { vcpu.Stop(v); return nil })
		m.vcpus = append(m.vcpus, v)
	}
	go m.supervise()
	return m, nil
}

// capabilities is what New has learnt about the host.
type capabilities struct {
	cpuid       []kvmapi.CPUIDEntry
	tscDeadline bool
}

// required are the capabilities without which no machine of ours can be made.
var required = []struct {
	cap  kvmapi.Cap
	name string
}{
	{kvmapi.CapUserMemory, "KVM_CAP_USER_MEMORY"},
	{kvmapi.CapIRQChip, "KVM_CAP_IRQCHIP"},
	{kvmapi.CapPIT2, "KVM_CAP_PIT2"},
	{kvmapi.CapSetTSSAddr, "KVM_CAP_SET_TSS_ADDR"},
	{kvmapi.CapSetIdentityMap, "KVM_CAP_SET_IDENTITY_MAP_ADDR"},
	{kvmapi.CapExtCPUID, "KVM_CAP_EXT_CPUID"},
	{kvmapi.CapImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"},
}

func probe(sys *kvmapi.System, spec Spec) (c capabilities, err error) {
	for _, r := range required {
		n, err := sys.CheckExtension(r.cap)
		if err != nil {
			return c, err
		}
		if n == 0 {
			return c, fmt.Errorf("this host's KVM lacks %s (use Linux 4.14 or newer on x86-64)", r.name)
		}
	}
	// An old kernel without the capability has the recommended number as its limit.
	limit, err := sys.CheckExtension(kvmapi.CapMaxVCPUs)
	if err != nil {
		return c, err
	}
	if limit > 0 && spec.VCPUs > limit {
		return c, fmt.Errorf("%w: %d vCPUs, this host's KVM has at most %d in a machine", ErrSpec, spec.VCPUs, limit)
	}
	n, err := sys.CheckExtension(kvmapi.CapTSCDeadlineTimer)
	if err != nil {
		return c, err
	}
	c.tscDeadline = n != 0
	c.cpuid, err = sys.GetSupportedCPUID()
	return c, err
}

func createError(err error) error {
	switch {
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%w (another hypervisor uses the processor's virtualisation, for example VirtualBox; stop it)", err)
	case errors.Is(err, unix.ENOMEM):
		return fmt.Errorf("%w (the host is short of memory)", err)
	case errors.Is(err, unix.EMFILE):
		return fmt.Errorf("%w (raise the limit of open files: ulimit -n)", err)
	}
	return err
}

func (o *Options) closeFiles() {
	for _, f := range []*os.File{o.Kernel, o.Initrd} {
		if f != nil {
			f.Close()
		}
	}
}
