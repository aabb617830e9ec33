// Package dial opens the byte stream to a libvirt daemon that a uri.Target
// describes: unix sockets, tcp, tls, ssh (by golang.org/x/crypto/ssh or by the
// user's own ssh program) and external commands, found and checked as libvirt's
// docs/uri.rst, docs/remote.rst and docs/kbase/tlscerts.rst say.
//
// The built-in ssh reads keys and known_hosts, but not ssh_config: for hosts'
// aliases and jumps there is command=ssh, which has the user's own ssh do it.
//
// A user's session daemon is started if Options.StartDaemon says so.
//
// Dial ends when its context does, whatever phase it is in and whatever the
// peer does or leaves undone; what was opened until then is closed. A connection
// that Dial gave does not depend on the context any more. Errors say what to do,
// and match ErrConfig, ErrPermission or ErrUnreachable, or the context's error.
package dial

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"

	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/classed"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/uri"
)

// What an error of Dial is about.
var (
	// ErrConfig: a file is missing or wrong, or what was asked for contradicts itself.
	ErrConfig = errors.New("connection is not configured")
	// ErrPermission: the peer does not let us in, or it is not who it should be.
	ErrPermission = errors.New("access denied")
	// ErrUnreachable: nobody listens there, or the connection broke.
	ErrUnreachable = errors.New("not reachable")
)

// fail makes an error of one of the kinds above.
func fail(kind error, format string, args ...any) error {
	return classed.Errorf(kind, format, args...)
}

// Kinds of credentials that Options.Credentials is asked for.
const (
	// CredentialSSHPassword: the password of the ssh user.
	CredentialSSHPassword = "ssh-password"
	// CredentialSSHKey: the passphrase of an encrypted ssh key.
	CredentialSSHKey = "ssh-key"
)

// Options are what a Target does not hold.
type Options struct {
	// Env is the environment; its zero value stands for uri.HostEnv().
	Env uri.Env
	// ReadOnly asks for the daemon's read-only socket where there is one.
	ReadOnly bool
	// StartDaemon has a user's session daemon started if none runs, as libvirt's
	// own client does it. It ends by itself when nobody has used it for two
	// minutes. LIBVIRT_AUTOSTART=0 in the environment forbids it.
	StartDaemon bool
	// Credentials, if set, is asked for secrets that are in no file. about names
	// what the secret is for: user@host or a key's file. It must end with ctx.
	// no_tty=1 in the URI does not stop it: it is no terminal.
	Credentials func(ctx context.Context, kind, about string) (user, password string, err error)
}

// Dial opens the connection. Reads and writes of the result may be used by one
// goroutine each at the same time, Close by any, any number of times; Close
// returns when processes and goroutines behind the connection have ended.
// Deadlines work for unix, tcp and tls; other connections may give
// os.ErrNoDeadline, and are interrupted by Close.
func Dial(ctx context.Context, t *uri.Target, o Options) (net.Conn, error) {
	if o.Env.Getenv == nil {
		o.Env = uri.HostEnv()
	}
	d := &dialer{Target: t, Options: o}
	conn, err := d.dial(ctx)
	if err != nil {
		// Whatever broke after the context ended broke because of that.
		if ended := ctx.Err(); ended != nil {
			err = fmt.Errorf("during %s: %w", *d.phase.Load(), ended)
		}
		return nil, fmt.Errorf("connect to %s: %w", t, err)
	}
	return conn, nil
}

type dialer struct {
	*uri.Target
	Options
	// phase is what is going on, for the error of an ended context. The ssh
	// package moves on in a goroutine of its own.
	phase atomic.Pointer[string]
}

func (d *dialer) enter(phase string) { d.phase.Store(&phase) }

func (d *dialer) dial(ctx context.Context) (net.Conn, error) {
	d.enter("connecting")
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	switch d.Transport {
	case uri.Unix:
		return d.unix(ctx)
	case uri.TCP:
		return d.tcp(ctx, "libvirtd listens for unencrypted connections only with listen_tcp = 1 and --listen, or by libvirtd-tcp.socket")
	case uri.TLS:
		return d.tls(ctx)
	case uri.SSH:
		if d.Command != "" {
			return d.sshProgram()
		}
		return d.ssh(ctx)
	case uri.Ext:
		return startProcess(d.Command)
	}
	return nil, fail(ErrConfig, "unknown transport %q", d.Transport)
}

// bound closes c when ctx ends. The function it gives ends that, and reports
// the context's error if it was too late to do so.
func bound(ctx context.Context, c interface{ Close() error }) func() error {
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		c.Close()
		close(closed)
	})
	return func() error {
		if stop() {
			return nil
		}
		<-closed
		return ctx.Err()
	}
}
