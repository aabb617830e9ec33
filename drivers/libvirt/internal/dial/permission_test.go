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
		socket := filepath.Join(dir, "s")
		serveUnix(t, socket, echo)
		require.NoError(t, os.Chmod(socket, 0o700))
		out, err := runAsNobody(t, socket, "TestUnixPermission")
		require.NoError(t, err, out)
		require.Contains(t, out, "--- PASS: TestUnixPermission")
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

// runAsNobody runs one test in a copy of this program as the user nobody, with
// what for the variable asNobody.
func runAsNobody(t *testing.T, what, test string) (string, error) {
	t.Helper()
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Skip("needs /proc to run itself as another user")
	}
	dir, err := os.MkdirTemp("", "dial")
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	require.NoError(t, os.Chmod(dir, 0o755))
	program := filepath.Join(dir, "test")
	require.NoError(t, os.WriteFile(program, self, 0o755))
	cmd := exec.Command(program, "-test.run=^"+test+"$", "-test.v")
	cmd.Env = append(os.Environ(), asNobody+"="+what)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	cmd.Dir = "/"
	out, err := cmd.CombinedOutput()
	return string(out), err
}
