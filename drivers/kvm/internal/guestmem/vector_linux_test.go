package guestmem

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestVector(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	require.NoError(t, err)
	defer f.Close()
	fd := int(f.Fd())

	p := [][]byte{[]byte("one"), {}, []byte("two"), []byte("three")}
	n, err := Pwritev(fd, p, 5, unix.RWF_DSYNC)
	require.NoError(t, err)
	assert.Equal(t, 11, n)
	got := [][]byte{make([]byte, 4), make([]byte, 9)}
	n, err = Preadv(fd, got, 5, 0)
	require.NoError(t, err)
	assert.Equal(t, 11, n)
	assert.Equal(t, "onetwothree\x00\x00", string(bytes.Join(got, nil)))

	n, err = Preadv(fd, nil, 0, 0)
	require.NoError(t, err)
	assert.Zero(t, n)
	_, err = Preadv(-1, got, 0, 0)
	require.ErrorIs(t, err, unix.EBADF)
	_, err = Pwritev(fd, make([][]byte, MaxVector+1), 0, 0)
	require.ErrorIs(t, err, unix.EINVAL)

	many := make([][]byte, MaxVector)
	for i := range many {
		many[i] = []byte{byte(i)}
	}
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		if n, err := Pwritev(fd, many, 0, 0); n != MaxVector || err != nil {
			t.Fatal(n, err)
		}
		if n, err := Preadv(fd, many, 0, 0); n != MaxVector || err != nil {
			t.Fatal(n, err)
		}
	}))
}

func TestAligned(t *testing.T) {
	m, err := New(1 << 20)
	require.NoError(t, err)
	defer m.Close()
	b, err := m.Slice(0, 1<<16)
	require.NoError(t, err)
	assert.True(t, Aligned(nil, 512, 512))
	assert.True(t, Aligned([][]byte{b[:512], b[4096:8192]}, 512, 512))
	assert.False(t, Aligned([][]byte{b[:512], b[4095:8191]}, 512, 512), "address")
	assert.False(t, Aligned([][]byte{b[:512], b[4096:8191]}, 512, 512), "length")
	assert.True(t, Aligned([][]byte{b[4:516]}, 4, 512))
}
