//go:build unix

package dial

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestUnixPermission(t *testing.T) {
	path := os.Getenv(asNobody)
	if path == "" && os.Geteuid() == 0 {
		// Root may do everything: have another user try.
		dir, err := os.MkdirTemp("", "dial")
		require.NoError(t, err)
		defer os.RemoveAll(dir)
		require.NoError(t, os.Chmod(dir, 0o755))
		self, err := os.ReadFile("/proc/self/exe")
		if err != nil {
			t.Skip("needs /proc to run itself as another user")
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, "test"), self, 0o755))
		socket := filepath.Join(dir, "s")
		serveUnix(t, socket, echo)
		require.NoError(t, os.Chmod(socket, 0o700))
		cmd := exec.Command(filepath.Join(dir, "test"), "-test.run=^TestUnixPermission$", "-test.v")
		cmd.Env = append(os.Environ(), asNobody+"="+socket)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		cmd.Dir = "/"
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
		require.Contains(t, string(out), "--- PASS: TestUnixPermission")
		return
	}
	if path == "" {
		path = filepath.Join(t.TempDir(), "s")
		serveUnix(t, path, echo)
		require.NoError(t, os.Chmod(path, 0))
	}
	conn, err := dialURI(within(t), t, "qemu:///system?socket="+path, Options{})
	mustFail(t, conn, err, ErrPermission, "permission denied; its owner and mode")

	env := host(t)
	env.SystemDir = t.TempDir()
	require.NoError(t, os.Symlink(path, filepath.Join(env.SystemDir, "libvirt-sock")))
	conn, err = dialURI(within(t), t, "qemu:///system", Options{Env: env})
	mustFail(t, conn, err, ErrPermission, "group libvirt")
}
