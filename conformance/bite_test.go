package conformance_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/conformance"
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
	hv := fake.New(fake.Options{})
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
		Guest:   conformance.BuiltinGuest(),
		Dir:     dir,
		Require: polyvisor.Features(),
		Timeout: 2 * time.Second,
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

// Every fault is caught by the case that is meant for it, and by its message.
func TestSuiteBites(t *testing.T) {
	for _, f := range faults() {
		t.Run(f.of+"/"+f.name, func(t *testing.T) {
			if !strings.HasPrefix(f.of, "leak/") { // those count the goroutines of the program
				t.Parallel()
			}
			results := conformance.Check(t.Context(), wrongHarness(t, &f), conformance.Only(func(c conformance.Case) bool { return c.Name == f.of }))
			if len(results) != 1 {
				t.Fatalf("results %+v; is there a case %s?", results, f.of)
			}
			switch r := results[0]; {
			case r.Name != f.of || r.Status != conformance.Failed:
				t.Errorf("case %s %s, want case %s to fail", r.Name, r.Status, f.of)
			case !strings.Contains(r.Reason, f.says):
				t.Errorf("case %s fails with\n%s\nand not with %q", r.Name, r.Reason, f.says)
			}
		})
	}
}

// No case is without a fault that it catches, and no fault is for a case that
// does not exist.
func TestEveryCaseHasAFault(t *testing.T) {
	cases := map[string]int{}
	for _, c := range conformance.Cases() {
		if _, twice := cases[c.Name]; twice {
			t.Errorf("two cases are named %s", c.Name)
		}
		cases[c.Name] = 0
	}
	for _, f := range faults() {
		if _, ok := cases[f.of]; !ok {
			t.Errorf("fault %q is for the case %s, which does not exist", f.name, f.of)
		}
		cases[f.of]++
	}
	for name, n := range cases {
		if n == 0 {
			t.Errorf("no fault shows that case %s catches anything: add one to faults", name)
		}
	}
}
