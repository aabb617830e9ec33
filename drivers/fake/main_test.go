package fake

import (
	"testing"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// private gives a hypervisor of the test's own and a connection to it.
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
