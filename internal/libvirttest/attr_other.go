//go:build !linux

package libvirttest

import (
	"fmt"
	"runtime"
	"syscall"
)

const (
	selfExe = ""
	Freeze  = syscall.Signal(0)
	Thaw    = syscall.Signal(0)
)

func namespaces() (*syscall.SysProcAttr, error) {
	return nil, fmt.Errorf("%w: its daemon is run in namespaces, which %s does not have", ErrMissing, runtime.GOOS)
}
