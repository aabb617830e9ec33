package vmm

import (
	"os"
	"testing"

	"github.com/polyvisor/polyvisor/internal/leaktest"
)

// asInit is what the binary does as the first process of a guest, where there is such a thing.
var asInit func()

func TestMain(m *testing.M) {
	// The kernel hands "pvtest=" of its command line to its first process as a variable.
	if os.Getpid() == 1 && os.Getenv("pvtest") != "" && asInit != nil {
		asInit()
	}
	leaktest.Main(m)
}
