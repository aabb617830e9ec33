package dial

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/uri"
)

// maxKeyFile bounds a private key's file.
const maxKeyFile = 1 << 20

// maxPasswords is how often a password is asked for, as in ssh.
const maxPasswords = 3

// identities are the ways to log in, and what became of them.
type identities struct {
	d      *dialer
	ctx    context.Context
	agent  net.Conn
	unbind func() error
	notes  []string // for the error
	failed error    // of a callback; ends the login
	asked  int      // for a password
}

func (i *identities) note(format string, args ...any) {
	i.notes = append(i.notes, fmt.Sprintf(format, args...))
}

// tried says what was tried and what else could be.
func (i *identities) tried() string {
	return strings.Join(i.notes, ", ") + "; is the user name right, and is the public key in its ~/.ssh/authorized_keys there?"
}

func (i *identities) close() {
	if i.agent != nil {
		i.unbind()
		i.agent.Close()
	}
}

// methods gives what to try, in the order of sshauth=. All keys are one method
// for the protocol, so agent and files follow each other in it.
func (i *identities) methods(user string) ([]ssh.AuthMethod, error) {
	order := i.d.SSHAuth
	if len(order) == 0 {
		order = []string{uri.SSHAgent, uri.SSHKey, uri.SSHPassword, uri.SSHKeyboard}
		if i.d.KeyFile != "" {
			order[0], order[1] = uri.SSHKey, uri.SSHAgent // servers count attempts
		}
	}
	var signers []ssh.Signer
	keysAt := -1
	var methods []ssh.AuthMethod
	for _, m := range order {
		switch m {
		case uri.SSHAgent, uri.SSHKey:
			if keysAt < 0 {
				keysAt = len(methods)
			}
			if m == uri.SSHAgent {
				signers = append(signers, i.fromAgent()...)
				continue
			}
			fromFiles, err := i.fromFiles(signers)
			if err != nil {
				return nil, err
			}
			signers = append(signers, fromFiles...)
		case uri.SSHPassword:
			if i.d.Credentials != nil {
				methods = append(methods, ssh.PasswordCallback(func() (string, error) { return i.password(user) }))
			}
		case uri.SSHKeyboard:
			if i.d.Credentials != nil {
				methods = append(methods, ssh.KeyboardInteractive(func(_, _ string, questions []string, _ []bool) ([]string, error) {
					return i.answers(user, questions)
				}))
			}
		}
	}
	if len(signers) > 0 {
		methods = slices.Insert(methods, keysAt, ssh.PublicKeys(signers...))
	}
	if len(methods) == 0 {
		why := strings.Join(i.notes, ", ")
		if why == "" {
			why = "sshauth=" + strings.Join(order, ",") + " leaves nothing"
		}
		return nil, fail(ErrConfig, "nothing to log in to %s with: %s; start an agent (eval $(ssh-agent); ssh-add) or give keyfile=", i.d.Host, why)
	}
	return methods, nil
}

func (i *identities) password(user string) (string, error) {
	if i.asked++; i.asked > maxPasswords {
		i.failed = fail(ErrPermission, "%s does not let %s in: it refused the password %d times", i.d.Host, user, maxPasswords)
		return "", i.failed
	}
	_, password, err := i.d.Credentials(i.ctx, CredentialSSHPassword, user+"@"+i.d.Host)
	if err != nil {
		i.failed = fail(ErrPermission, "password of %s@%s: %w", user, i.d.Host, err)
		return "", i.failed
	}
	i.note("the password")
	return password, nil
}

// answers gives the password to the one question that servers ask for it.
func (i *identities) answers(user string, questions []string) ([]string, error) {
	switch len(questions) {
	case 0:
		return nil, nil
	case 1:
		password, err := i.password(user)
		return []string{password}, err
	}
	i.failed = fail(ErrPermission, "%s asks %d questions for the login; only one for a password can be answered: use a key", i.d.Host, len(questions))
	return nil, i.failed
}

// fromAgent gives the keys of the user's agent. The agent must answer before the
// context ends, and stays connected for the login.
func (i *identities) fromAgent() []ssh.Signer {
	path := i.d.Env.Getenv("SSH_AUTH_SOCK")
	if path == "" {
		i.note("no agent (SSH_AUTH_SOCK is not set)")
		return nil
	}
	var nd net.Dialer
	conn, err := nd.DialContext(i.ctx, "unix", path)
	if err != nil {
		i.note("no agent at SSH_AUTH_SOCK (%v)", err)
		return nil
	}
	i.agent, i.unbind = conn, bound(i.ctx, conn)
	signers, err := agent.NewClient(conn).Signers()
	if err != nil {
		i.note("the agent does not answer (%v)", err)
		return nil
	}
	i.note("%d keys of the agent", len(signers))
	return signers
}

// defaultKeys are the files that ssh looks for in ~/.ssh.
var defaultKeys = []string{"id_ed25519", "id_ecdsa", "id_rsa"}

// fromFiles gives the keys in keyfile= or the usual places, but not those that
// the agent has.
func (i *identities) fromFiles(have []ssh.Signer) ([]ssh.Signer, error) {
	files, given := []string{i.d.KeyFile}, true
	if i.d.KeyFile == "" {
		files, given = nil, false
		if i.d.Env.Home != "" {
			for _, name := range defaultKeys {
				files = append(files, filepath.Join(i.d.Env.Home, ".ssh", name))
			}
		}
	}
	var signers []ssh.Signer
	for _, file := range files {
		s, err := i.load(file, have)
		switch {
		case err == nil:
			signers = append(signers, s...)
		case given:
			return nil, err
		case !errors.Is(err, fs.ErrNotExist):
			i.note("%v", err)
		}
	}
	if len(signers) == 0 && !given {
		i.note("no usable key %s in ~/.ssh", strings.Join(defaultKeys, ", "))
	}
	return signers, nil
}

// load reads a private key, and its certificate beside it if there is one.
func (i *identities) load(file string, have []ssh.Signer) ([]ssh.Signer, error) {
	text, err := readKey(file)
	if err != nil {
		return nil, fail(ErrConfig, "ssh key: %w", err)
	}
	signer, err := ssh.ParsePrivateKey(text)
	var missing *ssh.PassphraseMissingError
	switch {
	case errors.As(err, &missing):
		public := missing.PublicKey
		if public == nil {
			public = readPublic(file + ".pub")
		}
		if public != nil && slices.ContainsFunc(have, func(s ssh.Signer) bool { return string(s.PublicKey().Marshal()) == string(public.Marshal()) }) {
			return nil, nil // the agent has it
		}
		if signer, err = i.encrypted(file, text, public); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, fail(ErrConfig, "ssh key %s: %w", file, err)
	}
	i.note("key %s", file)
	signers := []ssh.Signer{signer}
	if cert, ok := readPublic(file + "-cert.pub").(*ssh.Certificate); ok {
		if s, err := ssh.NewCertSigner(cert, signer); err == nil {
			i.note("its certificate")
			signers = slices.Insert(signers, 0, s)
		}
	}
	return signers, nil
}

// encrypted gives a key whose passphrase is asked for when the server wants the
// key, or at once if the public part is not known without it.
func (i *identities) encrypted(file string, text []byte, public ssh.PublicKey) (ssh.Signer, error) {
	if i.d.Credentials == nil {
		return nil, fail(ErrConfig, "ssh key %s is encrypted: have an agent hold it (ssh-add %s), or give a Credentials callback", file, file)
	}
	if public == nil {
		return i.decrypt(file, text)
	}
	return &lockedKey{public: public, unlock: func() (ssh.Signer, error) {
		s, err := i.decrypt(file, text)
		if err != nil {
			i.failed = err
		}
		return s, err
	}}, nil
}

func (i *identities) decrypt(file string, text []byte) (ssh.Signer, error) {
	_, passphrase, err := i.d.Credentials(i.ctx, CredentialSSHKey, file)
	if err != nil {
		return nil, fail(ErrConfig, "passphrase of ssh key %s: %w", file, err)
	}
	signer, err := ssh.ParsePrivateKeyWithPassphrase(text, []byte(passphrase))
	if err != nil {
		return nil, fail(ErrPermission, "ssh key %s cannot be decrypted; is the passphrase right? %w", file, err)
	}
	return signer, nil
}

// lockedKey is an encrypted key.
type lockedKey struct {
	public ssh.PublicKey
	unlock func() (ssh.Signer, error)
	signer ssh.Signer
}

func (k *lockedKey) PublicKey() ssh.PublicKey { return k.public }

func (k *lockedKey) Sign(r io.Reader, data []byte) (*ssh.Signature, error) {
	return k.SignWithAlgorithm(r, data, "")
}

// SignWithAlgorithm makes it an ssh.AlgorithmSigner, without which RSA keys
// could only sign with SHA-1.
func (k *lockedKey) SignWithAlgorithm(r io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	if k.signer == nil {
		s, err := k.unlock()
		if err != nil {
			return nil, err
		}
		k.signer = s
	}
	if s, ok := k.signer.(ssh.AlgorithmSigner); ok {
		return s.SignWithAlgorithm(r, data, algorithm)
	}
	return k.signer.Sign(r, data)
}

func readKey(file string) ([]byte, error) { return readFile(file, maxKeyFile) }

func readPublic(file string) ssh.PublicKey {
	text, err := readKey(file)
	if err != nil {
		return nil
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey(text)
	if err != nil {
		return nil
	}
	return key
}
