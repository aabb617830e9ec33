//go:build linux && amd64

package vmm

import (
	"context"
	"fmt"
	"os"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/boot/guest"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/boot/linux"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/vcpu"
)

// load puts into memory what the Spec says to boot and says how the first processor enters it.
func (m *Machine) load(ctx context.Context, opts Options) (vcpu.Entry, error) {
	if m.spec.Boot.Kind == BootFirmware {
		return vcpu.Entry{Mode: vcpu.Reset}, nil // which finds its way itself
	}
	low, high := m.lowAndHigh()
	if m.spec.Boot.Kind == BootGuest {
		e, err := guest.Load(m.mem, guest.Config{CommandLine: m.spec.Boot.CommandLine, CPUs: m.spec.VCPUs,
			LowRAM: low, HighRAM: high, Hardware: hardware(m.spec.hasPCI())})
		if err != nil {
			return vcpu.Entry{}, err
		}
		return vcpu.Entry{Mode: vcpu.Long64, RIP: e.RIP, RSI: e.RSI}, nil
	}
	rsdp, err := writeACPI(m.mem, &m.spec)
	if err != nil {
		return vcpu.Entry{}, err
	}
	if err := writeResetVector(m.mem); err != nil {
		return vcpu.Entry{}, err
	}
	cfg := linux.Config{CommandLine: m.spec.Boot.CommandLine, LowRAM: low, HighRAM: high, RSDP: rsdp, ZeroMemory: true}
	switch m.spec.Boot.Entry {
	case "long64":
		cfg.Entry = linux.Long64
	case "pvh":
		cfg.Entry = linux.PVH
	}
	kernel, err := image(opts.Kernel, m.spec.Boot.Kernel, "kernel")
	if err != nil {
		return vcpu.Entry{}, err
	}
	defer kernel.close()
	cfg.Kernel = kernel.Image
	if opts.Initrd != nil || m.spec.Boot.Initrd != "" {
		initrd, err := image(opts.Initrd, m.spec.Boot.Initrd, "initrd")
		if err != nil {
			return vcpu.Entry{}, err
		}
		defer initrd.close()
		cfg.Initrd = &initrd.Image
	}
	e, err := linux.Load(ctx, m.mem, cfg)
	if err != nil {
		return vcpu.Entry{}, err
	}
	if e.Mode == linux.PVH {
		return vcpu.Entry{Mode: vcpu.PVH, RIP: e.RIP, RBX: e.RBX}, nil
	}
	// The page tables of the entry state cover all RAM below the hole, and the loader puts the kernel there.
	if end := e.Kernel.Addr + e.Kernel.Size; end > vcpu.IdentityGiB<<30 {
		return vcpu.Entry{}, fmt.Errorf("the kernel ends at %#x, beyond the first %d GiB", end, vcpu.IdentityGiB)
	}
	return vcpu.Entry{Mode: vcpu.Long64, RIP: e.RIP, RSI: e.RSI}, nil
}

// openImage is a file to load, with what has to be closed after it.
type openImage struct {
	linux.Image
	file *os.File // nil: somebody else closes it
}

func (o *openImage) close() {
	if o.file != nil {
		o.file.Close()
	}
}

// image opens what is not open yet.
func image(f *os.File, path, what string) (*openImage, error) {
	o := &openImage{}
	if f == nil {
		if path == "" {
			return nil, fmt.Errorf("%w: no %s is named", ErrSpec, what)
		}
		var err error
		if f, err = os.Open(path); err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		o.file = f
	}
	img, err := linux.Open(f)
	if err != nil {
		o.close()
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	o.Image = img
	return o, nil
}
