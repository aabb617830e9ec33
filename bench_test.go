package polyvisor_test

import (
	"context"
	"testing"

	"github.com/google/uuid"

	"github.com/polyvisor/polyvisor"
)

// quick is a Driver and an Instance that answer at once and keep nothing.
type quick struct {
	polyvisor.Driver
	polyvisor.Instance
}

func (quick) Capabilities() polyvisor.Capabilities { return polyvisor.Capabilities{} }
func (quick) Type() string                         { return "quick" }
func (quick) Close() error                         { return nil }
func (quick) Name() string                         { return "web" }
func (quick) UUID() uuid.UUID                      { return uuid.UUID{15: 1} }

func (q quick) Lookup(context.Context, polyvisor.Key) (polyvisor.Instance, error) { return q, nil }
func (quick) State(context.Context) (polyvisor.State, error)                      { return polyvisor.Running, nil }

func quickDomain(b *testing.B) *polyvisor.Domain {
	conn := polyvisor.NewConn(quick{}, nil)
	b.Cleanup(func() { _ = conn.Close() })
	dom, err := conn.Domain(b.Context(), "web")
	if err != nil {
		b.Fatal(err)
	}
	return dom
}

// BenchmarkState is what a call costs in the root package.
func BenchmarkState(b *testing.B) {
	dom, ctx := quickDomain(b), b.Context()
	allocs := testing.AllocsPerRun(1000, func() { _, _ = dom.State(ctx) })
	for b.Loop() {
		if _, err := dom.State(ctx); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(allocs, "allocs/call")
}

// BenchmarkRefused is the same for a state that the table refuses: the
// price of an error.
func BenchmarkRefused(b *testing.B) {
	dom, ctx := quickDomain(b), b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if err := dom.Start(ctx); err == nil {
			b.Fatal("started a running domain")
		}
	}
}
