package fake

import (
	"testing"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func private(t testing.TB, o Options) (*Hypervisor, *polyvisor.Conn) {
	t.Helper()
	h := New(o)
	conn := h.Conn()
	t.Cleanup(func() {
		h.Close()
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return h, conn
}

func TestLife(t *testing.T) {
	h, conn := private(t, Options{})
	ctx := t.Context()
	d, err := conn.Define(ctx, &polyvisor.Config{Name: "web", VCPUs: 2, MaxVCPUs: 4, Memory: 64 * polyvisor.MiB, MaxMemory: 128 * polyvisor.MiB, Balloon: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Start(ctx); err != nil {
		t.Fatal(err)
	}
	g, err := h.Guest("web")
	if err != nil {
		t.Fatal(err)
	}
	out, err := g.Run("fill 8 5;sum 8;cpus;mem")
	t.Log(g.Output(), out, err)
	if err := d.SetMemory(ctx, 32*polyvisor.MiB); err != nil {
		t.Fatal(err)
	}
	if err := d.SetVCPUs(ctx, 4); err != nil {
		t.Fatal(err)
	}
	if err := d.Save(ctx, t.TempDir()+"/x"); err != nil {
		t.Fatal(err)
	}
}
