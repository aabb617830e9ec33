//go:build unix

package dial

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/uri"
)

// sessionHost is a user without a daemon, whose PATH is a directory of its own.
func sessionHost(t *testing.T) (env uri.Env, bin string, vars map[string]string) {
	env = host(t)
	bin = t.TempDir()
	vars = map[string]string{"PATH": bin, "XDG_RUNTIME_DIR": filepath.Join(env.Home, "run")}
	env.Getenv = func(k string) string { return vars[k] }
	return env, bin, vars
}

func TestStartDaemon(t *testing.T) {
	env, bin, vars := sessionHost(t)
	log := filepath.Join(t.TempDir(), "log")
	put := func(name, text string) string {
		file := filepath.Join(bin, name)
		require.NoError(t, os.WriteFile(file, []byte("#!/bin/sh\necho \"$0 $@\" >> "+log+"\n"+text+"\n"), 0o755))
		return file
	}
	started := func() string {
		text, _ := os.ReadFile(log)
		os.Remove(log)
		return string(text)
	}
	libvirtd := put("libvirtd", "exit 0")
	virtqemud := put("virtqemud", "echo 'no room' >&2; exit 3")
	with := Options{Env: env, StartDaemon: true}

	// Not unless it is wanted, not for the system's daemon or a socket that is
	// named, not for root, not against the environment.
	root := env
	root.EUID = 0
	for _, c := range []struct {
		uri string
		o   Options
	}{{"qemu:///session", Options{Env: env}}, {"qemu:///system", with}, {"qemu:///session?socket=/nowhere/s", with}, {"qemu:///session", Options{Env: root, StartDaemon: true}}} {
		conn, err := dialURI(within(t), t, c.uri, c.o)
		mustFail(t, conn, err, ErrUnreachable, "no socket")
		assert.Empty(t, started(), c.uri)
	}
	vars["LIBVIRT_AUTOSTART"] = "0"
	conn, err := dialURI(within(t), t, "qemu:///session", with)
	mustFail(t, conn, err, ErrUnreachable, "no socket")
	assert.Empty(t, started())
	delete(vars, "LIBVIRT_AUTOSTART")

	// A daemon that claims to run and does not; one that says why not.
	conn, err = dialURI(within(t), t, "qemu:///session", with)
	mustFail(t, conn, err, ErrUnreachable, "no socket")
	assert.Equal(t, libvirtd+" --daemon --timeout 120\n", started())
	conn, err = dialURI(within(t), t, "qemu:///session?mode=direct", with)
	mustFail(t, conn, err, ErrUnreachable, virtqemud+" cannot be started: no room: exit status 3")
	assert.Equal(t, virtqemud+" --daemon --timeout 120\n", started())
	vars["VIRTD_PATH"] = filepath.Join(bin, "other")
	conn, err = dialURI(within(t), t, "qemu:///session", with)
	mustFail(t, conn, err, ErrUnreachable, vars["VIRTD_PATH"]+" cannot be started")
	delete(vars, "VIRTD_PATH")

	// One that does not get ready.
	put("libvirtd", "exec sleep 60")
	mustEnd(t, "during starting "+libvirtd, func(ctx context.Context) (net.Conn, error) { return dialURI(ctx, t, "qemu:///session", with) })
}

// A real session daemon, for a user who has none.
func TestStartRealDaemon(t *testing.T) {
	dir := os.Getenv(asNobody)
	if dir == "" {
		if _, err := exec.LookPath("libvirtd"); err != nil {
			t.Skip("needs libvirt: apt-get install libvirt-daemon")
		}
		if os.Geteuid() != 0 {
			t.Skip("needs root, to be a user who has no daemon")
		}
		var err error
		dir, err = os.MkdirTemp("", "d")
		require.NoError(t, err)
		defer os.RemoveAll(dir)
		require.NoError(t, os.Chown(dir, 65534, 65534))
		out, err := runAsNobody(t, dir, "TestStartRealDaemon")
		// The daemon is nobody's child: it is found by its own file.
		pids, _ := filepath.Glob(filepath.Join(dir, "run/libvirt/*.pid"))
		for _, file := range pids {
			text, _ := os.ReadFile(file)
			if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
				require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
				require.Eventually(t, func() bool {
					// A dead process that nobody waited for yet has no command line.
					line, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
					return err != nil || len(line) == 0
				}, patience, 10*time.Millisecond)
			}
		}
		require.NoError(t, err, out)
		require.Contains(t, out, "--- PASS: TestStartRealDaemon")
		require.NotEmpty(t, pids)
		return
	}
	for _, name := range []string{"XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"} {
		os.Setenv(name, filepath.Join(dir, "run"))
	}
	os.Setenv("HOME", dir)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "run"), 0o700))
	env := uri.HostEnv()
	conn, err := dialURI(within(t), t, "qemu:///session?mode=legacy", Options{Env: env, StartDaemon: true})
	require.NoError(t, err)
	// It speaks: a call of AUTH_LIST has a reply.
	_, err = conn.Write([]byte{0, 0, 0, 28, 0x20, 0, 0x80, 0x86, 0, 0, 0, 1, 0, 0, 0, 66, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0})
	require.NoError(t, err)
	reply := make([]byte, 36)
	n, err := conn.Read(reply)
	require.NoError(t, err)
	require.Equal(t, 36, n)
	require.NoError(t, conn.Close())
	// Whoever comes next finds it.
	conn, err = dialURI(within(t), t, "qemu:///session?mode=legacy", Options{Env: env})
	require.NoError(t, err)
	require.NoError(t, conn.Close())
}
