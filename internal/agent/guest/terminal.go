//go:build linux

package guest

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/internal/agent/proto"
)

// openTerminal makes a pseudo-terminal: the agent's end, which waits without a thread, and the
// command's.
func openTerminal(size proto.Size) (pty, tty *os.File, err error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, &os.PathError{Op: "open", Path: "/dev/ptmx", Err: err}
	}
	pty = os.NewFile(uintptr(fd), "/dev/ptmx")
	defer func() {
		if err != nil {
			pty.Close()
		}
	}()
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, nil, os.NewSyscallError("unlock a terminal", err)
	}
	n, err := unix.IoctlGetUint32(fd, unix.TIOCGPTN)
	if err != nil {
		return nil, nil, os.NewSyscallError("number of a terminal", err)
	}
	if err := resize(pty, size); err != nil {
		return nil, nil, err
	}
	tty, err = os.OpenFile("/dev/pts/"+strconv.Itoa(int(n)), os.O_RDWR|unix.O_NOCTTY, 0)
	return pty, tty, err
}

// resize gives a terminal a size; what runs on it is told.
func resize(pty *os.File, s proto.Size) error {
	c, err := pty.SyscallConn()
	if err != nil {
		return err
	}
	cerr := c.Control(func(fd uintptr) {
		err = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: s.Rows, Col: s.Cols})
	})
	if cerr != nil {
		return cerr
	}
	return os.NewSyscallError("size of a terminal", err)
}
