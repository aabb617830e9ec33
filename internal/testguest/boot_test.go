//go:build linux && amd64

package testguest

import (
	"bytes"
	"context"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// bootLimit bounds a whole boot under emulation; it is no expectation.
const bootLimit = 3 * time.Minute

// console collects what a guest prints and lets a test wait for a text.
type console struct {
	mu   sync.Mutex
	more chan struct{}
	text bytes.Buffer
	done bool
}

func (c *console) copyFrom(r io.Reader) {
	buf := make([]byte, 4096)
	for {
		n, err := r.Read(buf)
		c.mu.Lock()
		c.text.Write(buf[:n])
		c.done = err != nil
		close(c.more)
		c.more = make(chan struct{})
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (c *console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
}

// wait returns the output once it contains text.
func (c *console) wait(t *testing.T, ctx context.Context, text string) string {
	t.Helper()
	for {
		c.mu.Lock()
		out, done, more := c.text.String(), c.done, c.more
		c.mu.Unlock()
		switch {
		case strings.Contains(out, text):
			return out
		case done:
			t.Fatalf("the guest ended without printing %q; it printed:\n%s", text, out)
		}
		select {
		case <-more:
		case <-ctx.Done():
			t.Fatalf("no %q from the guest: %v; it printed:\n%s", text, ctx.Err(), out)
		}
	}
}

// machine is a guest under QEMU.
type machine struct {
	console
	in      io.Writer
	monitor string
	ended   chan error
}

// boot starts the newest installed kernel with our initial RAM disk under
// QEMU's emulation.
func boot(t *testing.T, ctx context.Context, params string) *machine {
	t.Helper()
	qemu, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Skipf("needs QEMU: %v; apt-get install qemu-system-x86", err)
	}
	kernel, release, err := FindKernel()
	if err != nil {
		t.Skipf("needs an installed kernel: %v", err)
	}
	dir := t.TempDir()
	initrd, err := WriteInitramfs(ctx, dir, Options{Release: release, Modules: ButtonModules()})
	require.NoError(t, err)
	m := &machine{monitor: filepath.Join(dir, "mon"), ended: make(chan error, 1)}
	m.more = make(chan struct{})
	cmd := exec.CommandContext(ctx, qemu, "-accel", "tcg", "-smp", "2", "-m", "256", "-nodefaults", "-display", "none", "-no-reboot",
		"-serial", "stdio", "-monitor", "unix:"+m.monitor+",server,nowait",
		"-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0 quiet panic=-1 "+params)
	cmd.WaitDelay = 10 * time.Second
	m.in, err = cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	require.NoError(t, cmd.Start())
	go func() {
		m.copyFrom(out)
		m.ended <- cmd.Wait()
	}()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("QEMU said: %s", complaints.String())
		}
	})
	return m
}

func (m *machine) send(t *testing.T, line string) {
	t.Helper()
	_, err := io.WriteString(m.in, line+"\n")
	require.NoError(t, err)
}

// end waits until QEMU has ended by itself.
func (m *machine) end(t *testing.T, ctx context.Context) {
	t.Helper()
	select {
	case err := <-m.ended:
		require.NoError(t, err, "console:\n%s", m.String())
	case <-ctx.Done():
		t.Fatalf("the guest did not end: %v; it printed:\n%s", ctx.Err(), m.String())
	}
}

func limited(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	t.Cleanup(cancel)
	return ctx
}

func TestBootCommands(t *testing.T) {
	ctx := limited(t)
	m := boot(t, ctx, "testguest.auto=uptime")
	out := m.wait(t, ctx, Ready)
	assert.Contains(t, out, FirstLine)
	assert.Contains(t, out, Prefix+"uptime_ns=", "testguest.auto")
	assert.Empty(t, Errors(out))
	m.send(t, "echo one two")
	m.wait(t, ctx, "\none two")
	m.send(t, "bogus")
	m.wait(t, ctx, Prefix+"error=unknown command bogus")
	m.send(t, "report")
	out = m.wait(t, ctx, Prefix+"report=done")
	r, err := ParseReport(out)
	require.NoError(t, err)
	_, release, err := FindKernel()
	require.NoError(t, err)
	assert.Equal(t, release, r.Release)
	assert.Equal(t, 2, r.CPUs)
	assert.Less(t, r.MemTotal, uint64(256<<20))
	assert.Greater(t, r.MemTotal, uint64(128<<20))
	assert.LessOrEqual(t, r.MemAvailable, r.MemTotal)
	assert.Positive(t, r.Uptime)
	assert.Contains(t, r.CommandLine, "testguest.auto=uptime")
	assert.NotEmpty(t, r.Clocksource)
	m.send(t, "poweroff")
	m.end(t, ctx)
	assert.Contains(t, m.String(), "reboot: Power down")
}

func TestBootPowerButton(t *testing.T) {
	ctx := limited(t)
	m := boot(t, ctx, "")
	m.wait(t, ctx, Ready)
	m.send(t, "spin all") // a busy guest obeys as well
	m.wait(t, ctx, Prefix+"spinning")
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", m.monitor)
	require.NoError(t, err)
	defer c.Close()
	_, err = io.WriteString(c, "system_powerdown\n")
	require.NoError(t, err)
	m.wait(t, ctx, Prefix+"power button")
	m.end(t, ctx)
	assert.Contains(t, m.String(), "reboot: Power down")
}

func TestBootEndings(t *testing.T) {
	for cmd, says := range map[string]string{"reboot": "reboot: Restarting system", "panic": "Kernel panic - not syncing: sysrq triggered crash"} {
		t.Run(cmd, func(t *testing.T) {
			ctx := limited(t)
			m := boot(t, ctx, "testguest.auto="+cmd) // -no-reboot ends QEMU at the reset
			m.end(t, ctx)
			assert.Contains(t, m.String(), says)
		})
	}
}
