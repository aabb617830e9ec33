package usernet

import (
	"errors"
	"io"
	"net"
	"os"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/netback"
)

// guestConn is the socket to the VM process as the stack is to see it: without
// the frames that the filter drops, and with an address that can be printed.
type guestConn struct {
	net.Conn
	filter *filter
}

// newConn takes the socket over, also on failure.
func newConn(f *os.File, cfg *netback.UserConfig) (*guestConn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return &guestConn{c, newFilter(cfg)}, nil
}

// Read gives the next frame that may pass, and io.EOF when the VM process has
// closed its end.
func (c *guestConn) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if errors.Is(err, io.EOF) && !c.hungUp() {
			continue // an empty message
		}
		if errors.Is(err, io.EOF) {
			logrus.SetOutput(io.Discard) // that the VM process is gone is no error, but the library says so
		}
		if err != nil {
			return 0, err
		}
		if c.filter.pass(p[:n], time.Now()) {
			return n, nil
		}
	}
}

// hungUp tells an empty message from the end.
func (c *guestConn) hungUp() bool {
	raw, err := c.Conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return true
	}
	up := true
	err = raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd)}}
		n, err := unix.Poll(fds, 0)
		up = err == nil && n > 0 && fds[0].Revents&unix.POLLHUP != 0 || err != nil && err != unix.EINTR
	})
	return up || err != nil
}

func (*guestConn) LocalAddr() net.Addr  { return &net.UnixAddr{Name: "usernet", Net: "unixpacket"} }
func (*guestConn) RemoteAddr() net.Addr { return &net.UnixAddr{Name: "guest", Net: "unixpacket"} }
