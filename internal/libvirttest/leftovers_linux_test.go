package libvirttest

import (
	"bufio"
	"fmt"
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
)

// entries are the roots of daemons of this user.
func entries(t *testing.T) []string {
	t.Helper()
	tr, err := newTree()
	require.NoError(t, err)
	defer func() { require.NoError(t, tr.remove()) }()
	found, err := filepath.Glob(filepath.Dir(tr.root) + "/pvl-*")
	require.NoError(t, err)
	var own []string
	for _, f := range found {
		if info, err := os.Stat(f); err == nil && f != tr.root && int(info.Sys().(*syscall.Stat_t).Uid) == os.Getuid() {
			own = append(own, f)
		}
	}
	return own
}

// processes lists what runs with the root in its command line, environment or mounts.
func processes(t *testing.T, root string) (found []string) {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	require.NoError(t, err)
	for _, dir := range dirs {
		if dir == "/proc/"+strconv.Itoa(os.Getpid()) {
			continue
		}
		for _, name := range []string{"cmdline", "environ", "mountinfo"} {
			text, err := os.ReadFile(dir + "/" + name)
			if err == nil && strings.Contains(string(text), root) {
				found = append(found, dir+" "+strings.SplitN(string(text), "\x00", 2)[0])
				break
			}
		}
	}
	return found
}

func TestBadSettings(t *testing.T) {
	Start(t, Options{}) // or be skipped
	before := entries(t)
	_, err := Run(t.Context(), Options{Settings: map[string]string{"max_clients": `"many"`}})
	require.ErrorContains(t, err, "max_clients")
	require.NotErrorIs(t, err, ErrMissing)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	_, port, err := net.SplitHostPort(taken.Addr().String())
	require.NoError(t, err)
	_, err = Run(t.Context(), Options{TCP: true, Settings: map[string]string{"tcp_port": strconv.Quote(port)}})
	require.ErrorContains(t, err, "ddress already in use", "Run knows it by this")
	_, err = Run(t.Context(), Options{Drivers: []string{"bogus"}})
	require.ErrorIs(t, err, ErrMissing)
	assert.Equal(t, before, entries(t), "files are left")
}

func TestNothingIsLeft(t *testing.T) {
	d := Start(t, Options{TCP: true, TLS: true, SSH: true})
	require.NotEmpty(t, processes(t, d.tree.root), "the search finds nothing at all")
	require.NoError(t, d.Close())
	assert.Empty(t, processes(t, d.tree.root))
	assert.NoDirExists(t, d.tree.root)
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	require.NoError(t, err)
	assert.NotContains(t, string(mounts), d.tree.root)
}

const (
	childVariable = "POLYVISOR_LIBVIRTTEST_CHILD"
	rootPrefix    = "root: "
)

// TestChild is what the other test kills.
func TestChild(t *testing.T) {
	if os.Getenv(childVariable) == "" {
		t.Skip("it is run by TestKilledProgram")
	}
	d := Start(t, Options{SSH: true})
	fmt.Println(rootPrefix + d.tree.root)
	select {}
}

// Whatever ends a program, its daemons do not outlive it.
func TestKilledProgram(t *testing.T) {
	Start(t, Options{}) // or be skipped
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestChild$", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), childVariable+"=1")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	root := ""
	for s := bufio.NewScanner(out); root == "" && s.Scan(); {
		root, _ = strings.CutPrefix(s.Text(), rootPrefix)
		if root == s.Text() {
			root = ""
		}
	}
	require.NotEmpty(t, root, "it did not start a daemon")
	require.NotEmpty(t, processes(t, root))
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	for deadline := time.Now().Add(startLimit); len(processes(t, root)) > 0; time.Sleep(10 * time.Millisecond) {
		require.True(t, time.Now().Before(deadline), "still there: %v", processes(t, root))
	}
	assert.NoDirExists(t, root)
}

// A user who is not root has a session daemon, and all the same tests.
func TestOtherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("the other tests are run by such a user")
	}
	Start(t, Options{}) // or be skipped
	const nobody = 65534
	dir, err := os.MkdirTemp("", "pvu-")
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	require.NoError(t, os.Chmod(dir, 0o755))
	self, err := os.ReadFile("/proc/self/exe")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(dir+"/test", self, 0o755))
	require.NoError(t, os.Chmod(dir+"/test", 0o755))
	cmd := exec.Command(dir+"/test", "-test.v", "-test.timeout=5m", "-test.run=^Test(Start|Transports|Restart|NothingIsLeft)$")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	text, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", text)
	if strings.Contains(string(text), "not permitted") && strings.Contains(string(text), "--- SKIP: TestStart") {
		t.Skipf("user namespaces are not permitted here:\n%s", text)
	}
	assert.Contains(t, string(text), "--- PASS: TestStart")
	assert.Contains(t, string(text), "--- PASS: TestTransports")
}
