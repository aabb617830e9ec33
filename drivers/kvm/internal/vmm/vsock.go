//go:build linux && amd64

package vmm

import (
	"fmt"
	"os"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio/vsock"
)

// VsockHost is the host's side of a socket device.
type VsockHost struct {
	// Listener is where programs of the host connect to reach the guest; see vsock.Config. It stays the caller's, and open
	// until Close has returned.
	Listener *os.File
	// Connect reaches the program of the host that serves a port; see vsock.Config.
	Connect func(port uint32) (fd int, err error)
}

func newVsock(s *Vsock, host VsockHost) (*vsock.Device, error) {
	d, err := vsock.New(vsock.Config{CID: uint64(s.CID), Listener: host.Listener, Connect: host.Connect})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSpec, err)
	}
	return d, nil
}
