package dial

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/uri"
)

// clientVersion is what the server's log shows.
const clientVersion = "SSH-2.0-polyvisor"

// ssh logs in without any program of this host, and opens the daemon's socket
// on the far side: by the server itself (direct-streamlocal) if it may, else by
// a command.
func (d *dialer) ssh(ctx context.Context) (net.Conn, error) {
	d.enter("reading ssh keys")
	hosts, err := d.loadKnownHosts()
	if err != nil {
		return nil, err
	}
	user := d.User
	if user == "" {
		user = d.Env.User
	}
	if user == "" {
		return nil, fail(ErrConfig, "no user name for ssh; give one in the URI, as %s+ssh://USER@%s%s", d.Driver, d.Host, d.Path)
	}
	l := &login{user: user, hosts: hosts, ids: &identities{d: d, ctx: ctx}}
	defer l.ids.close()
	if l.methods, err = l.ids.methods(user); err != nil {
		return nil, err
	}
	raw, err := d.tcp(ctx, "is sshd running there, and is this its port?")
	if err != nil {
		return nil, err
	}
	done := bound(ctx, raw)
	conn, err := d.sshOver(raw, l)
	if ended := done(); ended != nil && err == nil {
		conn.Close()
		return nil, ended
	}
	return conn, err
}

// login is what an ssh login is made with.
type login struct {
	user    string
	hosts   *knownHosts
	ids     *identities
	methods []ssh.AuthMethod
}

// sshOver speaks ssh over raw, which it closes on failure.
func (d *dialer) sshOver(raw net.Conn, l *login) (net.Conn, error) {
	d.enter("the ssh handshake with " + d.Addr())
	config := &ssh.ClientConfig{
		User:              l.user,
		Auth:              l.methods,
		ClientVersion:     clientVersion,
		HostKeyAlgorithms: l.hosts.algorithms(),
		HostKeyCallback: func(address string, remote net.Addr, key ssh.PublicKey) error {
			err := l.hosts.check(remote, key)
			if err == nil {
				d.enter(fmt.Sprintf("the login as %s at %s", l.user, d.Addr()))
			}
			return err
		},
	}
	c, chans, reqs, err := ssh.NewClientConn(raw, d.Addr(), config)
	if err != nil {
		raw.Close()
		return nil, d.sshError(err, l)
	}
	client := ssh.NewClient(c, chans, reqs)
	conn, err := d.remoteEnd(client, raw)
	if err != nil {
		closeClient(client, raw)
		return nil, err
	}
	return conn, nil
}

// closeClient ends the connection and waits for its goroutines. The socket goes
// first: a goodbye could wait for a peer that does not read.
func closeClient(c *ssh.Client, raw net.Conn) {
	raw.Close()
	c.Close()
	c.Wait()
}

func (d *dialer) sshError(err error, l *login) error {
	accepted, refused := l.hosts.outcome()
	switch {
	case refused != nil:
		return refused
	case l.ids.failed != nil:
		return l.ids.failed
	case !accepted:
		return fail(ErrUnreachable, "ssh with %s: %w; does an ssh server listen there?", d.Addr(), err)
	case strings.Contains(err.Error(), "unable to authenticate"), strings.Contains(err.Error(), "disconnect"):
		return fail(ErrPermission, "%s does not let %s in: %s: %w", d.Addr(), l.user, l.ids.tried(), err)
	}
	return fail(ErrUnreachable, "ssh login as %s at %s: %w", l.user, d.Addr(), err)
}

// remoteEnd opens the daemon's socket over a client that is logged in.
func (d *dialer) remoteEnd(client *ssh.Client, raw net.Conn) (net.Conn, error) {
	var sockets []string
	// A user's own socket has no fixed path, and who names a program wants it.
	if d.Proxy != uri.ProxyNative && d.Netcat == "" && (d.Socket != "" || !d.Session()) {
		sockets = d.remoteSockets()
	}
	var refusals []string
	for _, path := range sockets {
		d.enter(fmt.Sprintf("opening %s at %s", path, d.Host))
		ch, reqs, err := client.OpenChannel("direct-streamlocal@openssh.com", ssh.Marshal(struct {
			Path      string
			Reserved0 string
			Reserved1 uint32
		}{Path: path}))
		if err == nil {
			go ssh.DiscardRequests(reqs)
			return newChannel(client, raw, ch, nil, path+" at "+d.Host), nil
		}
		var open *ssh.OpenChannelError
		if !errors.As(err, &open) {
			return nil, fail(ErrUnreachable, "ssh with %s: opening %s: %w", d.Addr(), path, err)
		}
		refusals = append(refusals, fmt.Sprintf("%s: %s", path, clean(limit(open.Message))))
		if open.Reason != ssh.ConnectionFailed {
			break // not this path, but all of them
		}
	}
	return d.runRemote(client, raw, refusals)
}

func limit(s string) string {
	if len(s) > maxStderr {
		return s[:maxStderr]
	}
	return s
}

// runRemote starts the command on the far side. refusals say why no socket could
// be opened directly.
func (d *dialer) runRemote(client *ssh.Client, raw net.Conn, refusals []string) (net.Conn, error) {
	d.enter("starting a command at " + d.Host)
	because := ""
	if len(refusals) > 0 {
		because = " (and its sshd opens no socket: " + strings.Join(refusals, ", ") + ")"
	}
	ch, reqs, err := client.OpenChannel("session", nil)
	if err != nil {
		kind := ErrUnreachable
		var open *ssh.OpenChannelError
		if errors.As(err, &open) {
			kind = ErrPermission
		}
		return nil, fail(kind, "%s runs no command for us%s; have AllowStreamLocalForwarding or sessions allowed in its sshd_config: %w", d.Addr(), because, err)
	}
	command := d.remoteCommand()
	ok, err := ch.SendRequest("exec", true, ssh.Marshal(struct{ Command string }{command}))
	if err != nil {
		return nil, fail(ErrUnreachable, "ssh with %s: %w", d.Addr(), err)
	}
	if !ok {
		return nil, fail(ErrPermission, "%s refuses to run a command%s; it was: %s", d.Addr(), because, command)
	}
	return newChannel(client, raw, ch, reqs, "the command at "+d.Host+because), nil
}
