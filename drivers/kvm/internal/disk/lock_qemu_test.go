//go:build linux

package disk

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// newQEMUImage makes an image with qemu-img, for qemu-io.
func newQEMUImage(t *testing.T, format string) string {
	t.Helper()
	for _, program := range []string{"qemu-img", "qemu-io"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("no %s: apt-get install qemu-utils", program)
		}
	}
	path := filepath.Join(t.TempDir(), "disk.img")
	out, err := exec.Command("qemu-img", "create", "-q", "-f", format, path, "1M").CombinedOutput()
	require.NoError(t, err, string(out))
	return path
}

// What QEMU's programs do to each other we do to them and they to us. One who only reads a raw image minds nobody, in
// their eyes; one who reads a qcow2 image, whose tables must hold still, does.
var qemuUsers = []struct {
	name          string
	format        string
	args          []string
	withWriter    bool // is at peace with our writer
	withReader    bool
	letsUsWrite   bool // and we with it
	letsUsOnlySee bool
}{
	{"writer of raw", "raw", nil, false, false, false, false},
	{"reader of raw", "raw", []string{"-r"}, true, true, true, true},
	{"writer of qcow2", "qcow2", nil, false, false, false, false},
	{"reader of qcow2", "qcow2", []string{"-r"}, false, true, false, true},
	{"reader of qcow2 who does not mind", "qcow2", []string{"-r", "-U"}, true, true, true, true},
}

func TestLockKeepsQEMUOut(t *testing.T) {
	for _, tt := range qemuUsers {
		t.Run(tt.name, func(t *testing.T) {
			path := newQEMUImage(t, tt.format)
			f := reopen(t, path, os.O_RDWR)
			try := func(works bool) {
				t.Helper()
				args := append(append([]string{"-f", tt.format}, tt.args...), "-c", "read 0 4k", path)
				out, err := exec.Command("qemu-io", args...).CombinedOutput()
				if works {
					require.NoError(t, err, string(out))
				} else {
					require.Error(t, err, string(out))
					assert.Contains(t, string(out), "lock")
				}
			}
			try(true)
			require.NoError(t, Lock(f, false))
			try(tt.withWriter)
			require.NoError(t, Lock(f, true))
			try(tt.withReader)
			f.Close()
			try(true)
		})
	}
}

func TestQEMUKeepsUsOut(t *testing.T) {
	for _, tt := range qemuUsers {
		t.Run(tt.name, func(t *testing.T) {
			path := newQEMUImage(t, tt.format)
			// It has the image open for as long as its input lasts, and answers once it has.
			cmd := exec.Command("qemu-io", append(append([]string{"-f", tt.format}, tt.args...), path)...)
			in, err := cmd.StdinPipe()
			require.NoError(t, err)
			out, err := cmd.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			defer func() {
				in.Close()
				require.NoError(t, cmd.Wait())
			}()
			_, err = in.Write([]byte("length\n"))
			require.NoError(t, err)
			_, err = out.Read(make([]byte, 1))
			require.NoError(t, err)

			for _, as := range []struct{ shared, works bool }{{false, tt.letsUsWrite}, {true, tt.letsUsOnlySee}} {
				f := reopen(t, path, os.O_RDWR)
				err := Lock(f, as.shared)
				f.Close()
				if as.works {
					require.NoError(t, err, "shared: %t", as.shared)
				} else {
					require.ErrorIs(t, err, ErrLocked, "shared: %t", as.shared)
				}
			}
		})
	}
}
