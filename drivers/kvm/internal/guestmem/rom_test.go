package guestmem

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestROM(t *testing.T) {
	for _, n := range []uint64{0, PageSize + 1, 2 << 30} {
		_, err := NewROM(n)
		require.ErrorContains(t, err, "read-only memory")
	}
	r, err := NewROM(3 * PageSize)
	require.NoError(t, err)
	require.Equal(t, make([]byte, 3*PageSize), r.Bytes())
	require.NotZero(t, r.HostAddr())
	require.NoError(t, r.Close())
}

func TestHole(t *testing.T) {
	for _, n := range []uint64{0, 1, HoleEnd} {
		_, err := New(PageSize, WithHole(n))
		require.ErrorContains(t, err, "hole in guest memory")
	}
	m, err := New(3*PageSize, WithHole(2*PageSize))
	require.NoError(t, err)
	defer m.Close()
	r := m.Regions()
	require.Len(t, r, 2)
	require.EqualValues(t, 2*PageSize, r[0].Size)
	require.EqualValues(t, HoleEnd, r[1].GuestAddr)
	_, err = m.Slice(2*PageSize, 1)
	require.Error(t, err)
	_, err = m.Slice(HoleEnd, PageSize)
	require.NoError(t, err)
}
