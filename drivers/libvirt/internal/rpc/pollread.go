package rpc

import (
	"io"
	"syscall"

	"golang.org/x/sys/unix"
)

// pollPatience is how long a caller waits for its reply within a system call, in
// milliseconds. It delays whoever wants to take the connection back.
const pollPatience = 1

// pollReader reads from a socket's descriptor for a caller that waits for a reply. It
// waits in poll(2) first: where a program does little else, a goroutine that is parked
// has the whole scheduler fall asleep and wake up again, which are about six system
// calls more for each reply. A wait that takes longer goes on as any other.
type pollReader struct {
	raw  syscall.RawConn
	once func(fd uintptr) bool // made once, so that reading allocates nothing
	fds  [1]unix.PollFd
	buf  []byte
	n    int
	err  error
}

func newPollReader(c syscall.Conn) *pollReader {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	r := &pollReader{raw: raw}
	r.once = func(fd uintptr) bool {
		r.fds[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
		// Whatever comes of it, reading tells.
		_, _ = unix.Poll(r.fds[:], pollPatience)
		for {
			r.n, r.err = syscall.Read(int(fd), r.buf)
			if r.err != syscall.EINTR {
				return r.err != syscall.EAGAIN
			}
		}
	}
	return r
}

// Read is that of io.Reader, for one goroutine at a time. It obeys the connection's
// deadline.
func (r *pollReader) Read(p []byte) (int, error) {
	r.buf = p
	err := r.raw.Read(r.once)
	r.buf = nil
	switch {
	case err != nil:
		return 0, err
	case r.err != nil:
		return 0, r.err
	case r.n <= 0:
		return 0, io.EOF
	}
	return r.n, nil
}
