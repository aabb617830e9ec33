package libvirttest

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// domain is a QEMU domain that is never started.
const domain = `<domain type='qemu'><name>%s</name><memory unit='MiB'>64</memory><os><type arch='x86_64' machine='q35'>hvm</type></os></domain>`

func define(t *testing.T, d *Daemon, name string) {
	t.Helper()
	file := t.TempDir() + "/domain.xml"
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, domain, name), 0o600))
	d.Virsh(t, "qemu", "define", file)
}

func names(t *testing.T, d *Daemon, hypervisor string) []string {
	t.Helper()
	return strings.Fields(d.Virsh(t, hypervisor, "list", "--all", "--name"))
}

func TestStart(t *testing.T) {
	d := Start(t, Options{})
	assert.Equal(t, []string{"test"}, names(t, d, "test"))
	assert.Empty(t, names(t, d, "qemu"))
	define(t, d, "one")
	assert.Equal(t, []string{"one"}, names(t, d, "qemu"))
	assert.Contains(t, d.Virsh(t, "qemu", "capabilities"), "<domain type='qemu'")
	assert.NotContains(t, d.Virsh(t, "qemu", "domcapabilities"), "<domain>kvm</domain>", "/dev/kvm is masked")
	if d.System() {
		out, err := d.TryVirsh(t.Context(), "qemu+unix:///system?socket="+d.ReadOnlySocket(), "-r", "list", "--all", "--name")
		require.NoError(t, err)
		assert.Equal(t, "one", strings.TrimSpace(out))
	}
}

func TestTransports(t *testing.T) {
	d := Start(t, Options{TCP: true, TLS: true, SSH: true})
	define(t, d, "here")
	for _, by := range []Transport{Unix, TCP, TLS, SSHProgram} {
		t.Run(string(by), func(t *testing.T) {
			for hypervisor, want := range map[string]string{"test": "test", "qemu": "here"} {
				out, err := d.TryVirsh(t.Context(), d.URI(hypervisor, by), "list", "--all", "--name")
				require.NoError(t, err)
				assert.Equal(t, want, strings.TrimSpace(out), hypervisor)
			}
		})
	}
	// libvirt's own ssh clients take keyfile and known_hosts from the URI.
	for _, library := range []string{"libssh", "libssh2"} {
		t.Run(library, func(t *testing.T) {
			uri := strings.Replace(d.URI("qemu", SSH), "+ssh:", "+"+library+":", 1) + "&sshauth=privkey"
			out, err := d.TryVirsh(t.Context(), uri, "list", "--all", "--name")
			require.NoError(t, err)
			assert.Equal(t, "here", strings.TrimSpace(out))
		})
	}
	t.Run("stranger", func(t *testing.T) {
		strange := t.TempDir()
		require.NoError(t, WritePKI(strange))
		_, err := d.TryVirsh(t.Context(), "test+tls://"+d.TLSAddr()+"/default?pkipath="+strange, "list")
		require.ErrorContains(t, err, "ertificate")
	})
}

func TestSASL(t *testing.T) {
	for _, by := range []Transport{Unix, TLS} {
		for _, mechanism := range []string{"SCRAM-SHA-256", "PLAIN"} {
			t.Run(string(by)+"/"+mechanism, func(t *testing.T) {
				s := SASL{Mechanisms: []string{mechanism}, Users: map[string]string{"ann": "secret"}, Unix: by == Unix, TLS: by == TLS}
				d := Start(t, Options{TLS: true, SASL: &s})
				other := map[Transport]Transport{Unix: TLS, TLS: Unix}[by]
				_, err := d.TryVirsh(t.Context(), d.URI("test", other), "list", "--name")
				require.NoError(t, err, "not asked for there")
				for password, good := range map[string]bool{"secret": true, "wrong": false} {
					text := fmt.Sprintf("[credentials-x]\nauthname=ann\nusername=ann\npassword=%s\n[auth-libvirt-default]\ncredentials=x\n", password)
					file := t.TempDir() + "/auth.conf"
					require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
					out, err := d.TryVirsh(t.Context(), d.URI("test", by)+"&authfile="+file, "list", "--name")
					if good {
						require.NoError(t, err)
						assert.Equal(t, "test", strings.TrimSpace(out))
					} else {
						require.ErrorContains(t, err, "authentication")
					}
				}
			})
		}
	}
}

func TestSettings(t *testing.T) {
	d := Start(t, Options{Settings: map[string]string{"max_clients": "1", "max_anonymous_clients": "1"}})
	c, err := net.Dial("unix", d.Socket())
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, probeCallOn(c))
	other, err := net.Dial("unix", d.Socket())
	require.NoError(t, err)
	defer other.Close()
	require.NoError(t, other.SetDeadline(time.Now().Add(time.Second/4)))
	require.Error(t, probeCallOn(other), "no second client")
	require.NoError(t, other.Close())
	require.NoError(t, c.Close())
	again, err := net.Dial("unix", d.Socket())
	require.NoError(t, err)
	defer again.Close()
	require.NoError(t, probeCallOn(again))
}

func TestRestart(t *testing.T) {
	d := Start(t, Options{TCP: true})
	define(t, d, "kept")
	uri := d.URI("qemu", TCP)
	for name, end := range map[string]func() error{"stopped": d.Stop, "killed": d.Kill, "nothing": func() error { return nil }} {
		require.NoError(t, end(), name)
		assert.Equal(t, name == "nothing", d.Running())
		require.NoError(t, d.Restart(), name)
		assert.Equal(t, []string{"kept"}, names(t, d, "qemu"), name)
		assert.Equal(t, uri, d.URI("qemu", TCP))
		out, err := d.TryVirsh(t.Context(), uri, "list", "--all", "--name")
		require.NoError(t, err)
		assert.Equal(t, "kept", strings.TrimSpace(out))
	}
}

// A client of a killed daemon is told by the end of its connection, one of a frozen daemon by nothing.
func TestKillAndFreeze(t *testing.T) {
	d := Start(t, Options{})
	c, err := net.Dial("unix", d.Socket())
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, probeCallOn(c))

	require.NoError(t, d.Signal(syscall.SIGSTOP))
	frozen, err := net.Dial("unix", d.Socket()) // the kernel takes it
	require.NoError(t, err)
	defer frozen.Close()
	require.NoError(t, frozen.SetDeadline(time.Now().Add(time.Second/4)))
	require.ErrorIs(t, probeCallOn(frozen), os.ErrDeadlineExceeded)
	require.NoError(t, d.Signal(syscall.SIGCONT))
	require.NoError(t, frozen.SetDeadline(time.Now().Add(startLimit)))
	_, err = frozen.Read(make([]byte, 1)) // now it answers
	require.NoError(t, err)

	exited := d.Exited()
	require.NoError(t, d.Signal(syscall.SIGSTOP))
	require.NoError(t, d.Kill())
	<-exited
	assert.False(t, d.Running())
	require.NoError(t, c.SetDeadline(time.Now().Add(startLimit)))
	_, err = io.ReadAll(c)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
	_, err = net.Dial("unix", d.Socket())
	require.Error(t, err)
	require.NoError(t, d.Kill(), "a dead daemon does not mind")
}

func TestTwo(t *testing.T) {
	a, b := Start(t, Options{TCP: true}), Start(t, Options{TCP: true})
	define(t, a, "a")
	define(t, b, "b")
	assert.Equal(t, []string{"a"}, names(t, a, "qemu"))
	assert.Equal(t, []string{"b"}, names(t, b, "qemu"))
	require.NoError(t, a.Close())
	assert.Equal(t, []string{"b"}, names(t, b, "qemu"))
	require.NoError(t, a.Close(), "twice")
}
