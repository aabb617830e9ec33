package dial

import (
	"bytes"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/uri"
)

// maxKnownHosts bounds a known_hosts file.
const maxKnownHosts = 64 << 20

// knownHosts checks the server's key against OpenSSH's files.
type knownHosts struct {
	addr    string
	file    string // where a new key belongs; may be empty
	files   []string
	verify  uri.Verify
	compare ssh.HostKeyCallback

	// The ssh package checks keys in a goroutine that it does not wait for.
	mu       sync.Mutex
	accepted ssh.PublicKey // nil as long as none is
	refused  error
}

// loadKnownHosts reads known_hosts= of the URI, or else the user's and the
// system's file.
func (d *dialer) loadKnownHosts() (*knownHosts, error) {
	k := &knownHosts{addr: d.Addr(), verify: d.KnownHostsVerify}
	if k.verify == "" {
		k.verify = uri.VerifyNormal
		if d.NoVerify {
			k.verify = uri.VerifyAuto // new ones are taken, others are still compared
		}
	}
	if d.KnownHosts != "" {
		k.file = d.KnownHosts
		k.files = []string{k.file}
		if d.KnownHosts != os.DevNull && k.verify == uri.VerifyNormal && !exists(k.file) {
			return nil, fail(ErrConfig, "known_hosts=%s: %w; make it with ssh-keyscan and compare the key's fingerprint with the server's", k.file, fs.ErrNotExist)
		}
	} else {
		if d.Env.Home != "" {
			k.file = filepath.Join(d.Env.Home, ".ssh", "known_hosts")
			k.files = append(k.files, k.file)
		}
		k.files = append(k.files, filepath.Join(d.Env.Etc, "ssh", "ssh_known_hosts"))
	}
	present := slices.DeleteFunc(slices.Clone(k.files), func(f string) bool { return !exists(f) })
	var err error
	if k.compare, err = knownhosts.New(present...); err != nil {
		return nil, fail(ErrConfig, "known hosts: %w; correct that line", err)
	}
	return k, nil
}

// noAddr makes knownhosts look at the name only.
var noAddr = &net.TCPAddr{IP: net.IPv4zero}

// known gives the keys that the files have for the host, and whether they name
// an authority for it.
func (k *knownHosts) known() (keys []ssh.PublicKey, authority bool) {
	var e *knownhosts.KeyError
	if !errors.As(k.compare(k.addr, noAddr, impossibleKey{}), &e) {
		return nil, false
	}
	for _, w := range e.Want {
		if isAuthority(w) {
			authority = true
		} else {
			keys = append(keys, w.Key)
		}
	}
	return keys, authority
}

// isAuthority tells the lines that hold an authority's key, which knownhosts
// reports as if the host had it.
func isAuthority(w knownhosts.KnownKey) bool {
	text, err := readFile(w.Filename, maxKnownHosts)
	if err != nil {
		return false
	}
	for line := range bytes.Lines(text) {
		if w.Line--; w.Line == 0 {
			return bytes.HasPrefix(bytes.TrimSpace(line), []byte("@cert-authority"))
		}
	}
	return false
}

// impossibleKey equals no key.
type impossibleKey struct{}

func (impossibleKey) Type() string                        { return "none" }
func (impossibleKey) Marshal() []byte                     { return nil }
func (impossibleKey) Verify([]byte, *ssh.Signature) error { return errors.New("no key") }

// algorithms gives the signature algorithms to ask for, those of known keys
// first: a server has keys of several kinds, and a file may hold one only.
// Certificates are asked for if the files name an authority for the host.
func (k *knownHosts) algorithms() []string {
	known, authority := k.known()
	rank := func(algorithm string) int {
		plain := algorithm
		if algorithm == ssh.KeyAlgoRSASHA256 || algorithm == ssh.KeyAlgoRSASHA512 {
			plain = ssh.KeyAlgoRSA
		}
		switch {
		case strings.Contains(algorithm, "-cert-"):
			return 0
		case slices.ContainsFunc(known, func(key ssh.PublicKey) bool { return key.Type() == plain }):
			return 1
		case plain == ssh.KeyAlgoED25519:
			return 2 // the kind that ssh shows and stores first, too
		}
		return 3
	}
	all := slices.DeleteFunc(ssh.SupportedAlgorithms().HostKeys, func(a string) bool {
		return !authority && strings.Contains(a, "-cert-")
	})
	slices.SortStableFunc(all, func(a, b string) int { return rank(a) - rank(b) })
	return all
}

// check is the verdict on the key that the server has. When keys are exchanged
// anew later on, it must have the same.
func (k *knownHosts) check(remote net.Addr, key ssh.PublicKey) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.accepted != nil {
		if !bytes.Equal(k.accepted.Marshal(), key.Marshal()) {
			return fail(ErrPermission, "the host key of %s changed while connected", k.addr)
		}
		return nil
	}
	if k.refused = k.verdict(remote, key); k.refused == nil {
		k.accepted = key
	}
	return k.refused
}

// outcome tells whether a key was accepted, or why not.
func (k *knownHosts) outcome() (accepted bool, refused error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.accepted != nil, k.refused
}

func (k *knownHosts) verdict(remote net.Addr, key ssh.PublicKey) error {
	if k.verify == uri.VerifyIgnore {
		return nil
	}
	err := k.compare(k.addr, remote, key)
	if err == nil {
		return nil
	}
	var unknown *knownhosts.KeyError
	var want []knownhosts.KnownKey
	if errors.As(err, &unknown) {
		want = slices.DeleteFunc(slices.Clone(unknown.Want), isAuthority)
	}
	print := key.Type() + " " + ssh.FingerprintSHA256(key)
	var revoked *knownhosts.RevokedError
	switch {
	case errors.As(err, &revoked):
		return fail(ErrPermission, "the host key of %s (%s) is revoked in %s, line %d", k.addr, print, revoked.Revoked.Filename, revoked.Revoked.Line)
	case unknown == nil:
		return fail(ErrPermission, "the host key of %s (%s): %w", k.addr, print, err)
	case len(want) > 0:
		w := want[0]
		return fail(ErrPermission, "the host key of %s has changed: it is %s, and %s, line %d has %s %s; someone may be in between, or the host was set up anew: ask its administrator, and only then remove the line with ssh-keygen -f %s -R %s",
			k.addr, print, w.Filename, w.Line, w.Key.Type(), ssh.FingerprintSHA256(w.Key), w.Filename, shellQuote(knownhosts.Normalize(k.addr)))
	}
	line := knownhosts.Line([]string{k.addr}, key)
	if k.verify == uri.VerifyAuto {
		k.remember(line)
		return nil
	}
	where := strings.Join(k.files, " or ")
	return fail(ErrPermission, "the host key of %s (%s) is not known: compare it with the server's (ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub there), then add this line to %s: %s", k.addr, print, where, line)
}

// remember appends a new key to the user's file, as ssh does. That it cannot be
// written is no reason to refuse a key that is taken anyway.
func (k *knownHosts) remember(line string) {
	if k.file == "" || k.file == os.DevNull {
		return
	}
	if err := os.MkdirAll(filepath.Dir(k.file), 0o700); err != nil {
		return
	}
	f, err := os.OpenFile(k.file, os.O_APPEND|os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	// A last line without its end would swallow ours.
	if info, err := f.Stat(); err == nil && info.Size() > 0 {
		var last [1]byte
		if _, err := f.ReadAt(last[:], info.Size()-1); err == nil && last[0] != '\n' {
			line = "\n" + line
		}
	}
	f.WriteString(line + "\n")
}
