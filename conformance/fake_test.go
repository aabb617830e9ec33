package conformance_test

import (
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
	h := fake.New(fake.Options{})
	t.Cleanup(h.Close)
	return conformance.Harness{
		Open:    h.Open,
		Config:  &polyvisor.Config{Memory: 64 * polyvisor.MiB},
		Guest:   conformance.BuiltinGuest(),
		Kernel:  testkernel.ELF(),
		Dir:     t.TempDir(),
		Require: polyvisor.Features(),
	}
}

// The fake driver has every feature and breaks no rule: nothing is skipped.
func TestFake(t *testing.T) { conformance.Run(t, fakeHarness) }
