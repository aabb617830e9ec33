//go:build linux

package vmmproc

import (
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const sigTERM = unix.SIGTERM

func itoa(n int) string { return strconv.Itoa(n) }

// dupTo makes a descriptor that programs inherit.
func dupTo(t *testing.T, f *os.File, fd int) {
	t.Helper()
	require.NoError(t, unix.Dup3(int(f.Fd()), fd, 0))
	t.Cleanup(func() { unix.Close(fd) })
}

func sid(t *testing.T, pid int) int {
	t.Helper()
	n, err := unix.Getsid(pid)
	require.NoError(t, err)
	return n
}
