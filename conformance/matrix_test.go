//go:build linux && amd64

package conformance_test

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/conformance"
	_ "github.com/polyvisor/polyvisor/drivers/kvm"
	"github.com/polyvisor/polyvisor/internal/vmmtest"
)

// Every method gives the same in every state and on every kind of connection,
// whichever driver is behind it, unless it does not have the feature.
func TestMatrixIsTheSameOnDrivers(t *testing.T) {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("needs /dev/kvm: %v", err)
	}
	f.Close()
	dir, err := os.MkdirTemp("", "pv") // short: it holds sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	q := url.Values{}
	for _, name := range []string{"state", "run", "cache"} {
		q.Set(name, filepath.Join(dir, name))
	}
	// Not this program again: with the race detector that would take minutes.
	vmm, err := vmmtest.Build(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	q.Set("vmm", vmm)
	kvm := fakeHarness(t)
	kvm.Require = nil
	kvm.Guest = conformance.BuiltinGuest() // which has no words for being blocked and in shutdown
	kvm.Open = func(ctx context.Context, opts ...polyvisor.Option) (*polyvisor.Conn, error) {
		return polyvisor.Open(ctx, "kvm:///session?"+q.Encode(), opts...)
	}
	onFake, err := conformance.Matrix(t.Context(), fakeHarness(t))
	if err != nil {
		t.Fatal(err)
	}
	onKVM, err := conformance.Matrix(t.Context(), kvm)
	if err != nil {
		t.Fatal(err)
	}
	type place struct{ method, state, mode string }
	cells, states, rows := map[place]conformance.Cell{}, map[string]bool{}, map[place]bool{}
	for _, a := range onFake {
		cells[place{a.Method, a.State, a.Mode}] = a
		states[a.State] = true
		if a.Want != "" && a.Got != a.Want {
			t.Errorf("fake: %+v", a)
		}
	}
	for _, b := range onKVM {
		rows[place{b.Method, "", b.Mode}] = true
	}
	if len(cells) != len(onFake) || len(onKVM) < 800 || len(states) != 10 {
		t.Fatalf("%d cells on fake, %d of them twice, in %d states; %d on kvm", len(onFake), len(onFake)-len(cells), len(states), len(onKVM))
	}
	unsupported, compared := polyvisor.CodeUnsupported.String(), 0
	for _, b := range onKVM {
		p := place{b.Method, b.State, b.Mode}
		a, ok := cells[p]
		if !ok {
			t.Errorf("%+v is not on fake", b)
		}
		delete(cells, p)
		if b.Want != "" && b.Got != b.Want {
			t.Errorf("kvm: %+v", b)
		}
		if b.Got == unsupported {
			continue
		}
		compared++
		if a.Got != b.Got {
			t.Errorf("%s of a domain that is %s, %s connection: %s on fake, %s on kvm", a.Method, a.State, a.Mode, a.Got, b.Got)
		}
	}
	for p := range cells {
		if p.state != "blocked" && p.state != "in shutdown" {
			t.Errorf("%+v is not on kvm", p)
		}
	}
	t.Logf("%d cells on fake, %d on kvm; %d compared, the others unsupported by kvm", len(onFake), len(onKVM), compared)
	if table := conformance.Describe(onKVM); strings.Count(table, "\n") != len(rows)+1 {
		t.Errorf("the table has %d lines for %d rows:\n%s", strings.Count(table, "\n"), len(rows), table)
	}
}
