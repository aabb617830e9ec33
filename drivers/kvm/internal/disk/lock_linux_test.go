package disk

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func newFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.img")
	require.NoError(t, os.WriteFile(path, make([]byte, 1<<20), 0o600))
	return path
}

func reopen(t *testing.T, path string, flags int) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, flags, 0)
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

func TestLock(t *testing.T) {
	for _, tt := range []struct{ first, second, ok bool }{
		{first: false, second: false, ok: false},
		{first: false, second: true, ok: false},
		{first: true, second: false, ok: false},
		{first: true, second: true, ok: true},
	} {
		t.Run(fmt.Sprintf("shared %t then shared %t", tt.first, tt.second), func(t *testing.T) {
			path := newFile(t)
			a, b := reopen(t, path, os.O_RDWR), reopen(t, path, os.O_RDWR)
			require.NoError(t, Lock(a, tt.first))
			require.NoError(t, Lock(a, tt.first), "once more by the same")
			err := Lock(b, tt.second)
			if tt.ok {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, ErrLocked)
			assert.Contains(t, err.Error(), path)
			assert.Contains(t, err.Error(), "stop that")

			// The failed try left nothing behind: the first can still change its mind, and its end frees the file.
			require.NoError(t, Lock(a, !tt.first))
			require.NoError(t, Lock(a, tt.first))
			a.Close()
			require.NoError(t, Lock(b, tt.second))
		})
	}
}

// A lock stays until the last descriptor of the description is closed.
func TestLockIsInherited(t *testing.T) {
	path := newFile(t)
	a, b := reopen(t, path, os.O_RDWR), reopen(t, path, os.O_RDWR)
	require.NoError(t, Lock(a, false))
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	cmd.ExtraFiles = []*os.File{a}
	require.NoError(t, cmd.Start())
	a.Close()
	require.ErrorIs(t, Lock(b, false), ErrLocked)
	in.Close()
	require.NoError(t, cmd.Wait())
	require.NoError(t, Lock(b, false))
}

func TestLockNeedsAWritableDescriptor(t *testing.T) {
	f := reopen(t, newFile(t), os.O_RDONLY)
	err := Lock(f, false)
	require.Error(t, err)
	assert.NotErrorIs(t, err, ErrLocked)
	require.NoError(t, Lock(f, true))
}
