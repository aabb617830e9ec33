package unpack

import (
	"context"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestFullDisk fills the cache directory, and then the temporary directory too.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k,mode=0700"); err != nil {
		t.Skip("needs the right to mount a small tmpfs: " + err.Error())
	}
	t.Cleanup(func() { assert.NoError(t, syscall.Unmount(dir, 0)) })
	path, want := kernelFile(t, 500000)
	for range 2 {
		k, err := (&Cache{Dir: dir}).Vmlinux(context.Background(), path)
		require.NoError(t, err)
		requireContent(t, k, want)
		require.NoError(t, k.Close())
		assert.Equal(t, Uncached, k.Origin)
		assert.ErrorIs(t, k.CacheErr, syscall.ENOSPC)
		assert.Empty(t, names(t, dir, "", ""), "nothing stays behind")
		t.Setenv("TMPDIR", dir)
	}
}
