package conformance_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/conformance"
	"github.com/polyvisor/polyvisor/conformance/testkernel"
	"github.com/polyvisor/polyvisor/drivers/fake"
)

// wrongHarness is a harness for a driver with a fault.
func wrongHarness(t *testing.T, f *fault) conformance.Harness {
	h, done := newWrong(f, t.TempDir())
	t.Cleanup(done)
	return h
}

// newWrong is a harness for a fresh driver with a fault, and what undoes it.
func newWrong(f *fault, dir string) (conformance.Harness, func()) {
	hv := fake.New(fake.Options{Node: knownNode()})
	shared := &host{f: f, calls: make(map[string]int), notes: make(map[string]int)}
	done := func() {
		for _, undo := range shared.cleanup {
			undo()
		}
		hv.Close()
	}
	reg := new(polyvisor.Registry)
	reg.Register("wrong", polyvisor.Registration{Open: func(ctx context.Context, _ *polyvisor.URI, o polyvisor.OpenOptions) (polyvisor.Driver, error) {
		d := &wrongDriver{Driver: hv.Driver(), h: shared, n: shared.count("connections"), readOnly: o.ReadOnly}
		err := d.do(&call{op: "open", ctx: ctx, readOnly: o.ReadOnly}, func() error { return nil })
		return d, err
	}})
	h := conformance.Harness{
		Open: func(ctx context.Context, opts ...polyvisor.Option) (*polyvisor.Conn, error) {
			return polyvisor.Open(ctx, "wrong:///x", append(opts, polyvisor.WithRegistry(reg))...)
		},
		Config:  &polyvisor.Config{Memory: 64 * polyvisor.MiB},
		Guest:   fakeGuest(),
		Kernel:  testkernel.ELF(),
		Dir:     dir,
		Node:    knownNode(),
		Require: polyvisor.Features(),
		Timeout: 2 * time.Second,
		Hang:    hangs(hv),
		End:     ends(hv),
	}
	if f.without != nil {
		h.Require = nil
	}
	if f.kernel {
		path := filepath.Join(dir, "kernel")
		_ = os.WriteFile(path, fake.KernelImage(), 0o600) // if it fails the cases do
		h.Config.Boot.Kernel = polyvisor.Path(path)
	}
	return h, done
}

// The wrong driver without a fault is right, so it is the faults that are caught.
func TestWithoutFault(t *testing.T) {
	conformance.Run(t, func(t *testing.T) conformance.Harness {
		h := wrongHarness(t, &fault{})
		h.Timeout = 0
		return h
	})
}
