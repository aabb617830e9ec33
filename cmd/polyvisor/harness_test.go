package main

import (
	"context"
	"slices"
	"testing"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/conformance"
	"github.com/polyvisor/polyvisor/drivers/fake"
	"github.com/polyvisor/polyvisor/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// The suite can do to the fake's domains whatever its cases have use for.
func TestFakeHarness(t *testing.T) {
	const uri = "fake:///harness"
	t.Cleanup(func() { fake.Forget("harness") })
	u, err := polyvisor.ParseURI(uri)
	if err != nil {
		t.Fatal(err)
	}
	h := conformance.Harness{
		Open: func(ctx context.Context, opts ...polyvisor.Option) (*polyvisor.Conn, error) {
			return polyvisor.Open(ctx, uri, opts...)
		},
		Guest: conformance.BuiltinGuest(),
		Dir:   t.TempDir(),
	}
	fakeHarness(u, &h)
	if _, err := h.Hang(t.Context(), "nobody"); err == nil {
		t.Error("nobody hangs")
	}
	if err := h.End(t.Context(), "nobody", polyvisor.StopHangup); err == nil {
		t.Error("nobody ends")
	}
	names := []string{"list/while-busy", "wait/reasons", "config/kernel", "life/guest-states"}
	results := conformance.Check(t.Context(), h, conformance.Only(func(c conformance.Case) bool { return slices.Contains(names, c.Name) }))
	for _, r := range results {
		if r.Status != conformance.Passed {
			t.Errorf("%s %s: %s", r.Name, r.Status, r.Reason)
		}
	}
	if len(results) != len(names) {
		t.Errorf("%d results, want %d", len(results), len(names))
	}
}
