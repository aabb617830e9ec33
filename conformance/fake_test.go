package conformance_test

import (
	"context"
	"testing"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/conformance"
	"github.com/polyvisor/polyvisor/conformance/testkernel"
	"github.com/polyvisor/polyvisor/drivers/fake"
	"github.com/polyvisor/polyvisor/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// fakeHarness is a fresh fake hypervisor.
func fakeHarness(t *testing.T) conformance.Harness {
	h := fake.New(fake.Options{Node: knownNode()})
	t.Cleanup(h.Close)
	return conformance.Harness{
		Open:    h.Open,
		Config:  &polyvisor.Config{Memory: 64 * polyvisor.MiB},
		Guest:   fakeGuest(),
		Kernel:  testkernel.ELF(),
		Dir:     t.TempDir(),
		Node:    knownNode(),
		Require: polyvisor.Features(),
		Hang:    hangs(h),
		End:     ends(h),
	}
}

// fakeGuest is how to talk to the fake's guest, which has a few words more than
// built-in guests that are not simulated.
func fakeGuest() *conformance.Guest {
	g := conformance.BuiltinGuest()
	g.Block, g.Linger = "block", "button hold"
	return g
}

// hangs is Harness.Hang of a fake hypervisor.
func hangs(h *fake.Hypervisor) func(context.Context, string) (func(), error) {
	return func(_ context.Context, name string) (func(), error) { return h.Stall(name) }
}

// ends is Harness.End of a fake hypervisor.
func ends(h *fake.Hypervisor) func(context.Context, string, polyvisor.StopReason) error {
	return func(_ context.Context, name string, reason polyvisor.StopReason) error {
		g, err := h.Guest(name)
		if err == nil {
			err = g.End(reason, "as the test has it")
		}
		return err
	}
}

// The fake driver has every feature and breaks no rule: nothing is skipped.
func TestFake(t *testing.T) { conformance.Run(t, fakeHarness) }
