package libvirttest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/internal/testguest"
)

// bootLimit bounds a boot under emulation; it is no expectation.
const bootLimit = 3 * time.Minute

// eventually waits for something that an emulated machine does.
func eventually(t *testing.T, what string, cond func() bool, log string) {
	t.Helper()
	for deadline := time.Now().Add(bootLimit); !cond(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(log)
			t.Fatalf("%s: not within %v; the guest's console:\n%s", what, bootLimit, text)
		}
	}
}

// A machine boots to its init, outlives libvirtd, is found again, and obeys its power button.
func TestGuest(t *testing.T) {
	d := Start(t, Options{})
	g := NewGuest(t, "guest<&>")
	dir := t.TempDir()
	g.ConsoleLog = filepath.Join(dir, "console.log")
	g.Memory, g.VCPUs, g.Cmdline = 256, 2, "testguest.auto=report"
	file := filepath.Join(dir, "guest.xml")
	require.NoError(t, os.WriteFile(file, []byte(g.XML()), 0o600))
	d.Virsh(t, "qemu", "define", file)
	d.Virsh(t, "qemu", "start", g.Name)
	console := func() string {
		text, err := os.ReadFile(g.ConsoleLog)
		require.NoError(t, err)
		return string(text)
	}
	eventually(t, "boot", func() bool { return strings.Contains(console(), testguest.Ready) }, g.ConsoleLog)
	r, err := testguest.ParseReport(console())
	require.NoError(t, err)
	assert.Equal(t, g.Release, r.Release)
	assert.Equal(t, 2, r.CPUs)
	assert.Less(t, r.MemTotal, uint64(256<<20))
	assert.Greater(t, r.MemTotal, uint64(128<<20))

	require.NoError(t, d.Kill())
	require.NoError(t, d.Restart())
	eventually(t, "found again", func() bool { return strings.TrimSpace(d.Virsh(t, "qemu", "domstate", g.Name)) == "running" }, g.ConsoleLog)
	d.Virsh(t, "qemu", "shutdown", g.Name)
	eventually(t, "power off", func() bool { return strings.TrimSpace(d.Virsh(t, "qemu", "domstate", g.Name)) == "shut off" }, g.ConsoleLog)
	assert.Contains(t, console(), testguest.Prefix+"power button")
	assert.Equal(t, "shut off (shutdown)", strings.TrimSpace(d.Virsh(t, "qemu", "domstate", "--reason", g.Name)))
}

// A running machine ends with its daemon's Close.
func TestCloseEndsMachines(t *testing.T) {
	d := Start(t, Options{})
	g := NewGuest(t, "busy")
	g.Cmdline = "testguest.auto=spin"
	file := filepath.Join(t.TempDir(), "guest.xml")
	require.NoError(t, os.WriteFile(file, []byte(g.XML()), 0o600))
	d.Virsh(t, "qemu", "create", file)
	require.NotEmpty(t, machines(t, g.Initrd))
	require.NoError(t, d.Stop())
	require.NotEmpty(t, machines(t, g.Initrd), "machines outlive libvirtd")
	require.NoError(t, d.Close())
	assert.Empty(t, machines(t, g.Initrd))
}

// machines lists processes with a file in their command line.
func machines(t *testing.T, file string) (found []string) {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(t, err)
	for _, l := range lines {
		if text, err := os.ReadFile(l); err == nil && strings.Contains(string(text), file) {
			found = append(found, l)
		}
	}
	return found
}
