package dial

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/crypto/ssh/knownhosts"
)

// sshKey is a key pair.
type sshKey struct {
	private any
	signer  ssh.Signer
}

func newSSHKey(t *testing.T) sshKey {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	return asKey(t, private)
}

func newRSAKey(t *testing.T) sshKey {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	return asKey(t, private)
}

func asKey(t *testing.T, private any) sshKey {
	signer, err := ssh.NewSignerFromKey(private)
	require.NoError(t, err)
	return sshKey{private, signer}
}

// write puts the private key into a file, encrypted if there is a passphrase.
func (k sshKey) write(t *testing.T, file, passphrase string) string {
	t.Helper()
	var block *pem.Block
	var err error
	if passphrase == "" {
		block, err = ssh.MarshalPrivateKey(k.private, "")
	} else {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(k.private, "", []byte(passphrase))
	}
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o700))
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(block), 0o600))
	return file
}

// writeOldForm writes an RSA key as older versions of ssh-keygen did.
func (k sshKey) writeOldForm(t *testing.T, file, passphrase string) string {
	t.Helper()
	der := x509.MarshalPKCS1PrivateKey(k.private.(*rsa.PrivateKey))
	block, err := x509.EncryptPEMBlock(rand.Reader, "RSA PRIVATE KEY", der, []byte(passphrase), x509.PEMCipherAES128)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(block), 0o600))
	return file
}

// authorized is the line for authorized_keys.
func (k sshKey) authorized() []byte { return ssh.MarshalAuthorizedKey(k.signer.PublicKey()) }

// serveAgent starts an ssh agent and gives its socket.
func serveAgent(t *testing.T, keys ...sshKey) string {
	ring := agent.NewKeyring()
	for _, k := range keys {
		require.NoError(t, ring.Add(agent.AddedKey{PrivateKey: k.private}))
	}
	path := filepath.Join(t.TempDir(), "agent")
	serveUnix(t, path, func(c net.Conn) { agent.ServeAgent(ring, c) })
	return path
}

// sshServer is an ssh server made to misbehave.
type sshServer struct {
	hostKeys []ssh.Signer
	login    func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error)
	password func(ssh.ConnMetadata, []byte) (*ssh.Permissions, error)
	keyboard func(ssh.ConnMetadata, ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error)
	// channel is asked for each channel; nil refuses all.
	channel func(ssh.NewChannel)
}

func anyKey(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil }

func (s *sshServer) start(t *testing.T) (port string) {
	return serveTCP(t, func(c net.Conn) {
		config := &ssh.ServerConfig{PublicKeyCallback: s.login, PasswordCallback: s.password, KeyboardInteractiveCallback: s.keyboard}
		for _, k := range s.hostKeys {
			config.AddHostKey(k)
		}
		conn, chans, reqs, err := ssh.NewServerConn(c, config)
		if err != nil {
			return
		}
		defer conn.Close()
		go ssh.DiscardRequests(reqs)
		for n := range chans {
			if s.channel == nil {
				n.Reject(ssh.Prohibited, "not here")
				continue
			}
			s.channel(n)
		}
	})
}

// streamLocal echoes on each socket that is asked for, and refuses the rest.
func streamLocal(paths ...string) func(ssh.NewChannel) {
	return func(n ssh.NewChannel) {
		var want struct {
			Path      string
			Reserved0 string
			Reserved1 uint32
		}
		if n.ChannelType() != "direct-streamlocal@openssh.com" || ssh.Unmarshal(n.ExtraData(), &want) != nil {
			n.Reject(ssh.UnknownChannelType, "what?")
			return
		}
		for _, p := range paths {
			if p == want.Path {
				echoChannel(n)
				return
			}
		}
		n.Reject(ssh.ConnectionFailed, "open failed")
	}
}

func echoChannel(n ssh.NewChannel) {
	ch, reqs, err := n.Accept()
	if err != nil {
		return
	}
	go ssh.DiscardRequests(reqs)
	go func() {
		io.Copy(ch, ch)
		ch.Close()
	}()
}

// commands runs f for each command of a session.
func commands(f func(command string, ch ssh.Channel) (status int)) func(ssh.NewChannel) {
	return func(n ssh.NewChannel) {
		if n.ChannelType() != "session" {
			n.Reject(ssh.Prohibited, "administratively prohibited\x1b[2J")
			return
		}
		ch, reqs, err := n.Accept()
		if err != nil {
			return
		}
		go func() {
			for r := range reqs {
				var exec struct{ Command string }
				if r.Type != "exec" || ssh.Unmarshal(r.Payload, &exec) != nil {
					r.Reply(false, nil)
					continue
				}
				r.Reply(true, nil)
				go func() {
					status := f(exec.Command, ch)
					ch.SendRequest("exit-status", false, ssh.Marshal(struct{ S uint32 }{uint32(status)}))
					ch.Close()
				}()
			}
		}()
	}
}

// knownAs writes a known_hosts file that holds keys for 127.0.0.1:port.
func knownAs(t *testing.T, port string, keys ...ssh.PublicKey) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "known_hosts")
	var text string
	for _, k := range keys {
		text += knownhosts.Line([]string{net.JoinHostPort("127.0.0.1", port)}, k) + "\n"
	}
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}
