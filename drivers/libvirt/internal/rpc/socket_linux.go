package rpc

import (
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// pollPatience is how long a caller waits for its reply within a system call. It
	// delays whoever wants to take the connection back.
	pollPatience = time.Millisecond
	// writePatience is how long a wait for room takes before it looks whether the
	// connection was closed.
	writePatience = 100 * time.Millisecond
)

// socket is a kernel's socket that the Go runtime does not watch. What the runtime
// watches has it wake a thread for each reply and for each request that the server has
// taken, also when nobody is parked there; and a goroutine that parks, in a program that
// does little else, has the whole scheduler fall asleep and wake up. Together that is
// most of what a call costs. So a caller that reads by itself waits in poll(2), and the
// reading goroutine parks on an epoll descriptor of the socket's own, which fires once
// each time that it is asked to.
type socket struct {
	net.Conn // closed already; for its addresses
	file     *os.File
	num      int             // of file
	fd       syscall.RawConn // of file, for which nobody ever parks
	epoll    *os.File
	ready    syscall.RawConn // of epoll

	stopped atomic.Bool // reading was interrupted
	closed  atomic.Bool

	// Of the one who reads; the functions are made once, so that reading allocates nothing.
	readOnce, waitOnce func(fd uintptr) bool
	patient            bool // wait in poll(2) first
	armed              bool
	buf                []byte
	n                  int
	err                error
	polled             [1]unix.PollFd
	fired              [1]unix.EpollEvent
}

// ownSocket takes a socket out of the runtime's hands, if it is one, and gives what to use
// in its place.
func ownSocket(conn net.Conn) net.Conn {
	var sc syscall.Conn
	switch conn := conn.(type) {
	case *net.UnixConn:
		sc = conn
	case *net.TCPConn:
		sc = conn
	default:
		return conn
	}
	s, err := newSocket(conn, sc)
	if err != nil {
		return conn // as good, if slower
	}
	return s
}

func newSocket(conn net.Conn, sc syscall.Conn) (_ *socket, err error) {
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	if cerr := raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); cerr != nil || err != nil {
		return nil, err
	}
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err == nil {
		err = unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLONESHOT, Fd: int32(fd)})
	}
	if err == nil {
		err = unix.SetNonblock(ep, true)
	}
	if err != nil {
		unix.Close(fd)
		if ep >= 0 {
			unix.Close(ep)
		}
		return nil, err
	}
	s := &socket{Conn: conn, num: fd}
	// A file that seems to block is not given to the runtime to watch.
	err = unix.SetNonblock(fd, false)
	s.file = os.NewFile(uintptr(fd), "libvirt")
	s.epoll = os.NewFile(uintptr(ep), "libvirt-epoll")
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err == nil {
		s.fd, err = s.file.SyscallConn()
	}
	if err == nil {
		s.ready, err = s.epoll.SyscallConn()
	}
	if err == nil {
		err = s.epoll.SetReadDeadline(time.Time{}) // says whether it can be parked on
	}
	if err != nil {
		_ = unix.SetNonblock(fd, true)
		_ = s.file.Close()
		_ = s.epoll.Close()
		return nil, err
	}
	s.readOnce, s.waitOnce = s.tryRead, s.tryWait
	_ = conn.Close() // the runtime forgets it; the socket is open still
	return s, nil
}

// tryRead reads what there is. err is EAGAIN if that is nothing.
func (s *socket) tryRead(fd uintptr) bool {
	if s.patient {
		s.polled[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
		// Whatever comes of it, reading tells.
		_, _ = unix.Poll(s.polled[:], int(pollPatience/time.Millisecond))
	}
	for {
		s.n, s.err = syscall.Read(int(fd), s.buf)
		if s.err != syscall.EINTR {
			return true
		}
	}
}

// tryWait has the descriptor fire when there is something to read, and tells whether it
// has.
func (s *socket) tryWait(ep uintptr) bool {
	if !s.armed {
		s.armed = true
		s.fired[0] = unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLONESHOT, Fd: int32(s.num)}
		// If the socket was closed meanwhile, and its number is another's, that is not in
		// this set, and this is an error.
		s.err = unix.EpollCtl(int(ep), unix.EPOLL_CTL_MOD, s.num, &s.fired[0])
		return s.err != nil
	}
	n, err := unix.EpollWait(int(ep), s.fired[:], 0)
	return n > 0 || err != nil && err != unix.EINTR
}

// Read is that of net.Conn, for one goroutine at a time.
func (s *socket) Read(p []byte) (int, error) { return s.read(p, false) }

// patiently reads as a caller does who waits for a reply.
type patiently struct{ *socket }

func (s patiently) Read(p []byte) (int, error) { return s.read(p, true) }

func (s *socket) read(p []byte, patient bool) (int, error) {
	s.buf, s.patient = p, patient
	defer func() { s.buf = nil }()
	for {
		if s.stopped.Load() {
			return 0, os.ErrDeadlineExceeded
		}
		if err := s.fd.Read(s.readOnce); err != nil {
			return 0, err
		}
		s.patient = false
		switch {
		case s.err == nil && s.n > 0:
			return s.n, nil
		case s.err == nil:
			return 0, io.EOF
		case s.err != syscall.EAGAIN:
			return 0, os.NewSyscallError("read", s.err)
		}
		s.armed, s.err = false, nil
		if err := s.ready.Read(s.waitOnce); err != nil {
			return 0, err
		}
		if s.err != nil {
			return 0, os.NewSyscallError("epoll_ctl", s.err)
		}
	}
}

// Write is that of net.Conn, for one goroutine at a time.
func (s *socket) Write(p []byte) (done int, err error) {
	for done < len(p) {
		var n int
		var werr error
		err := s.fd.Write(func(fd uintptr) bool {
			n, werr = syscall.Write(int(fd), p[done:])
			if werr == syscall.EAGAIN {
				_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, int(writePatience/time.Millisecond))
			}
			return true
		})
		switch {
		case err != nil:
			return done, err
		case s.closed.Load():
			return done, net.ErrClosed
		case werr == syscall.EAGAIN, werr == syscall.EINTR:
		case werr != nil:
			return done, os.NewSyscallError("write", werr)
		default:
			done += n
		}
	}
	return done, nil
}

// SyscallConn is for writing what fits.
func (s *socket) SyscallConn() (syscall.RawConn, error) { return s.fd, nil }

// SetReadDeadline interrupts reading if t is anything but zero, and lets it go on.
func (s *socket) SetReadDeadline(t time.Time) error {
	s.stopped.Store(!t.IsZero())
	return s.epoll.SetReadDeadline(t)
}

// SetDeadline is SetReadDeadline: writes are ended by Close alone.
func (s *socket) SetDeadline(t time.Time) error { return s.SetReadDeadline(t) }

// Close ends the connection, and who reads or writes.
func (s *socket) Close() error {
	if s.closed.Swap(true) {
		return net.ErrClosed
	}
	_ = s.fd.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RDWR) })
	err := s.epoll.Close()
	if e := s.file.Close(); err == nil {
		err = e
	}
	return err
}
