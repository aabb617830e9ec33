//go:build linux

package guest

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// vsockListener takes connections of the host.
type vsockListener struct{ f *os.File }

// listenVsock listens on a port of the guest's socket device.
func listenVsock(port uint32) (*vsockListener, error) {
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("the system has no AF_VSOCK: %w; load the module vmw_vsock_virtio_transport", err)
	}
	if err = unix.Bind(fd, &unix.SockaddrVM{CID: unix.VMADDR_CID_ANY, Port: port}); err == nil {
		err = unix.Listen(fd, 128)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("listen on vsock port %d: %w", port, err)
	}
	return &vsockListener{os.NewFile(uintptr(fd), "vsock")}, nil
}

// Accept gives the next connection of the host; those of others are closed.
func (l *vsockListener) Accept() (io.ReadWriteCloser, error) {
	c, err := l.f.SyscallConn()
	if err != nil {
		return nil, err
	}
	for {
		fd, from := -1, unix.Sockaddr(nil)
		var aerr error
		err := c.Read(func(ln uintptr) bool {
			fd, from, aerr = unix.Accept4(int(ln), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
			return aerr != unix.EAGAIN
		})
		if err != nil {
			return nil, err
		}
		switch aerr {
		case nil:
		case unix.EINTR, unix.ECONNABORTED:
			continue
		default:
			return nil, os.NewSyscallError("accept", aerr)
		}
		if vm, ok := from.(*unix.SockaddrVM); ok && vm.CID == unix.VMADDR_CID_HOST {
			return os.NewFile(uintptr(fd), "vsock connection"), nil
		}
		unix.Close(fd)
	}
}
