package vmmproc

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// runSockets are the unix sockets of a run beside the control socket: those that its devices have for other programs,
// and those that other programs have for its guest.
type runSockets struct {
	dir string

	mu     sync.Mutex
	listen map[string]*os.File // kept over the guest's reboots
	closed bool
}

// Listen is Env.Listen.
func (r *runSockets) Listen(name string) (*os.File, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f := r.listen[name]; f != nil {
		return f, nil
	}
	if r.closed {
		return nil, fmt.Errorf("socket %s: %w", name, os.ErrClosed)
	}
	f, err := listen(r.dir, name)
	if err != nil {
		return nil, err
	}
	if r.listen == nil {
		r.listen = map[string]*os.File{}
	}
	r.listen[name] = f
	return f, nil
}

// Connect is Env.Connect.
func (r *runSockets) Connect(name string) (int, error) {
	addr, done, err := sockaddr(r.dir, name)
	if err != nil {
		return -1, err
	}
	defer done()
	fd, err := streamSocket()
	if err != nil {
		return -1, err
	}
	if err := unix.Connect(fd, addr); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("connect", err)
	}
	return fd, nil
}

func (r *runSockets) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for _, f := range r.listen {
		f.Close()
	}
	r.listen = nil
}
