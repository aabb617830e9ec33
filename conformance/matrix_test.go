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
	kvm := fakeHarness(t)
	kvm.Require = nil
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
	if len(onFake) != len(onKVM) || len(onFake) < 600 {
		t.Fatalf("%d cells on fake, %d on kvm", len(onFake), len(onKVM))
	}
	unsupported, compared := polyvisor.CodeUnsupported.String(), 0
	for i, a := range onFake {
		b := onKVM[i]
		if a.Method != b.Method || a.State != b.State || a.Mode != b.Mode {
			t.Fatalf("cell %d is %+v on fake and %+v on kvm", i, a, b)
		}
		if a.Want != "" && a.Got != a.Want {
			t.Errorf("fake: %+v", a)
		}
		if b.Got == unsupported {
			continue
		}
		compared++
		if a.Got != b.Got {
			t.Errorf("%s of a domain that is %s, %s connection: %s on fake, %s on kvm", a.Method, a.State, a.Mode, a.Got, b.Got)
		}
	}
	t.Logf("%d cells, %d compared, the others unsupported by kvm", len(onFake), compared)
	if table := conformance.Describe(onKVM); strings.Count(table, "\n") != len(onKVM)/6+1 {
		t.Errorf("the table has %d lines for %d cells:\n%s", strings.Count(table, "\n"), len(onKVM), table)
	}
}
