//go:build linux && amd64

package kvm

import (
	"context"
	"errors"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/vmmproc"
)

// localMachines are the machines that run in this process (isolation=none). They
// end with the connection.
type localMachines struct {
	mu      sync.Mutex
	servers map[*vmmproc.Server]struct{}
	closed  bool
	wg      sync.WaitGroup
}

func newLocalMachines() *localMachines {
	return &localMachines{servers: make(map[*vmmproc.Server]struct{})}
}

// add keeps a machine until its run ends.
func (l *localMachines) add(s *vmmproc.Server) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		_ = s.Close() // started by a machine that is being closed; it needs no lock
		return
	}
	l.servers[s] = struct{}{}
	l.wg.Go(func() {
		_, _ = s.Wait(context.Background())
		l.mu.Lock()
		delete(l.servers, s)
		l.mu.Unlock()
		_ = s.Close()
	})
}

func (l *localMachines) close() error {
	l.mu.Lock()
	l.closed = true
	servers := make([]*vmmproc.Server, 0, len(l.servers))
	for s := range l.servers {
		servers = append(servers, s)
	}
	l.mu.Unlock()
	var errs []error
	for _, s := range servers {
		errs = append(errs, s.Close())
	}
	l.wg.Wait()
	return errors.Join(errs...)
}

// reopen duplicates an open file.
func reopen(f *os.File) (*os.File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	if cerr := raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); cerr != nil {
		return nil, cerr
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}
