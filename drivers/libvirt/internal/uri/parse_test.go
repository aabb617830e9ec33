package uri

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The names are those that libvirt 9.0's own client sent for the same URIs.
func TestNames(t *testing.T) {
	for _, c := range []struct{ uri, name string }{
		{"qemu:///system", "qemu:///system"},
		{"test:///default", "test:///default"},
		{"test:///path/to/host/definitions", "test:///path/to/host/definitions"},
		{"kvm+unix:///session?socket=/tmp/sock", "kvm:///session"},
		{"qemu+unix:///a%20b/c?socket=/tmp/sock&foo=b+r%2Fx&bar=1&auth=none", "qemu:///a%20b/c?foo=b%2Br%2Fx&bar=1"},
		{"remote+unix:///system?socket=/tmp/sock", ""},
		{"remote://host/", ""},
		{"xen:///x?socket=/tmp/sock&name=qemu:///zz", "qemu:///zz"},
		{"qemu:///system?SOCKET=/tmp/sock;a=b", "qemu:///system?a=b"},
		{"qemu+unix:///?socket=/tmp/sock", "qemu:///"},
		{"qemu+unix://?socket=/tmp/sock", "qemu://"},
		{"qemu+unix:///system?socket=/tmp/sock&no_verify=0&authfile=/x&x", "qemu:///system?x="},
		{"qemu+ssh://h/session?command=ssh&proxy=native&foo=b+r", "qemu:///session?foo=b%2Br"},
		{"xen+ssh://rjones@towada/system", "xen:///system"},
		{"xen://towada/system?no_verify=1", "xen:///system"},
		{"test+tcp://localhost:5000/default", "test:///default"},
		{"qemu+tcp://h/system?name=xen:///", "xen:///"},
	} {
		target, err := Parse(c.uri)
		if assert.NoError(t, err, c.uri) {
			assert.Equal(t, c.name, target.Name, c.uri)
		}
	}
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		uri  string
		want Target // without Name
		addr string
	}{
		{"qemu:///system", Target{Driver: "qemu", Transport: Unix, Path: "/system", Local: true}, ""},
		{"qemu+unix:///session?socket=/r/s&mode=legacy", Target{Driver: "qemu", Transport: Unix, Path: "/session", Local: true, Socket: "/r/s", Mode: ModeLegacy}, ""},
		{"qemu+ssh://user@host:2222/system?keyfile=/k+1&no_verify=1&no_tty=1&sshauth=privkey,agent&known_hosts=/kh&known_hosts_verify=auto&proxy=netcat&netcat=/opt/nc",
			Target{Driver: "qemu", Transport: SSH, User: "user", Host: "host", Port: 2222, Path: "/system", KeyFile: "/k+1", NoVerify: true, NoTTY: true,
				SSHAuth: []string{SSHKey, SSHAgent}, KnownHosts: "/kh", KnownHostsVerify: VerifyAuto, Proxy: ProxyNetcat, Netcat: "/opt/nc"}, "host:2222"},
		{"qemu+libssh2://user@host/system", Target{Driver: "qemu", Transport: SSH, User: "user", Host: "host", Path: "/system"}, "host:22"},
		{"qemu+libssh://host/system", Target{Driver: "qemu", Transport: SSH, Host: "host", Path: "/system"}, "host:22"},
		{"QEMU+TLS://[::1]:16514/system?pkipath=/tmp/p%20q&authfile=/a&auth=sasl.scram-sha-256",
			Target{Driver: "qemu", Transport: TLS, Host: "::1", Port: 16514, Path: "/system", PKIPath: "/tmp/p q", AuthFile: "/a", Auth: "sasl.scram-sha-256"}, "[::1]:16514"},
		{"xen://towada/", Target{Driver: "xen", Transport: TLS, Host: "towada", Path: "/"}, "towada:16514"},
		{"qemu+tcp:///system", Target{Driver: "qemu", Transport: TCP, Host: "localhost", Path: "/system", Local: true}, "localhost:16509"},
		{"lxc+ext:///system?command=/bin/carry", Target{Driver: "lxc", Transport: Ext, Path: "/system", Local: true, Command: "/bin/carry"}, ""},
		{"esx+tcp://h/", Target{Driver: "esx", Transport: TCP, Host: "h", Path: "/"}, "h:16509"},
	} {
		got, err := Parse(c.uri)
		require.NoError(t, err, c.uri)
		if c.addr != "" {
			assert.Equal(t, c.addr, got.Addr(), c.uri)
		}
		got.Name = ""
		assert.Equal(t, &c.want, got, c.uri)
	}
}

func TestParseErrors(t *testing.T) {
	for _, c := range []struct{ uri, says string }{
		{"", "qemu:///system"},
		{"xen", "want DRIVER://"},
		{"qemu:/system", "want DRIVER://"},
		{"://x", "missing protocol scheme"},
		{"+tls://h/system", "want DRIVER://"},
		{"qemu+telnet://h/system", `unknown transport "telnet"; want unix, tcp, tls, ssh or ext`},
		{"qemu+://h/system", `unknown transport ""`},
		{"qemu+unix://h/system", "a unix socket is on this host"},
		{"qemu+tcp://h:/system", "no port after"},
		{"qemu+tcp://h:0/system", "port 0"},
		{"qemu+tcp://h:65536/system", "port 65536"},
		{"qemu+tcp://h:x/system", "invalid port"},
		{"qemu:///system#x", "fragment"},
		{"qemu:///system?no_verify=yes", "parameter no_verify=yes: want 0 or 1"},
		{"qemu:///system?mode=fast", "parameter mode=fast: want auto, direct, legacy"},
		{"qemu:///system?socket=relative", "want a path from the root"},
		{"qemu:///system?socket=", "parameter socket: it has no value"},
		{"qemu:///system?socket=/a&Socket=/b", "given twice"},
		{"qemu:///system?socket=/a%00b", "zero byte"},
		{"qemu:///system?socket=%zz", "invalid URL escape"},
		{"qemu+tls://h/system?tls_priority=NORMAL", "GnuTLS"},
		{"qemu+ext:///system", "needs command=PROGRAM"},
		{"qemu+ssh://h/system?proxy=native&netcat=nc", "netcat= is not used with proxy=native"},
		{"qemu+ssh://h/system?sshauth=magic", "parameter sshauth=magic"},
		{"qemu+ssh://-oProxyCommand=x/system", "must not begin with '-'"},
		{"qemu+ssh://-l@h/system", "must not begin with '-'"},
		{"qemu+ssh://h/system?netcat=-e", "want a program"},
		{"test:///default?mode=direct", "has no daemon of its own"},
		{"qemu:///system?auth=kerberos", "want none, polkit, sasl"},
		{"esx://host/", "not served by a libvirt daemon"},
	} {
		_, err := Parse(c.uri)
		if assert.ErrorIs(t, err, ErrInvalid, c.uri) {
			assert.Contains(t, err.Error(), c.says, c.uri)
		}
	}
}

func TestErrorsHoldNoPassword(t *testing.T) {
	for _, s := range []string{
		"qemu+ssh://joe:hunter2@h/system", "qemu+ssh://joe:hunter2@h:x/system", "qemu+ssh://joe:hun ter2@h/system",
		"qemu+ssh://joe:hunter2#@h/system", "qemu+ssh://joe:hunter2/@h", "joe:hunter2@h", "qemu+what://joe:hunter2@h/", "qemu+ssh://joe:%zzhunter2@h/",
	} {
		_, err := Parse(s)
		if assert.ErrorIs(t, err, ErrInvalid, s) {
			assert.NotContains(t, err.Error(), "ter2", s)
			assert.Contains(t, err.Error(), "auth.conf", s)
		}
	}
}

func TestSockets(t *testing.T) {
	user := Env{Getenv: func(k string) string { return map[string]string{"XDG_RUNTIME_DIR": "/run/user/7"}[k] }, EUID: 7, Home: "/home/u", SystemDir: SystemDir}
	bare := Env{Getenv: func(string) string { return "" }, EUID: 7, Home: "/home/u", SystemDir: SystemDir}
	root := Env{Getenv: bare.Getenv, EUID: 0, Home: "/root", SystemDir: SystemDir}
	for _, c := range []struct {
		uri      string
		env      Env
		readOnly bool
		want     []string
	}{
		{"qemu:///system", user, false, []string{"/var/run/libvirt/virtqemud-sock", "/var/run/libvirt/libvirt-sock"}},
		{"qemu:///system", root, true, []string{"/var/run/libvirt/virtqemud-sock-ro", "/var/run/libvirt/libvirt-sock-ro"}},
		{"qemu:///session", user, false, []string{"/run/user/7/libvirt/virtqemud-sock", "/run/user/7/libvirt/libvirt-sock"}},
		{"qemu:///session", user, true, []string{"/run/user/7/libvirt/virtqemud-sock", "/run/user/7/libvirt/libvirt-sock"}},
		{"qemu:///session", bare, false, []string{"/home/u/.cache/libvirt/virtqemud-sock", "/home/u/.cache/libvirt/libvirt-sock"}},
		{"qemu:///session", root, false, []string{"/var/run/libvirt/virtqemud-sock", "/var/run/libvirt/libvirt-sock"}},
		{"qemu:///session?socket=/x", user, true, []string{"/x"}},
		{"qemu:///system?mode=legacy", user, false, []string{"/var/run/libvirt/libvirt-sock"}},
		{"kvm+unix:///session", user, false, []string{"/run/user/7/libvirt/virtkvmd-sock", "/run/user/7/libvirt/libvirt-sock"}},
		{"ch:///system?mode=direct", user, false, []string{"/var/run/libvirt/virtchd-sock"}},
		{"xen:///system?mode=auto", user, true, []string{"/var/run/libvirt/virtxend-sock-ro", "/var/run/libvirt/libvirt-sock-ro"}},
		{"remote:///", user, false, []string{"/var/run/libvirt/libvirt-sock"}},
		{"test:///default", user, false, []string{"/run/user/7/libvirt/libvirt-sock", "/var/run/libvirt/libvirt-sock"}},
		{"test+unix:///default", root, false, []string{"/var/run/libvirt/libvirt-sock"}},
	} {
		target, err := Parse(c.uri)
		require.NoError(t, err)
		assert.Equal(t, c.want, target.Sockets(c.env, c.readOnly), "%s euid %d", c.uri, c.env.EUID)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"qemu:///system", "qemu+ssh://u@h:22/system?keyfile=/k&x=%20", "qemu+tls://[::1%25eth0]:1/s?pkipath=/p", "test:///default", "a+b://c:d@e/f?g#h", "x://?;;&&==%"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		target, err := Parse(s)
		if err != nil {
			require.ErrorIs(t, err, ErrInvalid)
			return
		}
		require.NotContains(t, target.Name, "\x00")
		for _, p := range target.Sockets(Env{Getenv: func(string) string { return "" }, EUID: 1, Home: "/h", SystemDir: "/s"}, true) {
			require.True(t, strings.HasPrefix(p, "/"), p)
		}
		// What the daemon gets has no transport and is a URI that says the same again.
		if target.Name == "" || target.Driver == "remote" || strings.Contains(s, "name") || strings.Contains(s, "NAME") || strings.Contains(strings.ToLower(s), "%") {
			return
		}
		again, err := Parse(target.Name)
		require.NoError(t, err)
		require.Equal(t, target.Name, again.Name)
	})
}
