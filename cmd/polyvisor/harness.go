package main

import (
	"context"
	"fmt"
	"strings"
	"syscall"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/cmd/polyvisor/internal/cli"
	"github.com/polyvisor/polyvisor/conformance"
	"github.com/polyvisor/polyvisor/conformance/testkernel"
	"github.com/polyvisor/polyvisor/drivers/fake"
	"github.com/polyvisor/polyvisor/drivers/kvm"
	"github.com/polyvisor/polyvisor/drivers/libvirt"
)

// What the conformance suite does to domains beside what a connection can.
func init() {
	cli.Harnesses["fake"] = fakeHarness
	cli.Harnesses["kvm"] = kvmHarness
	for _, scheme := range libvirt.Schemes() {
		cli.Harnesses[scheme] = libvirtHarness
	}
}

// libvirtHarness does without a guest to talk to: what runs by itself there is the
// machine's firmware. libvirt's own hypervisor in memory forgets its domains with the
// last connection, so that one is held.
func libvirtHarness(u *polyvisor.URI, h *conformance.Harness) {
	h.Guest = nil
	if u.Scheme != "test" {
		return
	}
	held, err := h.Open(context.Background())
	if err != nil {
		return // the suite will tell
	}
	h.Close = held.Close
}

func fakeHarness(u *polyvisor.URI, h *conformance.Harness) {
	hypervisor := func() (*fake.Hypervisor, error) {
		if hv := fake.Named(strings.TrimPrefix(u.Path, "/")); hv != nil {
			return hv, nil
		}
		return nil, fmt.Errorf("%w: hypervisor %s", polyvisor.ErrNotFound, u.Path)
	}
	h.Kernel = testkernel.ELF()
	if h.Guest != nil {
		h.Guest.Block, h.Guest.Linger = "block", "button hold"
	}
	h.Hang = func(_ context.Context, name string) (func(), error) {
		hv, err := hypervisor()
		if err != nil {
			return nil, err
		}
		return hv.Stall(name)
	}
	h.End = func(_ context.Context, name string, reason polyvisor.StopReason) error {
		hv, err := hypervisor()
		if err != nil {
			return err
		}
		g, err := hv.Guest(name)
		if err != nil {
			return err
		}
		return g.End(reason, "by the conformance suite")
	}
}

func kvmHarness(u *polyvisor.URI, h *conformance.Harness) {
	h.Guest = h.Guest.WithoutDevices() // the built-in one has drivers for consoles and sockets alone
	h.Kernel = testkernel.ELF()
	h.Hang = func(_ context.Context, name string) (func(), error) {
		p, err := kvm.ProcessOf(u, name)
		if err != nil {
			return nil, err
		}
		// A run that has ended needs no signal.
		return func() { _ = p.Signal(syscall.SIGCONT); _ = p.Release() }, p.Signal(syscall.SIGSTOP)
	}
	h.End = func(_ context.Context, name string, reason polyvisor.StopReason) error {
		if reason != polyvisor.StopServiceDied {
			return polyvisor.ErrUnsupported
		}
		p, err := kvm.ProcessOf(u, name)
		if err != nil {
			return err
		}
		defer p.Release()
		return p.Kill()
	}
}
