//go:build linux && amd64

package kvm_test

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/conformance"
	"github.com/polyvisor/polyvisor/conformance/testkernel"
	_ "github.com/polyvisor/polyvisor/drivers/kvm"
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
	q := url.Values{}
	for _, name := range []string{"state", "run", "cache"} {
		q.Set(name, filepath.Join(dir, name))
	}
	uri := "kvm:///session?" + q.Encode()
	return conformance.Harness{
		Open: func(ctx context.Context, opts ...polyvisor.Option) (*polyvisor.Conn, error) {
			return polyvisor.Open(ctx, uri, opts...)
		},
		Config: &polyvisor.Config{Memory: 64 * polyvisor.MiB},
		Guest:  conformance.BuiltinGuest(),
		Kernel: testkernel.ELF(),
		Dir:    t.TempDir(),
	}
}
