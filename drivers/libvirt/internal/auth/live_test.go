package auth

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/dial"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/rpc"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/uri"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/xdr"
	"github.com/polyvisor/polyvisor/internal/libvirttest"
)

// hostname authenticates to a real daemon, opens the hypervisor and asks for the
// host's name.
func hostname(t *testing.T, s string, readOnly bool, env uri.Env) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	target, err := uri.Resolve(s, env)
	require.NoError(t, err)
	conn, err := dial.Dial(ctx, target, dial.Options{Env: env, ReadOnly: readOnly})
	if err != nil {
		return "", err
	}
	c := rpc.New(conn, rpc.Options{})
	defer c.Close()
	if err := Authenticate(ctx, c, Options{Target: target, Env: env}); err != nil {
		return "", err
	}
	const open, getHostname = 1, 59
	flags := uint32(0)
	if readOnly {
		flags = 1
	}
	if err := c.Call(ctx, program, open, func(w *xdr.Writer) { w.OptString(&target.Name); w.Uint32(flags) }, nil); err != nil {
		return "", err
	}
	var name string
	err = c.Call(ctx, program, getHostname, nil, func(r *xdr.Reader) { name = r.String() })
	return name, err
}

// plainHost is this process's environment, with a home of its own.
func plainHost(t *testing.T) uri.Env {
	env := uri.HostEnv()
	dir := t.TempDir()
	env.Getenv = func(string) string { return "" }
	env.Home, env.Etc = filepath.Join(dir, "home"), filepath.Join(dir, "etc")
	return env
}

func TestRealDaemon(t *testing.T) {
	d := libvirttest.Start(t, libvirttest.Options{TCP: true, TLS: true, SSH: true})
	want, err := os.Hostname()
	require.NoError(t, err)
	for _, by := range []libvirttest.Transport{libvirttest.Unix, libvirttest.TCP, libvirttest.TLS, libvirttest.SSH, libvirttest.SSHProgram} {
		for _, hypervisor := range []string{"test", "qemu"} {
			s := d.URI(hypervisor, by)
			got, err := hostname(t, s, false, plainHost(t))
			if assert.NoError(t, err, s) {
				assert.Equal(t, want, got, s)
			}
		}
	}
	// libvirt's own client gets the same answer.
	assert.Equal(t, want+"\n", d.Virsh(t, "test", "hostname"))
	if d.System() {
		got, err := hostname(t, "test+unix:///default?socket="+d.ReadOnlySocket(), true, plainHost(t))
		require.NoError(t, err)
		assert.Equal(t, want, got)
		for _, more := range []string{"&proxy=netcat", "&proxy=native", "&mode=legacy"} {
			s := d.URI("test", libvirttest.SSH) + more
			got, err := hostname(t, s, true, plainHost(t))
			require.NoError(t, err, s)
			assert.Equal(t, want, got, s)
		}
	}
	// A certificate by another CA: the daemon's own words decide.
	pki := t.TempDir()
	require.NoError(t, libvirttest.WritePKI(pki))
	ca, err := os.ReadFile(filepath.Join(d.PKIPath(), "cacert.pem"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(pki, "cacert.pem"), ca, 0o600))
	_, err = hostname(t, "test+tls://"+d.TLSAddr()+"/default?pkipath="+pki, false, plainHost(t))
	require.ErrorIs(t, err, dial.ErrPermission)
	assert.Contains(t, err.Error(), "does not accept our client certificate")
	// TLS on a port that has none, and the other way round.
	_, err = hostname(t, "test+tls://"+d.TCPAddr()+"/default?pkipath="+d.PKIPath(), false, plainHost(t))
	require.Error(t, err)
	_, err = hostname(t, "test+tcp://"+d.TLSAddr()+"/default", false, plainHost(t))
	require.Error(t, err)
}

func TestRealSASL(t *testing.T) {
	for _, mechanism := range []string{"SCRAM-SHA-256", "SCRAM-SHA-512", "SCRAM-SHA-1", "PLAIN", "DIGEST-MD5"} {
		t.Run(mechanism, func(t *testing.T) {
			d := libvirttest.Start(t, libvirttest.Options{TLS: true, SASL: &libvirttest.SASL{Mechanisms: []string{mechanism}, Users: map[string]string{"joe": "sesame"}, Unix: true, TLS: true}})
			env := plainHost(t)
			conf := filepath.Join(env.UserConfigDir(), "auth.conf")
			write := func(password string) {
				require.NoError(t, os.MkdirAll(filepath.Dir(conf), 0o700))
				require.NoError(t, os.WriteFile(conf, []byte("[credentials-a]\nauthname=joe\npassword="+password+"\n[auth-libvirt-default]\ncredentials=a\n"), 0o600))
			}
			for _, by := range []libvirttest.Transport{libvirttest.Unix, libvirttest.TLS} {
				write("sesame")
				_, err := hostname(t, d.URI("test", by), false, env)
				if mechanism == "DIGEST-MD5" {
					require.ErrorIs(t, err, ErrUnsupported)
					assert.Contains(t, err.Error(), "the daemon wants SASL by DIGEST-MD5")
					continue
				}
				require.NoError(t, err)
				write("hunter2")
				_, err = hostname(t, d.URI("test", by), false, env)
				require.ErrorIs(t, err, ErrDenied)
				assert.Contains(t, err.Error(), "joe")
				assert.NotContains(t, err.Error(), "hunter2")
				require.NoError(t, os.Remove(conf))
				_, err = hostname(t, d.URI("test", by), false, env)
				require.ErrorIs(t, err, ErrConfig)
			}
		})
	}
}
