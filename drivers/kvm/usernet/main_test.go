package usernet_test

import (
	"os"
	"testing"

	"github.com/polyvisor/polyvisor/internal/leaktest"
)

func TestMain(m *testing.M) {
	os.Setenv("PATH", "") // the helper is the test binary itself
	leaktest.Main(m)
}
