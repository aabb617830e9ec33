package libvirttest

import (
	"net"
	"net/url"
	"strconv"
)

// Transport is a way to reach a daemon.
type Transport string

// Transports. SSH has keyfile and known_hosts as parameters; SSHProgram is ssh by the user's own program, which is
// a script that knows them.
const (
	Unix       Transport = "unix"
	TCP        Transport = "tcp"
	TLS        Transport = "tls"
	SSH        Transport = "ssh"
	SSHProgram Transport = "ssh+program"
)

// URI returns the URI of a hypervisor of the daemon, test or qemu: "qemu+tcp://127.0.0.1:20001/system". The daemon must
// have been started with the transport.
func (d *Daemon) URI(hypervisor string, by Transport) string {
	u := url.URL{Scheme: hypervisor + "+" + string(by), Path: d.Path(hypervisor)}
	var params []string
	switch by {
	case Unix:
		params = []string{"socket", d.Socket()}
	case TCP:
		u.Host = d.TCPAddr()
	case TLS:
		u.Host = d.TLSAddr()
		params = []string{"pkipath", d.PKIPath()}
	case SSH:
		u.Host, u.User = d.SSHAddr(), url.User(d.user)
		params = []string{"keyfile", d.KeyFile(), "known_hosts", d.KnownHosts()}
	case SSHProgram:
		u.Scheme, u.Host, u.User = hypervisor+"+ssh", d.SSHAddr(), url.User(d.user)
		params = []string{"command", d.SSHProgram()}
	}
	for i := 0; i < len(params); i += 2 {
		if i > 0 {
			u.RawQuery += "&"
		}
		u.RawQuery += params[i] + "=" + params[i+1]
	}
	return u.String()
}

// Path is that of the hypervisor's URI: /default for test, /system for others if root runs the tests, else /session.
func (d *Daemon) Path(hypervisor string) string {
	switch {
	case hypervisor == "test":
		return "/default"
	case d.tree.system:
		return "/system"
	default:
		return "/session"
	}
}

// Socket is the path of the unix socket.
func (d *Daemon) Socket() string { return d.tree.path("run/libvirt/libvirt-sock") }

// ReadOnlySocket is that of the socket for reading only, which the session daemon of a user does not have.
func (d *Daemon) ReadOnlySocket() string { return d.tree.path("run/libvirt/libvirt-sock-ro") }

// System reports whether the daemon is the system's, not the session daemon of a user.
func (d *Daemon) System() bool { return d.tree.system }

// RuntimeDir is the XDG_RUNTIME_DIR of the daemon and ConfigHome its XDG_CONFIG_HOME: a session daemon is where clients
// that have them look for it.
func (d *Daemon) RuntimeDir() string { return d.tree.path("run") }

// ConfigHome is the XDG_CONFIG_HOME of the daemon.
func (d *Daemon) ConfigHome() string { return d.tree.path("config") }

// TCPAddr is the address of the tcp transport.
func (d *Daemon) TCPAddr() string { return loopback(d.tcpPort) }

// TLSAddr is the address of the tls transport.
func (d *Daemon) TLSAddr() string { return loopback(d.tlsPort) }

// SSHAddr is the address of the sshd.
func (d *Daemon) SSHAddr() string { return loopback(d.sshPort) }

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// PKIPath is the directory with the certificates, see [WritePKI].
func (d *Daemon) PKIPath() string { return d.tree.path("pki") }

// User is who may come in by ssh: who runs the tests.
func (d *Daemon) User() string { return d.user }

// KeyFile is the private key for ssh, without a passphrase; its public part is beside it, in a file that ends in .pub.
func (d *Daemon) KeyFile() string { return d.tree.path("ssh/id") }

// KnownHosts is a file with the public key of the sshd.
func (d *Daemon) KnownHosts() string { return d.tree.path("ssh/known_hosts") }

// SSHProgram is a script that is ssh with the keys of this daemon.
func (d *Daemon) SSHProgram() string { return d.tree.path("ssh/ssh") }
