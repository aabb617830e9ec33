//go:build !linux

package libvirttest

import (
	"fmt"
	"runtime"
	"syscall"
)

const selfExe = ""

func namespaces() (*syscall.SysProcAttr, error) {
	return nil, fmt.Errorf("%w: its daemon is run in namespaces, which %s does not have", ErrMissing, runtime.GOOS)
}
