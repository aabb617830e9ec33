package vmmproc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Sockets are os.Files: non-blocking, so on the runtime's poller, with deadlines.

// maxSunPath is the longest path in a socket address (unix(7)), without its NUL.
const maxSunPath = 107

// sockaddr gives the address of a socket in dir. One that is too long is reached
// through a descriptor of its directory, which done closes.
func sockaddr(dir, name string) (addr *unix.SockaddrUnix, done func(), err error) {
	path := filepath.Join(dir, name)
	if len(path) <= maxSunPath {
		return &unix.SockaddrUnix{Name: path}, func() {}, nil
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	return &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d/%s", fd, name)}, func() { unix.Close(fd) }, nil
}

func streamSocket() (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	return fd, os.NewSyscallError("socket", err)
}

func newSocket() (*os.File, int, error) {
	fd, err := streamSocket()
	if err != nil {
		return nil, -1, err
	}
	return os.NewFile(uintptr(fd), "unix socket"), fd, nil
}

// listen makes a socket in dir. Its mode is 0600 by the umask of a VM
// process; in any other process the directory, 0700, keeps others out.
func listen(dir, name string) (*os.File, error) {
	addr, done, err := sockaddr(dir, name)
	if err != nil {
		return nil, err
	}
	defer done()
	f, fd, err := newSocket()
	if err != nil {
		return nil, err
	}
	err = os.NewSyscallError("bind", unix.Bind(fd, addr))
	if err == nil {
		err = os.Chmod(filepath.Join(dir, name), 0o600)
	}
	if err == nil {
		err = os.NewSyscallError("listen", unix.Listen(fd, 128))
	}
	runtime.KeepAlive(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("socket %s in %s: %w", name, dir, err)
	}
	return f, nil
}

// accept waits for a connection.
func accept(ln *os.File) (*os.File, error) {
	rc, err := ln.SyscallConn()
	if err != nil {
		return nil, err
	}
	var (
		fd   int
		aerr error
	)
	err = rc.Read(func(l uintptr) bool {
		for {
			fd, _, aerr = unix.Accept4(int(l), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
			if aerr != unix.EINTR && aerr != unix.ECONNABORTED {
				return aerr != unix.EAGAIN
			}
		}
	})
	if err == nil && aerr != nil {
		err = os.NewSyscallError("accept", aerr)
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "control connection"), nil
}

// connect opens a connection to the socket in dir.
func connect(ctx context.Context, dir, name string) (*os.File, error) {
	for {
		addr, done, err := sockaddr(dir, name)
		if err != nil {
			return nil, err
		}
		f, fd, err := newSocket()
		if err != nil {
			done()
			return nil, err
		}
		err = unix.Connect(fd, addr)
		runtime.KeepAlive(f)
		done()
		if err == nil {
			return f, nil
		}
		f.Close()
		if err != unix.EAGAIN && err != unix.EINTR {
			return nil, os.NewSyscallError("connect", err)
		}
		// The backlog of the server is full.
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// peer gives the process at the other end, as the kernel noted it at connect.
func peer(f *os.File) (*unix.Ucred, error) {
	rc, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var (
		cred *unix.Ucred
		cerr error
	)
	if err := rc.Control(func(fd uintptr) {
		cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return nil, err
	}
	return cred, os.NewSyscallError("getsockopt SO_PEERCRED", cerr)
}

// hungUp says whether the peer has closed its end altogether.
func hungUp(f *os.File) bool {
	rc, err := f.SyscallConn()
	if err != nil {
		return true
	}
	var hup bool
	if err := rc.Control(func(fd uintptr) { hup = pollHup(fd) }); err != nil {
		return true
	}
	return hup
}

func pollHup(fd uintptr) bool {
	p := []unix.PollFd{{Fd: int32(fd)}}
	n, err := unix.Poll(p, 0)
	return err == nil && n > 0 && p[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0
}

// awaitHangup blocks until the peer has closed its end or f is closed.
func awaitHangup(f *os.File) {
	if rc, err := f.SyscallConn(); err == nil {
		_ = rc.Read(pollHup)
	}
}

// closeWrite tells the peer that nothing more will come.
func closeWrite(f *os.File) error { return shutdown(f, unix.SHUT_WR) }

// hangUp ends a connection both ways, also for calls that are blocked on it. The
// peer can still read what was sent. Unlike a deadline it cannot be taken back.
func hangUp(f *os.File) { _ = shutdown(f, unix.SHUT_RDWR) }

func shutdown(f *os.File, how int) error {
	rc, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	if err := rc.Control(func(fd uintptr) { serr = unix.Shutdown(int(fd), how) }); err != nil {
		return err
	}
	return os.NewSyscallError("shutdown", serr)
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// aPastTime is a deadline that ends blocked calls at once.
var aPastTime = time.Unix(1, 0)

// within makes ctx bound blocking calls on a file, whose deadline set changes. The
// function it returns undoes that and gives ctx's error instead of err if it was
// ctx that ended the call.
func within(ctx context.Context, set func(time.Time) error) func(err error) error {
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = set(aPastTime)
		close(ended)
	})
	return func(err error) error {
		if !stop() {
			<-ended
			_ = set(time.Time{})
		}
		if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
}
