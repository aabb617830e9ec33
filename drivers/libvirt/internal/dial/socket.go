package dial

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// How long a daemon whose backlog is full is tried, and how often.
const (
	backlogWait  = 10 * time.Second
	backlogPause = 10 * time.Millisecond
)

// unix connects to the first socket that somebody listens on, and has a daemon
// started if there is none and it may.
func (d *dialer) unix(ctx context.Context) (net.Conn, error) {
	conn, err := d.unixOnce(ctx)
	nobody := errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
	if !nobody || ctx.Err() != nil || !d.mayStart() {
		return conn, err
	}
	starting := d.startDaemon(ctx)
	// Another process may have started it in the meantime, so that ours ended.
	if conn, err = d.unixOnce(ctx); err != nil && starting != nil {
		return nil, starting
	}
	return conn, err
}

func (d *dialer) unixOnce(ctx context.Context) (net.Conn, error) {
	paths := d.Sockets(d.Env, d.ReadOnly)
	var stale []string
	for _, path := range paths {
		if limit := maxSocketPath(); len(path) > limit {
			return nil, fail(ErrConfig, "socket %s: the path has %d bytes, and the system takes %d; use a shorter one, a link for example", path, len(path), limit)
		}
		conn, err := dialUnix(ctx, path)
		switch {
		case err == nil:
			return conn, nil
		case ctx.Err() != nil:
			return nil, err
		case errors.Is(err, fs.ErrNotExist):
		case errors.Is(err, syscall.ECONNREFUSED):
			stale = append(stale, path)
		case errors.Is(err, fs.ErrPermission):
			return nil, fail(ErrPermission, "socket %s: permission denied; %s: %w", path, d.permissionAdvice(), err)
		case errors.Is(err, syscall.EAGAIN):
			return nil, fail(ErrUnreachable, "socket %s: the daemon has not accepted a connection in %v; is it stopped or overloaded? %w", path, backlogWait, err)
		default:
			return nil, fail(ErrUnreachable, "socket %s: %w", path, err)
		}
	}
	if len(stale) > 0 {
		return nil, fail(ErrUnreachable, "socket %s is there, but no daemon listens on it; start it again: %s: %w", strings.Join(stale, ", "), d.startAdvice(), syscall.ECONNREFUSED)
	}
	return nil, fail(ErrUnreachable, "no socket %s: is the daemon running? %s: %w", strings.Join(paths, " or "), d.startAdvice(), fs.ErrNotExist)
}

func dialUnix(ctx context.Context, path string) (net.Conn, error) {
	var nd net.Dialer
	for began := time.Now(); ; {
		conn, err := nd.DialContext(ctx, "unix", path)
		// Linux says so when the listener's backlog is full.
		if !errors.Is(err, syscall.EAGAIN) || time.Since(began) > backlogWait {
			return conn, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(backlogPause):
		}
	}
}

// maxSocketPath is the longest path in a struct sockaddr_un, less its zero byte.
func maxSocketPath() int {
	if runtime.GOOS == "linux" {
		return 107
	}
	return 103
}

func (d *dialer) startAdvice() string {
	switch {
	case d.Socket != "":
		return "socket= of the URI names it; leave it out for the usual ones"
	case d.Session() && d.Env.EUID > 0:
		return "start one of this user with libvirtd -d --timeout 120 (or virtqemud), or use /system"
	case d.Driver == "qemu":
		return "systemctl start virtqemud.socket or libvirtd.socket; Debian has it in libvirt-daemon-system, Fedora in libvirt-daemon-kvm"
	}
	return fmt.Sprintf("systemctl start virt%sd.socket or libvirtd.socket; Debian has it in libvirt-daemon-system, Fedora in libvirt-daemon-driver-%s", d.Driver, d.Driver)
}

func (d *dialer) permissionAdvice() string {
	if d.Socket != "" {
		return "its owner and mode decide who may use it"
	}
	if d.ReadOnly {
		return "unix_sock_ro_perms of the daemon's configuration decides who may use it"
	}
	return "become a member of the group libvirt (usermod -aG libvirt USER, then log in again), or open read-only"
}

// tcp connects to host and port.
func (d *dialer) tcp(ctx context.Context, advice string) (net.Conn, error) {
	d.enter("connecting to " + d.Addr())
	var nd net.Dialer
	conn, err := nd.DialContext(ctx, "tcp", d.Addr())
	if err == nil {
		return conn, nil
	}
	var dns *net.DNSError
	switch {
	case ctx.Err() != nil:
		return nil, err
	case errors.As(err, &dns):
		return nil, fail(ErrUnreachable, "host %s cannot be resolved; is the name right? %w", d.Host, err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return nil, fail(ErrUnreachable, "nobody listens on %s; %s: %w", d.Addr(), advice, err)
	}
	return nil, fail(ErrUnreachable, "%w; is a firewall between?", err)
}
