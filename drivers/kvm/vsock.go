//go:build linux && amd64

package kvm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/machine"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/store"
)

// withCID gives the configuration of a run the address that its guest will have. Nobody but the guest and its own VM process
// uses it, so it need not be unique on the host; clones differ by their UUIDs.
func withCID(c *polyvisor.Config, text json.RawMessage) (*polyvisor.Config, json.RawMessage, error) {
	if c.Vsock == nil || c.Vsock.CID != 0 {
		return c, text, nil
	}
	c = c.Clone()
	c.Vsock.CID = cidOf(store.UUID(c.UUID))
	text, err := json.Marshal(named(c))
	return c, text, err
}

// cidOf makes an address, 3 to 4294967294, of a UUID.
func cidOf(u store.UUID) uint32 {
	h := fnv.New32a()
	_, _ = h.Write(u[:])
	return 3 + h.Sum32()%(1<<32-4)
}

// vsockRun finds the run whose guest is to be reached, and its address.
func (i *instance) vsockRun() (store.Active, uint32, error) {
	run, err := i.d.store.ActiveByUUID(i.uuid)
	if errors.Is(err, store.ErrNotFound) {
		return run, 0, fmt.Errorf("%w: the domain has just stopped", polyvisor.ErrInvalidState)
	}
	if err != nil {
		return run, 0, classify(err)
	}
	c, err := parseConfig(run.Config)
	if err != nil {
		return run, 0, err
	}
	if c.Vsock == nil {
		return run, 0, fmt.Errorf("%w: the domain has no socket device; set vsock in its configuration and start it again", polyvisor.ErrInvalidConfig)
	}
	return run, c.Vsock.CID, nil
}

// openRunDir gives an open run directory, through which its sockets are reached: their paths may be too long for an address.
func openRunDir(run store.Active) (*os.File, error) {
	f, err := os.OpenFile(run.Dir, syscall.O_DIRECTORY|os.O_RDONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: the domain has just stopped", polyvisor.ErrInvalidState)
	}
	return f, classify(err)
}

func socketIn(dir *os.File, name string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), name)
}

// DialVsock connects to a port of the guest through the socket of its VM process.
func (i *instance) DialVsock(ctx context.Context, port uint32) (net.Conn, error) {
	run, cid, err := i.vsockRun()
	if err != nil {
		return nil, err
	}
	dir, err := openRunDir(run)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "unix", socketIn(dir, machine.VsockSocket))
	if err != nil {
		return nil, ended(ctx, i.unreachable(run, err))
	}
	host, err := greet(ctx, c.(*net.UnixConn), port)
	if err != nil {
		c.Close()
		if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
			err = i.unreachable(run, fmt.Errorf("%w: nothing listens on vsock port %d of the guest: %w", polyvisor.ErrNotFound, port, syscall.ECONNREFUSED))
		}
		return nil, ended(ctx, err)
	}
	return &vsockConn{c.(*net.UnixConn), polyvisor.VsockAddr{CID: polyvisor.VsockHost, Port: host}, polyvisor.VsockAddr{CID: cid, Port: port}}, nil
}

// unreachable gives the reason for which a guest could not be reached: that its run is over, or err.
func (i *instance) unreachable(run store.Active, err error) error {
	if now, again := i.d.store.ActiveByUUID(i.uuid); again == nil && now.Token == run.Token {
		return classify(err)
	}
	return fmt.Errorf("%w: the domain has just stopped", polyvisor.ErrInvalidState)
}

// greet says which port is meant and waits for the guest's answer. It gives the number of the host's end.
func greet(ctx context.Context, c *net.UnixConn, port uint32) (uint32, error) {
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	_, err := fmt.Fprintf(c, "CONNECT %d\n", port)
	var line []byte
	// Not a byte more than the line: what follows is the guest's.
	for one := make([]byte, 1); err == nil && !bytes.HasSuffix(line, []byte("\n")) && len(line) < 32; {
		var n int
		n, err = c.Read(one)
		line = append(line, one[:n]...)
	}
	if !stop() {
		return 0, context.Cause(ctx)
	}
	if err != nil {
		return 0, err
	}
	var host uint32
	if _, err := fmt.Sscanf(string(line), "OK %d\n", &host); err != nil {
		return 0, fmt.Errorf("the VM process answers %q", line)
	}
	return host, nil
}

// vsockConn is a connection with the addresses that its ends have for each other.
type vsockConn struct {
	*net.UnixConn
	local, remote polyvisor.VsockAddr
}

func (c *vsockConn) LocalAddr() net.Addr  { return c.local }
func (c *vsockConn) RemoteAddr() net.Addr { return c.remote }

// ListenVsock serves a port of the host for this guest: a socket in the run's directory.
func (i *instance) ListenVsock(ctx context.Context, port uint32) (net.Listener, error) {
	run, cid, err := i.vsockRun()
	if err != nil {
		return nil, err
	}
	dir, err := openRunDir(run)
	if err != nil {
		return nil, err
	}
	l, lock, err := listenIn(dir, machine.VsockSocketOf(port))
	if errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.EWOULDBLOCK) {
		err = fmt.Errorf("%w: somebody listens on vsock port %d for this domain; close that listener first", polyvisor.ErrBusy, port)
	}
	if err != nil {
		dir.Close()
		return nil, ended(ctx, classify(err))
	}
	follow, cancel := context.WithCancel(context.Background())
	v := &vsockListener{UnixListener: l, dir: dir, lock: lock, port: port, cid: cid, cancel: cancel}
	end := i.d.watchers.watch(run)
	v.work.Go(func() {
		_, _ = end.wait(follow) // however it ended, or the listener was closed
		v.shut()
	})
	return v, nil
}

// listenIn makes a socket, in place of one whose owner was killed. Who has the lock of its name owns it; it is not tried by
// connecting, which another listener would notice. A socket without a lock is one of a program that does without this package.
func listenIn(dir *os.File, name string) (*net.UnixListener, *os.File, error) {
	path := socketIn(dir, name)
	lock, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	ours := errors.Is(err, os.ErrExist)
	if ours {
		lock, err = os.OpenFile(path+".lock", os.O_RDWR, 0)
	}
	if err != nil {
		return nil, nil, err
	}
	err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	var l *net.UnixListener
	for tries := 0; err == nil && l == nil; tries++ {
		l, err = net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if tries == 0 && ours && errors.Is(err, syscall.EADDRINUSE) {
			err = os.Remove(path)
		}
	}
	if err != nil {
		lock.Close()
		return nil, nil, err
	}
	return l, lock, nil
}

// vsockListener is a listener that ends with the run.
type vsockListener struct {
	*net.UnixListener
	dir       *os.File // whose number is in the socket's path until it is removed
	lock      *os.File // left in the directory: who has opened it may be about to take it
	port, cid uint32
	cancel    context.CancelFunc
	work      sync.WaitGroup
	once      sync.Once
	err       error
}

func (l *vsockListener) Addr() net.Addr {
	return polyvisor.VsockAddr{CID: polyvisor.VsockHost, Port: l.port}
}

func (l *vsockListener) Accept() (net.Conn, error) {
	c, err := l.AcceptUnix()
	if err != nil {
		return nil, err
	}
	return &vsockConn{c, polyvisor.VsockAddr{CID: polyvisor.VsockHost, Port: l.port}, polyvisor.VsockAddr{CID: l.cid}}, nil
}

func (l *vsockListener) shut() {
	l.once.Do(func() {
		l.err = l.UnixListener.Close()
		l.lock.Close()
		l.dir.Close()
	})
}

func (l *vsockListener) Close() error {
	l.shut()
	l.cancel()
	l.work.Wait()
	return l.err
}

var _ polyvisor.Vsocker = (*instance)(nil)
