//go:build linux

package vsock

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio"
)

// maxGreeting is the longest line that a host program may begin with: CONNECT, a port, a newline.
const maxGreeting = len("CONNECT 4294967295\r\n")

// poller waits for the sockets of a device.
type poller struct {
	file     *os.File // an epoll instance, itself on the runtime's poller: a wait blocks no thread
	fd       int
	listener int // -1 if there is none
	paused   bool
	events   [64]unix.EpollEvent
}

// listenerSlot is the event of the listening socket.
const listenerSlot = -1

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	return &poller{file: os.NewFile(uintptr(fd), "vsock sockets"), fd: fd, listener: -1}, nil
}

// addListener watches a listening socket, each time for one event.
func (p *poller) addListener(f *os.File) error {
	rc, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var ctl error
	err = rc.Control(func(fd uintptr) {
		p.listener = int(fd)
		ctl = unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, p.listener, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT, Fd: listenerSlot})
	})
	if err == nil {
		err = os.NewSyscallError("epoll_ctl", ctl)
	}
	return err
}

// rearm watches the listening socket for one event more.
func (p *poller) rearm() {
	p.paused = false
	_ = unix.EpollCtl(p.fd, unix.EPOLL_CTL_MOD, p.listener, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT, Fd: listenerSlot})
}

// resume takes connections again, of which there were too many before.
func (p *poller) resume() {
	if p.paused {
		p.rearm()
	}
}

// watch tells of what comes from a stream's socket, and with out also of room in it, each time that it changes.
func (p *poller) watch(s *stream, out bool) error {
	e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET&0xffffffff, Fd: int32(s.slot), Pad: int32(s.serial)}
	op := unix.EPOLL_CTL_ADD
	if out {
		e.Events |= unix.EPOLLOUT
	}
	if out || s.watched {
		op = unix.EPOLL_CTL_MOD
	}
	if out && s.watched {
		return nil
	}
	if err := unix.EpollCtl(p.fd, op, s.fd, &e); err != nil {
		return os.NewSyscallError("epoll_ctl", err)
	}
	s.watched = out
	return nil
}

// interrupt ends the loop.
func (p *poller) interrupt() { _ = p.file.SetReadDeadline(aPastTime) }

func (p *poller) close() { p.file.Close() }

// loop handles events until the device is stopped. While it waits it does not keep the device from being paused.
func (p *poller) loop(d *Device, q *virtio.Queue) error {
	rc, err := p.file.SyscallConn()
	if err != nil {
		return err
	}
	var n int
	var bad error
	ready := func(fd uintptr) bool {
		n, bad = unix.EpollWait(int(fd), p.events[:], 0)
		return n > 0 || bad != nil && bad != unix.EINTR
	}
	for !d.stopping.Load() {
		q.Leave()
		err := rc.Read(ready)
		if in := q.Enter(); in != nil {
			return in
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return virtio.ErrStopped
		case err != nil:
			return err
		case bad != nil:
			return os.NewSyscallError("epoll_wait", bad)
		}
		d.wakeups.Add(1)
		d.mu.Lock()
		for i := range n {
			d.event(&p.events[i])
		}
		err = d.flush()
		d.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// event is what one event of a socket does.
func (d *Device) event(e *unix.EpollEvent) {
	if e.Fd == listenerSlot {
		d.connections()
		return
	}
	if int(e.Fd) >= len(d.streams.slots) {
		return
	}
	s := d.streams.slots[e.Fd]
	if s == nil || s.serial != uint32(e.Pad) || s.fd < 0 {
		return // of one that was there before
	}
	if s.phase == greeting {
		d.greet(s)
		return
	}
	if e.Events&(unix.EPOLLIN|unix.EPOLLRDHUP) != 0 {
		s.readable = true
	}
	if e.Events&unix.EPOLLOUT != 0 && s.pending.len() > 0 {
		d.resumeWrite(s)
	}
	if e.Events&(unix.EPOLLHUP|unix.EPOLLERR) != 0 && s.phase != ended {
		if s.phase == requested {
			d.abort(s)
		} else {
			d.hangUp(s)
		}
	}
	d.wake(s)
}

// resumeWrite gives a socket what it did not take before.
func (d *Device) resumeWrite(s *stream) {
	for s.pending.len() > 0 {
		n, err := unix.Write(s.fd, s.pending.bytes())
		if err == unix.EINTR {
			continue
		}
		if err == unix.EAGAIN {
			return
		}
		if err != nil {
			d.hangUp(s)
			return
		}
		s.pending.drop(n)
		d.forwarded(s, n)
	}
	if err := d.poller.watch(s, false); err != nil {
		d.abort(s)
		return
	}
	d.finish(s)
}

// connections takes what host programs have connected.
func (d *Device) connections() {
	for range batch {
		if d.streams.count() >= MaxConnections {
			d.poller.paused = true
			return
		}
		fd, _, err := unix.Accept4(d.poller.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err == unix.EINTR || err == unix.ECONNABORTED {
			continue
		}
		if err == unix.EMFILE || err == unix.ENFILE || err == unix.ENOMEM || err == unix.ENOBUFS {
			d.poller.paused = true
			d.later(d.poller)
			return
		}
		if err != nil {
			break
		}
		if d.streams.greetings >= maxGreetings {
			d.drop(d.oldestGreeting())
		}
		s := &stream{phase: greeting, fd: fd}
		d.streams.add(s)
		d.streams.greetings++
		if d.poller.watch(s, false) != nil {
			d.drop(s)
		}
	}
	d.poller.rearm()
}

// later takes connections again after a while: what the host was short of need not have been held by this device.
func (d *Device) later(p *poller) {
	time.AfterFunc(time.Second, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.poller == p {
			p.resume()
		}
	})
}

func (d *Device) oldestGreeting() *stream {
	var oldest *stream
	for _, s := range d.streams.slots {
		if s != nil && s.phase == greeting && (oldest == nil || d.streams.serial-s.serial > d.streams.serial-oldest.serial) {
			oldest = s
		}
	}
	return oldest
}

// greet reads the line that a host program begins with.
func (d *Device) greet(s *stream) {
	var b [maxGreeting]byte
	n, _, err := unix.Recvfrom(s.fd, b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	if err == unix.EAGAIN || err == unix.EINTR {
		return // its next bytes are an event
	}
	end := bytes.IndexByte(b[:max(n, 0)], '\n')
	if err == nil && n > 0 && n < len(b) && end < 0 {
		return
	}
	port, ok := parseGreeting(b[:end+1])
	if err != nil || !ok {
		d.drop(s)
		return
	}
	if n, err := unix.Read(s.fd, b[:end+1]); err != nil || n != end+1 {
		d.drop(s)
		return
	}
	d.streams.greetings--
	s.phase, s.todo = requested, tellRequest
	d.streams.name(s, address{host: d.hostPort(port), guest: port})
	d.wake(s)
}

// hostPort finds a number for a program that connects to a port of the guest.
func (d *Device) hostPort(guest uint32) uint32 {
	for {
		p := d.nextPort
		if d.nextPort++; d.nextPort >= 1<<31 {
			d.nextPort = firstHostPort
		}
		if d.streams.byAddress[address{host: p, guest: guest}] == nil {
			return p
		}
	}
}

// parseGreeting gives the port in a line "CONNECT port\n".
func parseGreeting(line []byte) (uint32, bool) {
	port, ok := bytes.CutPrefix(bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r")), []byte("CONNECT "))
	if !ok || len(port) == 0 || port[0] == '+' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(port), 10, 32)
	return uint32(n), err == nil
}
