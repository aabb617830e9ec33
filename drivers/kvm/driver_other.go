//go:build !linux || !amd64

package kvm

import (
	"context"
	"fmt"
	"runtime"

	"github.com/polyvisor/polyvisor"
)

func openDriver(_ context.Context, o Options) (polyvisor.Driver, error) {
	if _, err := o.withDefaults(); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("%w: the kvm driver runs on Linux on x86-64, this is %s/%s",
		polyvisor.ErrUnsupported, runtime.GOOS, runtime.GOARCH)
}
