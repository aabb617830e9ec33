package dial

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/uri"
)

const remoteSock = "/var/run/libvirt/libvirt-sock"

// sshURI is for a server on a port whose keys are known, with a client's key.
func sshURI(t *testing.T, port, more string, keys ...ssh.PublicKey) string {
	t.Helper()
	key := newSSHKey(t).write(t, filepath.Join(t.TempDir(), "key"), "")
	return "qemu+ssh://joe@127.0.0.1:" + port + "/system?keyfile=" + key + "&known_hosts=" + knownAs(t, port, keys...) + more
}

func TestSSH(t *testing.T) {
	key := newSSHKey(t)
	s := &sshServer{hostKeys: []ssh.Signer{key.signer}, login: anyKey, channel: streamLocal("/var/run/libvirt/virtqemud-sock", remoteSock)}
	port := s.start(t)
	conn, err := dialURI(within(t), t, sshURI(t, port, "", key.signer.PublicKey()), Options{})
	mustEcho(t, conn, err)

	// The hypervisor's own daemon first, then the one for all.
	s = &sshServer{hostKeys: []ssh.Signer{key.signer}, login: anyKey, channel: streamLocal(remoteSock)}
	port = s.start(t)
	conn, err = dialURI(within(t), t, sshURI(t, port, "", key.signer.PublicKey()), Options{})
	mustEcho(t, conn, err)

	// A connection does not depend on the context it was made with, ends when
	// the peer does, and interrupts a reader when it is closed.
	ctx, cancel := context.WithCancel(context.Background())
	conn, err = dialURI(ctx, t, sshURI(t, port, "", key.signer.PublicKey()), Options{})
	cancel()
	require.NoError(t, err)
	assert.ErrorIs(t, conn.SetDeadline(time.Now()), os.ErrNoDeadline)
	read := make(chan error, 1)
	go func() {
		_, err := conn.Read(make([]byte, 1))
		read <- err
	}()
	time.Sleep(10 * time.Millisecond)
	require.NoError(t, conn.Close())
	require.ErrorIs(t, <-read, net.ErrClosed)
	require.NoError(t, conn.Close())
	_, err = conn.Write([]byte("x"))
	require.ErrorIs(t, err, net.ErrClosed)
}

func TestSSHHostKeys(t *testing.T) {
	key, other, rsaKey := newSSHKey(t), newSSHKey(t), newRSAKey(t)
	s := &sshServer{hostKeys: []ssh.Signer{key.signer, rsaKey.signer}, login: anyKey, channel: streamLocal(remoteSock)}
	port := s.start(t)

	// Each kind of key that the server has will do.
	for _, k := range []sshKey{key, rsaKey} {
		conn, err := dialURI(within(t), t, sshURI(t, port, "", k.signer.PublicKey()), Options{})
		mustEcho(t, conn, err)
	}
	conn, err := dialURI(within(t), t, sshURI(t, port, ""), Options{})
	mustFail(t, conn, err, ErrPermission, "the host key of 127.0.0.1:"+port+" (ssh-ed25519 "+ssh.FingerprintSHA256(key.signer.PublicKey())+") is not known",
		"add this line to ", "[127.0.0.1]:"+port+" "+string(bytes.TrimSpace(key.authorized())))
	conn, err = dialURI(within(t), t, sshURI(t, port, "", other.signer.PublicKey()), Options{})
	mustFail(t, conn, err, ErrPermission, "has changed", ", line 1 has ssh-ed25519 "+ssh.FingerprintSHA256(other.signer.PublicKey()), "ssh-keygen -f ")
	conn, err = dialURI(within(t), t, sshURI(t, port, "&no_verify=1", other.signer.PublicKey()), Options{})
	mustFail(t, conn, err, ErrPermission, "has changed")
	conn, err = dialURI(within(t), t, sshURI(t, port, "&known_hosts_verify=ignore", other.signer.PublicKey()), Options{})
	mustEcho(t, conn, err)

	// A revoked key is refused whatever else is said.
	revoked := filepath.Join(t.TempDir(), "kh")
	require.NoError(t, os.WriteFile(revoked, append([]byte("@revoked * "), key.authorized()...), 0o600))
	private := newSSHKey(t).write(t, filepath.Join(t.TempDir(), "key"), "")
	base := "qemu+ssh://joe@127.0.0.1:" + port + "/system?keyfile=" + private
	conn, err = dialURI(within(t), t, base+"&no_verify=1&known_hosts="+revoked, Options{})
	mustFail(t, conn, err, ErrPermission, "is revoked in "+revoked+", line 1")

	// A host certificate, by an authority that is known.
	authority := newSSHKey(t)
	cert := &ssh.Certificate{Key: rsaKey.signer.PublicKey(), CertType: ssh.HostCert, ValidPrincipals: []string{"127.0.0.1"}, ValidBefore: ssh.CertTimeInfinity}
	require.NoError(t, cert.SignCert(rand.Reader, authority.signer))
	certSigner, err := ssh.NewCertSigner(cert, rsaKey.signer)
	require.NoError(t, err)
	certPort := (&sshServer{hostKeys: []ssh.Signer{certSigner, key.signer}, login: anyKey, channel: streamLocal(remoteSock)}).start(t)
	byAuthority := filepath.Join(t.TempDir(), "kh")
	require.NoError(t, os.WriteFile(byAuthority, append([]byte("@cert-authority [127.0.0.1]:"+certPort+" "), authority.authorized()...), 0o600))
	certURI := "qemu+ssh://joe@127.0.0.1:" + certPort + "/system?keyfile=" + private + "&known_hosts="
	conn, err = dialURI(within(t), t, certURI+byAuthority, Options{})
	mustEcho(t, conn, err)
	conn, err = dialURI(within(t), t, certURI+knownAs(t, certPort, key.signer.PublicKey()), Options{})
	mustEcho(t, conn, err)

	// A new key is remembered, after a last line without an end too.
	for _, before := range []string{"", "# mine"} {
		env := host(t)
		file := filepath.Join(env.Home, ".ssh", "known_hosts")
		if before != "" {
			require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o700))
			require.NoError(t, os.WriteFile(file, []byte(before), 0o600))
		}
		conn, err = dialURI(within(t), t, base, Options{Env: env})
		mustFail(t, conn, err, ErrPermission, "is not known", file+" or "+env.Etc+"/ssh/ssh_known_hosts")
		conn, err = dialURI(within(t), t, base+"&known_hosts_verify=auto", Options{Env: env})
		mustEcho(t, conn, err)
		conn, err = dialURI(within(t), t, base, Options{Env: env})
		mustEcho(t, conn, err)
	}
	conn, err = dialURI(within(t), t, base+"&known_hosts=/nowhere/kh", Options{})
	mustFail(t, conn, err, ErrConfig, "known_hosts=/nowhere/kh", "ssh-keyscan")
	bad := filepath.Join(t.TempDir(), "bad")
	require.NoError(t, os.WriteFile(bad, []byte("\nh ssh-ed25519 !!\n"), 0o600))
	conn, err = dialURI(within(t), t, base+"&known_hosts="+bad, Options{})
	mustFail(t, conn, err, ErrConfig, "bad:2", "correct that line")
}

func TestSSHLogin(t *testing.T) {
	hostKey, mine, another := newSSHKey(t), newSSHKey(t), newRSAKey(t)
	is := func(k sshKey) func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) {
		return func(m ssh.ConnMetadata, p ssh.PublicKey) (*ssh.Permissions, error) {
			if m.User() == "joe" && bytes.Equal(p.Marshal(), k.signer.PublicKey().Marshal()) {
				return nil, nil
			}
			return nil, errors.New("no")
		}
	}
	port := (&sshServer{hostKeys: []ssh.Signer{hostKey.signer}, login: is(mine), channel: streamLocal(remoteSock)}).start(t)
	portRSA := (&sshServer{hostKeys: []ssh.Signer{hostKey.signer}, login: is(another), channel: streamLocal(remoteSock)}).start(t)
	uriOf := func(user, port, more string) string {
		return "qemu+ssh://" + user + "127.0.0.1:" + port + "/system?known_hosts=" + knownAs(t, port, hostKey.signer.PublicKey()) + more
	}
	env := host(t)
	conn, err := dialURI(within(t), t, uriOf("", port, ""), Options{Env: env})
	mustFail(t, conn, err, ErrConfig, "nothing to log in to 127.0.0.1 with: no agent (SSH_AUTH_SOCK is not set), no usable key", "ssh-add")

	// The usual files; the user's own name.
	mine.write(t, filepath.Join(env.Home, ".ssh/id_ed25519"), "")
	another.write(t, filepath.Join(env.Home, ".ssh/id_rsa"), "")
	conn, err = dialURI(within(t), t, uriOf("", port, ""), Options{Env: env})
	mustEcho(t, conn, err)
	conn, err = dialURI(within(t), t, uriOf("joe@", portRSA, ""), Options{Env: env})
	mustEcho(t, conn, err)
	conn, err = dialURI(within(t), t, uriOf("root@", port, ""), Options{Env: env})
	mustFail(t, conn, err, ErrPermission, "does not let root in", ".ssh/id_ed25519", ".ssh/id_rsa", "is the user name right", "authorized_keys")

	// keyfile= stands alone, but for the agent.
	file := another.write(t, filepath.Join(t.TempDir(), "k"), "")
	conn, err = dialURI(within(t), t, uriOf("joe@", port, "&keyfile="+file), Options{Env: env})
	mustFail(t, conn, err, ErrPermission, "key "+file)
	conn, err = dialURI(within(t), t, uriOf("joe@", port, "&keyfile=/nowhere/k"), Options{Env: env})
	mustFail(t, conn, err, ErrConfig, "/nowhere/k")
	rubbish := filepath.Join(t.TempDir(), "r")
	require.NoError(t, os.WriteFile(rubbish, []byte("rubbish"), 0o600))
	conn, err = dialURI(within(t), t, uriOf("joe@", port, "&keyfile="+rubbish), Options{Env: env})
	mustFail(t, conn, err, ErrConfig, "ssh key "+rubbish)

	agentSocket := serveAgent(t, another, mine)
	withAgent := host(t)
	withAgent.Getenv = func(k string) string { return map[string]string{"SSH_AUTH_SOCK": agentSocket}[k] }
	for _, p := range []string{port, portRSA} {
		conn, err = dialURI(within(t), t, uriOf("joe@", p, ""), Options{Env: withAgent})
		mustEcho(t, conn, err)
	}
	conn, err = dialURI(within(t), t, uriOf("joe@", port, "&sshauth=privkey"), Options{Env: withAgent})
	mustFail(t, conn, err, ErrConfig, "nothing to log in")

	// Encrypted keys: with the agent, with a callback, with neither.
	locked := mine.write(t, filepath.Join(t.TempDir(), "locked"), "sesame")
	conn, err = dialURI(within(t), t, uriOf("joe@", port, "&keyfile="+locked), Options{Env: env})
	mustFail(t, conn, err, ErrConfig, "ssh key "+locked+" is encrypted", "ssh-add "+locked)
	conn, err = dialURI(within(t), t, uriOf("joe@", port, "&keyfile="+locked+"&sshauth=agent,privkey"), Options{Env: withAgent})
	mustEcho(t, conn, err)
	// The old form does not say whose key it is without its passphrase.
	lockedRSA := another.writeOldForm(t, filepath.Join(t.TempDir(), "locked"), "sesame")
	for _, c := range []struct{ port, file string }{{port, locked}, {portRSA, lockedRSA}} {
		asked := 0
		conn, err = dialURI(within(t), t, uriOf("joe@", c.port, "&keyfile="+c.file), Options{Env: env, Credentials: func(_ context.Context, kind, about string) (string, string, error) {
			asked++
			assert.Equal(t, CredentialSSHKey, kind)
			assert.Equal(t, c.file, about)
			return "", "sesame", nil
		}})
		mustEcho(t, conn, err)
		assert.Equal(t, 1, asked)
	}
	conn, err = dialURI(within(t), t, uriOf("joe@", port, "&keyfile="+lockedRSA), Options{Env: env, Credentials: func(context.Context, string, string) (string, string, error) { return "", "wrong", nil }})
	mustFail(t, conn, err, ErrPermission, "cannot be decrypted")
}

func TestSSHPassword(t *testing.T) {
	hostKey := newSSHKey(t)
	port := (&sshServer{hostKeys: []ssh.Signer{hostKey.signer}, channel: streamLocal(remoteSock), password: func(m ssh.ConnMetadata, p []byte) (*ssh.Permissions, error) {
		if m.User() == "joe" && string(p) == "sesame" {
			return nil, nil
		}
		return nil, errors.New("no")
	}}).start(t)
	s := "qemu+ssh://joe@127.0.0.1:" + port + "/system?known_hosts=" + knownAs(t, port, hostKey.signer.PublicKey())
	answer := func(password string, err error) Options {
		return Options{Credentials: func(_ context.Context, kind, about string) (string, string, error) {
			assert.Equal(t, CredentialSSHPassword, kind)
			assert.Equal(t, "joe@127.0.0.1", about)
			return "", password, err
		}}
	}
	conn, err := dialURI(within(t), t, s, answer("sesame", nil))
	mustEcho(t, conn, err)
	conn, err = dialURI(within(t), t, s, answer("hunter2", nil))
	mustFail(t, conn, err, ErrPermission, "the password")
	assert.NotContains(t, err.Error(), "hunter2")
	conn, err = dialURI(within(t), t, s, answer("", errors.New("nobody at home")))
	mustFail(t, conn, err, ErrPermission, "nobody at home")
}

func TestSSHCommand(t *testing.T) {
	hostKey := newSSHKey(t)
	start := func(f func(string, ssh.Channel) int) string {
		port := (&sshServer{hostKeys: []ssh.Signer{hostKey.signer}, login: anyKey, channel: commands(f)}).start(t)
		return sshURI(t, port, "", hostKey.signer.PublicKey())
	}
	// A server that opens no sockets runs a command.
	ran := make(chan string, 1)
	conn, err := dialURI(within(t), t, start(func(command string, ch ssh.Channel) int {
		ran <- command
		io.WriteString(ch.Stderr(), "a warning\n")
		io.Copy(ch, ch)
		return 0
	}), Options{ReadOnly: true})
	mustEcho(t, conn, err)
	command := <-ran
	assert.Contains(t, command, "virt-ssh-helper -r ")
	assert.Contains(t, command, "/var/run/libvirt/virtqemud-sock-ro")

	// What the command said ends up in the error, fit for a terminal.
	conn, err = dialURI(within(t), t, start(func(_ string, ch ssh.Channel) int {
		io.WriteString(ch.Stderr(), "no libvirt\x1b[2J daemon here\nsorry\n")
		return 42
	}), Options{})
	require.NoError(t, err)
	_, err = conn.Read(make([]byte, 1))
	mustFail(t, conn, err, ErrUnreachable, "exit status 42: no libvirt [2J daemon here; sorry", "its sshd opens no socket: /var/run/libvirt/virtqemud-sock: administratively prohibited [2J)")
	require.ErrorIs(t, err, io.EOF)

	// Endless complaints fill no memory.
	conn, err = dialURI(within(t), t, start(func(_ string, ch ssh.Channel) int {
		for range 300 {
			ch.Stderr().Write(bytes.Repeat([]byte("x"), 10000))
		}
		return 1
	}), Options{})
	require.NoError(t, err)
	_, err = conn.Read(make([]byte, 1))
	mustFail(t, conn, err, ErrUnreachable, "exit status 1: xxx")
	assert.Less(t, len(err.Error()), 3000)

	// Nothing is allowed at all.
	port := (&sshServer{hostKeys: []ssh.Signer{hostKey.signer}, login: anyKey}).start(t)
	conn, err = dialURI(within(t), t, sshURI(t, port, "", hostKey.signer.PublicKey()), Options{})
	mustFail(t, conn, err, ErrPermission, "runs no command for us", "not here", "AllowStreamLocalForwarding")
	port = (&sshServer{hostKeys: []ssh.Signer{hostKey.signer}, login: anyKey, channel: func(n ssh.NewChannel) {
		if n.ChannelType() != "session" {
			n.Reject(ssh.Prohibited, "no")
			return
		}
		if _, reqs, err := n.Accept(); err == nil {
			go ssh.DiscardRequests(reqs)
		}
	}}).start(t)
	conn, err = dialURI(within(t), t, sshURI(t, port, "", hostKey.signer.PublicKey()), Options{})
	mustFail(t, conn, err, ErrPermission, "refuses to run a command")
}

func TestSSHEndsWithContext(t *testing.T) {
	hostKey := newSSHKey(t)
	over := make(chan struct{})
	var channels []ssh.NewChannel
	servers := map[string]*sshServer{
		"during the login as joe": {login: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) {
			<-over
			return nil, errors.New("late")
		}},
		"during opening /var/run/libvirt/virtqemud-sock at": {login: anyKey, channel: func(n ssh.NewChannel) { channels = append(channels, n) }},
		"during starting a command at": {login: anyKey, channel: func(n ssh.NewChannel) {
			if n.ChannelType() != "session" {
				n.Reject(ssh.Prohibited, "no")
				return
			}
			n.Accept() // and no answer to the request
		}},
	}
	for phase, s := range servers {
		s.hostKeys = []ssh.Signer{hostKey.signer}
		where := sshURI(t, s.start(t), "", hostKey.signer.PublicKey())
		mustEnd(t, phase, func(ctx context.Context) (net.Conn, error) { return dialURI(ctx, t, where, Options{}) })
	}
	close(over)
	where := sshURI(t, serveTCP(t, silence), "", hostKey.signer.PublicKey())
	mustEnd(t, "during the ssh handshake", func(ctx context.Context) (net.Conn, error) { return dialURI(ctx, t, where, Options{}) })
	endless := serveTCP(t, func(c net.Conn) {
		for {
			if _, err := io.WriteString(c, "not a version\r\n"); err != nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
	})
	where = sshURI(t, endless, "", hostKey.signer.PublicKey())
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	_, err := dialURI(ctx, t, where, Options{})
	require.Error(t, err)

	// An agent that hangs.
	env := host(t)
	socket := filepath.Join(t.TempDir(), "agent")
	serveUnix(t, socket, silence)
	env.Getenv = func(k string) string { return map[string]string{"SSH_AUTH_SOCK": socket}[k] }
	mustEnd(t, "during reading ssh keys", func(ctx context.Context) (net.Conn, error) {
		return dialURI(ctx, t, "qemu+ssh://joe@127.0.0.1:1/system", Options{Env: env})
	})
}

func TestSSHBrokenServer(t *testing.T) {
	for _, greeting := range []string{"", "HTTP/1.0 400 Bad\r\n\r\n", "SSH-1.0-old\r\n", "SSH-2.0-x\r\n\x00\x00\x00\x0crubbish rubbish"} {
		port := serveTCP(t, func(c net.Conn) { io.WriteString(c, greeting) })
		conn, err := dialURI(within(t), t, sshURI(t, port, ""), Options{})
		mustFail(t, conn, err, ErrUnreachable, "does an ssh server listen there?")
	}
	conn, err := dialURI(within(t), t, sshURI(t, unusedPort(t), ""), Options{})
	mustFail(t, conn, err, ErrUnreachable, "is sshd running there")
	env := host(t)
	env.User = ""
	conn, err = dialURI(within(t), t, "qemu+ssh://h/system", Options{Env: env})
	mustFail(t, conn, err, ErrConfig, "no user name for ssh; give one in the URI, as qemu+ssh://USER@h/system")
}

// A server may ask for ever; who is asked must not have to answer for ever.
func TestSSHQuestions(t *testing.T) {
	hostKey := newSSHKey(t)
	var questions []string
	s := &sshServer{hostKeys: []ssh.Signer{hostKey.signer}, channel: streamLocal(remoteSock), keyboard: func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
		for {
			answers, err := ask("", "", questions, make([]bool, len(questions)))
			if err != nil {
				return nil, err
			}
			if len(answers) == 1 && answers[0] == "sesame" {
				return nil, nil
			}
		}
	}}
	port := s.start(t)
	where := "qemu+ssh://joe@127.0.0.1:" + port + "/system?known_hosts=" + knownAs(t, port, hostKey.signer.PublicKey())
	answer := func(password string, asked *int) Options {
		return Options{Credentials: func(context.Context, string, string) (string, string, error) {
			*asked++
			return "", password, nil
		}}
	}
	var asked int
	questions = []string{"Password: "}
	conn, err := dialURI(within(t), t, where, answer("sesame", &asked))
	mustEcho(t, conn, err)
	asked = 0
	conn, err = dialURI(within(t), t, where, answer("wrong", &asked))
	mustFail(t, conn, err, ErrPermission, "refused the password 3 times")
	assert.Equal(t, 3, asked)
	questions = []string{"Password: ", "Token: "}
	conn, err = dialURI(within(t), t, where, answer("sesame", &asked))
	mustFail(t, conn, err, ErrPermission, "asks 2 questions", "use a key")
	questions = nil
	mustEnd(t, "during the login as joe", func(ctx context.Context) (net.Conn, error) { return dialURI(ctx, t, where, answer("", &asked)) })
}

// A peer that stopped reading does not keep us.
func TestCloseInterruptsWriter(t *testing.T) {
	hostKey := newSSHKey(t)
	port := (&sshServer{hostKeys: []ssh.Signer{hostKey.signer}, login: anyKey, channel: func(n ssh.NewChannel) {
		n.Accept() // and reads nothing, not even requests
	}}).start(t)
	for _, s := range []string{sshURI(t, port, "", hostKey.signer.PublicKey()), "qemu+ext:///system?command=" + script(t, "exec sleep 60")} {
		conn, err := dialURI(within(t), t, s, Options{})
		require.NoError(t, err)
		written := make(chan error, 1)
		go func() {
			_, err := conn.Write(make([]byte, 32<<20))
			written <- err
		}()
		select {
		case err := <-written:
			t.Fatal("a peer that does not read took 32 MiB: ", err)
		case <-time.After(200 * time.Millisecond):
		}
		require.NoError(t, conn.Close())
		require.ErrorIs(t, <-written, net.ErrClosed)
	}
}

// A certificate beside a key is used, as ssh does it.
func TestSSHUserCertificate(t *testing.T) {
	hostKey, authority, mine := newSSHKey(t), newSSHKey(t), newSSHKey(t)
	checker := &ssh.CertChecker{IsUserAuthority: func(k ssh.PublicKey) bool { return bytes.Equal(k.Marshal(), authority.signer.PublicKey().Marshal()) }}
	port := (&sshServer{hostKeys: []ssh.Signer{hostKey.signer}, login: checker.Authenticate, channel: streamLocal(remoteSock)}).start(t)
	file := mine.write(t, filepath.Join(t.TempDir(), "key"), "")
	where := "qemu+ssh://joe@127.0.0.1:" + port + "/system?keyfile=" + file + "&known_hosts=" + knownAs(t, port, hostKey.signer.PublicKey())
	conn, err := dialURI(within(t), t, where, Options{})
	mustFail(t, conn, err, ErrPermission, "key "+file)

	cert := &ssh.Certificate{Key: mine.signer.PublicKey(), CertType: ssh.UserCert, ValidPrincipals: []string{"joe"}, ValidBefore: ssh.CertTimeInfinity}
	require.NoError(t, cert.SignCert(rand.Reader, authority.signer))
	require.NoError(t, os.WriteFile(file+"-cert.pub", ssh.MarshalAuthorizedKey(cert), 0o600))
	conn, err = dialURI(within(t), t, where, Options{})
	mustEcho(t, conn, err)
}

// Keys are exchanged anew every now and then.
func TestHostKeyStaysTheSame(t *testing.T) {
	key, other := newSSHKey(t).signer.PublicKey(), newSSHKey(t).signer.PublicKey()
	env := host(t)
	target, err := uri.Parse("qemu+ssh://joe@127.0.0.1:7/system?known_hosts_verify=auto")
	require.NoError(t, err)
	k, err := (&dialer{Target: target, Options: Options{Env: env}}).loadKnownHosts()
	require.NoError(t, err)
	from := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7}
	require.NoError(t, k.check(from, key))
	require.NoError(t, k.check(from, key))
	require.ErrorContains(t, k.check(from, other), "changed while connected")
	text, err := os.ReadFile(filepath.Join(env.Home, ".ssh", "known_hosts"))
	require.NoError(t, err)
	assert.Equal(t, 1, bytes.Count(text, []byte("\n")), "one line, however often it is checked")
}

func TestSSHCommandKilled(t *testing.T) {
	hostKey := newSSHKey(t)
	port := (&sshServer{hostKeys: []ssh.Signer{hostKey.signer}, login: anyKey, channel: commands(func(_ string, ch ssh.Channel) int {
		ch.SendRequest("exit-signal", false, ssh.Marshal(struct {
			Name string
			Core bool
			Text string
			Lang string
		}{Name: "KILL\x1b"}))
		ch.SendRequest("what@example.com", true, nil)
		return 0
	})}).start(t)
	conn, err := dialURI(within(t), t, sshURI(t, port, "", hostKey.signer.PublicKey()), Options{})
	require.NoError(t, err)
	assert.Equal(t, "127.0.0.1:"+port, conn.RemoteAddr().String())
	_, err = conn.Read(make([]byte, 1))
	mustFail(t, conn, err, ErrUnreachable, "ended with signal KILL: EOF")
}
