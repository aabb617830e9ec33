//go:build linux && amd64

package kvm_test

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/conformance"
	"github.com/polyvisor/polyvisor/conformance/testkernel"
	"github.com/polyvisor/polyvisor/drivers/kvm"
)

// The whole suite, with the built-in guest on this host's /dev/kvm.
func TestConformance(t *testing.T) {
	if f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0); err != nil {
		t.Skipf("needs /dev/kvm: %v", err)
	} else {
		f.Close()
	}
	conformance.Run(t, conformanceHarness)
}

func conformanceHarness(t *testing.T) conformance.Harness {
	// Not t.TempDir: the path of a socket has at most 107 bytes.
	dir, err := os.MkdirTemp("", "pv")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if strings.HasSuffix(t.Name(), "/list/while-busy") {
		kvm.ShortenPatience(t) // with the process that the case stops
	}
	q := url.Values{}
	for _, name := range []string{"state", "run", "cache"} {
		q.Set(name, filepath.Join(dir, name))
	}
	h := harnessOn(t, "kvm:///session?"+q.Encode())
	h.Config = &polyvisor.Config{Memory: 64 * polyvisor.MiB}
	h.Guest, h.Kernel = conformance.BuiltinGuest().WithoutDevices(), testkernel.ELF()
	return h
}

// harnessOn gives what every guest's harness has.
func harnessOn(t *testing.T, uri string) conformance.Harness {
	parsed, err := polyvisor.ParseURI(uri)
	if err != nil {
		t.Fatal(err)
	}
	return conformance.Harness{
		Open: func(ctx context.Context, opts ...polyvisor.Option) (*polyvisor.Conn, error) {
			return polyvisor.Open(ctx, uri, opts...)
		},
		Dir:  t.TempDir(),
		Node: thisHost(t),
		Hang: func(_ context.Context, name string) (func(), error) {
			p, err := kvm.ProcessOf(parsed, name)
			if err != nil {
				return nil, err
			}
			// A run that has ended needs no signal.
			return func() { _ = p.Signal(unix.SIGCONT); _ = p.Release() }, p.Signal(unix.SIGSTOP)
		},
		End: func(_ context.Context, name string, reason polyvisor.StopReason) error {
			if reason != polyvisor.StopServiceDied {
				return polyvisor.ErrUnsupported
			}
			p, err := kvm.ProcessOf(parsed, name)
			if err != nil {
				return err
			}
			defer p.Release()
			return p.Kill()
		},
	}
}

// thisHost is what system calls and files that the driver does not read tell of
// the host.
func thisHost(t *testing.T) (n polyvisor.Node) {
	var err error
	if n.Hostname, err = os.Hostname(); err != nil {
		t.Fatal(err)
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		t.Fatal(err)
	}
	n.Memory = polyvisor.Bytes(info.Totalram) * polyvisor.Bytes(info.Unit)
	if online, err := os.ReadFile("/sys/devices/system/cpu/online"); err == nil { // a host may not tell
		cpus, err := polyvisor.ParseCPUSet(strings.TrimSpace(string(online)))
		if err != nil {
			t.Fatal(err)
		}
		n.CPUs = cpus.Len()
	}
	return n
}
