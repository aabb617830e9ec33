package uri

import (
	"net"
	"strconv"
	"strings"
)

// Transport is how the bytes travel.
type Transport string

// The transports. SSH stands for libvirt's ssh, libssh and libssh2.
const (
	Unix Transport = "unix"
	TCP  Transport = "tcp"
	TLS  Transport = "tls"
	SSH  Transport = "ssh"
	Ext  Transport = "ext"
)

// Private reports whether nobody on the way can read along: true for unix, tls
// and ssh. What an external command does is not known, so it counts as open.
func (t Transport) Private() bool { return t == Unix || t == TLS || t == SSH }

// Mode chooses between the daemon of one hypervisor (virtqemud) and the one for
// all (libvirtd, virtproxyd).
type Mode string

// The modes of docs/uri.rst.
const (
	ModeAuto   Mode = "auto"   // the hypervisor's daemon if its socket is there
	ModeDirect Mode = "direct" // the hypervisor's daemon only
	ModeLegacy Mode = "legacy" // libvirt-sock only
)

// Proxy chooses the program that connects to the daemon on the far side of ssh.
type Proxy string

// The proxies of docs/uri.rst.
const (
	ProxyAuto   Proxy = "auto"
	ProxyNetcat Proxy = "netcat"
	ProxyNative Proxy = "native" // virt-ssh-helper
)

// The ports of docs/remote.rst, and that of ssh.
const (
	PortTCP = 16509
	PortTLS = 16514
	PortSSH = 22
)

// Verify says what is done about an ssh host key that is not known.
type Verify string

// The values of known_hosts_verify.
const (
	VerifyNormal Verify = "normal" // refuse
	VerifyAuto   Verify = "auto"   // accept new ones, refuse changed ones
	VerifyIgnore Verify = "ignore" // accept any
)

// Target is a connection URI taken apart.
type Target struct {
	Driver    string // "qemu", "test"; "remote" lets the daemon choose
	Transport Transport
	User      string // empty if not given
	Host      string // without brackets; never empty for tcp, tls and ssh
	Port      int    // 0 if not given; see Addr
	Path      string // decoded
	// Name is what CONNECT_OPEN is called with: the URI without transport, user,
	// host and the parameters known here, unless name= gives it.
	Name string
	// Local is true without user, host and port.
	Local bool

	Socket           string
	Mode             Mode  // empty if not given
	Proxy            Proxy // empty if not given
	Netcat           string
	Command          string
	KeyFile          string
	KnownHosts       string
	KnownHostsVerify Verify   // empty if not given
	SSHAuth          []string // empty if not given; in order of preference
	NoVerify         bool
	NoTTY            bool
	PKIPath          string
	Auth             string // "none", "polkit", "sasl" or "sasl.MECHANISM"; empty for any
	AuthFile         string
}

// Addr is host:port to dial, with the port the transport has by default.
func (t *Target) Addr() string {
	port := t.Port
	if port == 0 {
		port = map[Transport]int{TCP: PortTCP, TLS: PortTLS, SSH: PortSSH}[t.Transport]
	}
	return net.JoinHostPort(t.Host, strconv.Itoa(port))
}

// Session reports whether a user's own daemon is meant. Root has none, so the
// system's serves root, as in libvirt.
func (t *Target) Session() bool { return t.Path == "/session" }

// modular gives the name of the hypervisor's own daemon's socket, without its
// suffix, empty if there is none.
func (t *Target) modular() string {
	if t.Driver == "remote" || t.Driver == "test" {
		return ""
	}
	return "virt" + t.Driver + "d"
}

// SocketNames gives the file names to try, best first: the daemon's of this
// hypervisor, then the one for all. session daemons have no read-only socket.
func (t *Target) SocketNames(session, readOnly bool) []string {
	suffix := "-sock"
	if readOnly && !session {
		suffix = "-sock-ro"
	}
	var names []string
	if m := t.modular(); m != "" && t.Mode != ModeLegacy {
		names = append(names, m+suffix)
	}
	if t.Mode != ModeDirect || len(names) == 0 {
		names = append(names, "libvirt"+suffix)
	}
	return names
}

// SystemDir is where the system daemons have their sockets. It is /var/run and
// not /run because every host has the former, if only as a link.
const SystemDir = "/var/run/libvirt"

// Sockets gives the paths of local sockets to try, best first. The test driver
// is looked for in both the user's daemon and the system's.
func (t *Target) Sockets(env Env, readOnly bool) []string {
	if t.Socket != "" {
		return []string{t.Socket}
	}
	var paths []string
	add := func(dir string, session bool) {
		for _, name := range t.SocketNames(session, readOnly) {
			paths = append(paths, dir+"/"+name)
		}
	}
	own := env.EUID > 0 && (t.Session() || t.Driver == "test")
	if own {
		add(env.RuntimeDir(), true)
	}
	if !own || !t.Session() {
		add(env.SystemDir, false)
	}
	return paths
}

// String describes the target for messages: never a password, since a Target
// never holds one.
func (t *Target) String() string {
	var b strings.Builder
	b.WriteString(t.Driver + "+" + string(t.Transport) + "://")
	if t.User != "" {
		b.WriteString(t.User + "@")
	}
	if !t.Local {
		host := t.Host
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		b.WriteString(host)
		if t.Port != 0 {
			b.WriteString(":" + strconv.Itoa(t.Port))
		}
	}
	b.WriteString(t.Path)
	return b.String()
}
