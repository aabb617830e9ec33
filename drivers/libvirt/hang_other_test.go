//go:build !linux

package libvirt_test

import (
	"context"

	"github.com/polyvisor/polyvisor"
)

// hang needs the processes of a daemon of this program, which only Linux has.
func hang(context.Context, string) (release func(), err error) { return nil, polyvisor.ErrUnsupported }
