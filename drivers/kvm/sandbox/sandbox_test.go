package sandbox

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/cavaliergopher/cpio"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/internal/agent/proto"
	"github.com/polyvisor/polyvisor/internal/doctor"
	"github.com/polyvisor/polyvisor/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// The initial RAM disk has the agent as its first process, the drivers of the Config's devices in order, and the names of busybox.
func TestPrepare(t *testing.T) {
	busybox, err := exec.LookPath("busybox")
	if err != nil || static(busybox, "") != nil {
		t.Skip("needs a static busybox (on Debian busybox-static)")
	}
	if _, err := doctor.NewestKernel("/"); err != nil {
		t.Skipf("needs a kernel: %v", err)
	}
	cfg := &polyvisor.Config{Name: "job", NICs: []polyvisor.NIC{{}}, RNG: &polyvisor.RNG{}}
	require.NoError(t, Prepare(cfg, Options{Agent: busybox})) // any static program
	f := cfg.Boot.Initrd.Open
	defer f.Close()
	require.NoFileExists(t, f.Name(), "it goes with its descriptor")
	require.NotNil(t, cfg.Vsock)
	require.NoError(t, cfg.Validate())

	_, err = f.Seek(0, io.SeekStart)
	require.NoError(t, err)
	files, links := map[string][]byte{}, map[string]string{}
	for r := cpio.NewReader(f); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		if h.Linkname != "" {
			links[h.Name] = h.Linkname
			continue
		}
		files[h.Name], err = io.ReadAll(r)
		require.NoError(t, err)
	}
	want, err := os.ReadFile(busybox)
	require.NoError(t, err)
	require.Equal(t, want, files["init"])
	require.Equal(t, want, files["bin/busybox"])
	require.Equal(t, "busybox", links["bin/sh"])
	agent, err := proto.ParseConfig(files["agent.json"])
	require.NoError(t, err)
	require.Equal(t, "job", agent.Hostname)
	for _, m := range []string{"/modules/virtio_net.ko", "/modules/virtio_pci.ko", "/modules/virtio_rng.ko", "/modules/vmw_vsock_virtio_transport.ko"} {
		require.Contains(t, agent.Modules, m)
		require.NotEmpty(t, files[m[1:]])
	}
	require.NotContains(t, agent.Modules, "/modules/virtio_blk.ko")
	_, err = json.Marshal(cfg)
	require.Error(t, err, "an open file has no name")
}

func TestPrepareRefuses(t *testing.T) {
	dynamic, err := exec.LookPath("ls")
	require.NoError(t, err)
	text := filepath.Join(t.TempDir(), "vmlinuz-0.0-none")
	require.NoError(t, os.WriteFile(text, []byte("no program"), 0o755))
	for name, c := range map[string]struct {
		cfg  polyvisor.Config
		o    Options
		is   error
		says string
	}{
		"an initial RAM disk":      {polyvisor.Config{Boot: polyvisor.Boot{Initrd: polyvisor.Path("/initrd")}}, Options{}, polyvisor.ErrInvalidConfig, "leave initrd"},
		"a firmware":               {polyvisor.Config{Boot: polyvisor.Boot{Firmware: polyvisor.Path("/fw")}}, Options{}, polyvisor.ErrInvalidConfig, "leave initrd"},
		"a kernel without version": {polyvisor.Config{Boot: polyvisor.Boot{Kernel: polyvisor.Path("/boot/bzImage")}}, Options{}, polyvisor.ErrInvalidConfig, "vmlinuz-VERSION"},
		"no such agent":            {polyvisor.Config{}, Options{Kernel: text, Agent: "/nonexistent"}, os.ErrNotExist, "PATH"},
		"a text as agent":          {polyvisor.Config{}, Options{Kernel: text, Agent: text}, polyvisor.ErrInvalidConfig, "PATH"},
		"a dynamic agent":          {polyvisor.Config{}, Options{Kernel: text, Agent: dynamic}, polyvisor.ErrInvalidConfig, "not static"},
	} {
		t.Run(name, func(t *testing.T) {
			err := Prepare(&c.cfg, c.o)
			require.ErrorIs(t, err, c.is)
			require.ErrorContains(t, err, c.says)
		})
	}
}
