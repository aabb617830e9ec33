//go:build !linux || !amd64

package kvm

import (
	"context"
	"fmt"
	"os"
	"runtime"

	"github.com/polyvisor/polyvisor"
)

func openDriver(_ context.Context, o Options) (polyvisor.Driver, error) {
	if _, err := o.withDefaults(); err != nil {
		return nil, err
	}
	return nil, elsewhere()
}

// ProcessOf gives the process that runs an active domain, on systems that have
// the driver.
func ProcessOf(*polyvisor.URI, string) (*os.Process, error) { return nil, elsewhere() }

func elsewhere() error {
	return fmt.Errorf("%w: the kvm driver runs on Linux on x86-64, this is %s/%s",
		polyvisor.ErrUnsupported, runtime.GOOS, runtime.GOARCH)
}
