//go:build unix

package rpc

import "syscall"

// tryWriter writes to a socket's descriptor what fits without waiting.
type tryWriter struct {
	raw  syscall.RawConn
	once func(fd uintptr) bool // made once, so that writing allocates nothing
	buf  []byte
	n    int
	err  error
}

func newTryWriter(c syscall.Conn) *tryWriter {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	t := &tryWriter{raw: raw}
	t.once = func(fd uintptr) bool {
		for {
			t.n, t.err = syscall.Write(int(fd), t.buf)
			if t.err != syscall.EINTR {
				return true // also when it would have to wait
			}
		}
	}
	return t
}

// write may be called by one goroutine at a time, and not during a Write of the
// connection. Less than all without an error: the socket is full.
func (t *tryWriter) write(p []byte) (int, error) {
	t.buf = p
	err := t.raw.Write(t.once)
	t.buf = nil
	if err != nil {
		return 0, err
	}
	n := max(t.n, 0)
	if t.err == syscall.EAGAIN {
		return n, nil
	}
	return n, t.err
}
