package libvirttest

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// maxRoot is how long the name of the root directory may be: names of sockets below it are at most 107 bytes long, and
// QEMU's is <root>/config/libvirt/qemu/lib/domain-<number>-<20 bytes of the name>/monitor.sock.
const maxRoot = 32

// hidden are directories that a root daemon sees others at, so the tree cannot be below one of them.
var hidden = []string{"/run", "/var/lib", "/var/cache", "/var/log"}

// tree are the files of a daemon.
type tree struct {
	root   string
	system bool
}

func newTree() (*tree, error) {
	base := os.TempDir()
	below := func(dir string) bool { return base == dir || strings.HasPrefix(base, dir+"/") }
	real, err := filepath.EvalSymlinks(base)
	if err != nil {
		return nil, err
	}
	if base = real; len(base)+len("/pvl-1234567890") > maxRoot || slices.ContainsFunc(hidden, below) {
		base = "/tmp"
	}
	root, err := os.MkdirTemp(base, "pvl-")
	if err != nil {
		return nil, err
	}
	t := &tree{root: root, system: os.Getuid() == 0}
	for _, dir := range []string{"home", "run/libvirt", "config/libvirt", "cache/libvirt", "lib/libvirt", "log/libvirt", "drivers", "ssh", "sasl"} {
		if err := os.MkdirAll(t.path(dir), 0o700); err != nil {
			return nil, errors.Join(err, t.remove())
		}
	}
	return t, nil
}

func (t *tree) path(name string) string { return filepath.Join(t.root, name) }

func (t *tree) write(name, text string) error {
	return os.WriteFile(t.path(name), []byte(text), 0o600)
}

// capabilities is what libvirtd has found out about the installed QEMUs, which takes it seconds, in the files where it
// keeps that. It checks itself whether they are still right, so the next daemon of this program gets them.
var capabilities struct {
	sync.Mutex
	files map[string][]byte
}

const capabilitiesDir = "cache/libvirt/qemu/capabilities"

func (t *tree) writeCapabilities() error {
	capabilities.Lock()
	defer capabilities.Unlock()
	dir := t.path(capabilitiesDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for name, text := range capabilities.files {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// keepCapabilities is called when the daemon has ended, so that files are whole.
func (t *tree) keepCapabilities() {
	found, err := filepath.Glob(t.path(capabilitiesDir + "/*.xml"))
	if err != nil || len(found) == 0 {
		return
	}
	capabilities.Lock()
	defer capabilities.Unlock()
	capabilities.files = map[string][]byte{}
	for _, f := range found {
		if text, err := os.ReadFile(f); err == nil {
			capabilities.files[filepath.Base(f)] = text
		}
	}
}

func (t *tree) remove() error { return os.RemoveAll(t.root) }

// setup says what the daemon is to see at other places.
func (t *tree) setup(kvm bool) (s setup, err error) {
	s.Root = t.root
	if _, err := os.Stat("/dev/kvm"); err == nil && !kvm {
		// Nobody may open this, and root, who may, may not write to it, or libvirt thought that KVM could be used now and
		// examined QEMU anew time and again.
		if err := os.WriteFile(t.path("no-kvm"), nil, 0); err != nil {
			return s, err
		}
		s.Binds = append(s.Binds, bind{t.path("no-kvm"), "/dev/kvm", t.system})
	}
	// A session daemon, too, is where those who come in by ssh look for the system's: that is where test:/// is.
	s.Tmpfs = []string{"/run"}
	s.Dirs = []string{"/run/libvirt", "/run/lock", "/run/sshd"} // consoles are locked in the second; sshd wants the last
	s.Binds = append(s.Binds, bind{From: t.path("run/libvirt"), At: "/run/libvirt"})
	if t.system {
		s.Tmpfs = hidden
		for dir, at := range map[string]string{"lib": "/var/lib/libvirt", "cache": "/var/cache/libvirt", "log": "/var/log/libvirt"} {
			s.Dirs = append(s.Dirs, at)
			s.Binds = append(s.Binds, bind{From: t.path(dir + "/libvirt"), At: at})
		}
		s.Binds = append(s.Binds, bind{From: t.path("config/libvirt"), At: "/etc/libvirt"})
	}
	for _, name := range []string{"passwd", "group", "shadow"} {
		if err := t.accounts(name); err != nil {
			return s, err
		}
		s.Binds = append(s.Binds, bind{From: t.path(name), At: "/etc/" + name})
	}
	return s, nil
}

// accounts writes a file of accounts: those of the machine, with the user that QEMU's driver is built to want and that only
// the package with the units of systemd makes, and whoever runs the tests with a shell and a home. Nobody is locked.
func (t *tree) accounts(file string) error {
	const qemu = "libvirt-qemu"
	me, err := user.Current()
	if err != nil {
		return err
	}
	var own []string
	switch file {
	case "shadow":
		return t.write(file, me.Username+":*:20000:0:99999:7:::\n")
	case "passwd":
		own = []string{
			fmt.Sprintf("%s:x:%s:%s::%s:/bin/sh", me.Username, me.Uid, me.Gid, t.path("home")),
			qemu + ":x:64055:64055::/nonexistent:/usr/sbin/nologin",
		}
	case "group":
		own = []string{qemu + ":x:64055:"}
	}
	text, err := os.ReadFile("/etc/" + file)
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, line := range own {
		b.WriteString(line + "\n")
	}
	for line := range strings.Lines(string(text)) {
		name, _, _ := strings.Cut(line, ":")
		if !slices.ContainsFunc(own, func(o string) bool { return strings.HasPrefix(o, name+":") }) {
			b.WriteString(strings.TrimRight(line, "\n") + "\n")
		}
	}
	return os.WriteFile(t.path(file), []byte(b.String()), 0o644)
}

// environment is that of everything in the namespace, or of a client.
func (t *tree) environment() []string {
	return []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8",
		"HOME=" + t.path("home"), "XDG_RUNTIME_DIR=" + t.path("run"), "XDG_CONFIG_HOME=" + t.path("config"), "XDG_CACHE_HOME=" + t.path("cache"),
	}
}
