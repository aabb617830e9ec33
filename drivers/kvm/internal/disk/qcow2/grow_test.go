package qcow2

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// A disk that grows past what its refcount table can count gets a longer one, also across power cuts.
func TestRefcountTableGrows(t *testing.T) {
	m := &memory{}
	require.NoError(t, Create(m, 512, CreateOptions{ClusterSize: 512}))
	im, err := open(m, "memory", Options{})
	require.NoError(t, err)
	require.NoError(t, im.Resize(24<<20))
	before := im.h.refClusters
	want := bytes.Repeat([]byte("polyvisor......."), 20<<16)
	for off := 0; off < len(want); off += 1 << 20 {
		start, base := len(m.ops), bytes.Clone(m.data)
		require.NoError(t, im.Flush())
		_, err := im.WriteAt(want[off:off+1<<20], int64(off))
		require.NoError(t, err)
		require.NoError(t, im.Flush())
		if im.h.refClusters != before && off%(4<<20) == 0 || off == 8<<20 || off == 7<<20 {
			rnd := rand.New(rand.NewPCG(1, uint64(off)))
			ops := m.ops[start:]
			for range 12 {
				data := afterCut(base, ops[:rnd.IntN(len(ops)+1)], rnd)
				cut, err := open(&memory{data: data}, "cut", Options{ReadOnly: true})
				require.NoError(t, err)
				r, err := cut.Check(t.Context(), false, nil)
				require.NoError(t, err)
				require.Zero(t, r.Corruptions, r.Problems)
			}
		}
		m.ops = nil
	}
	require.Greater(t, im.h.refClusters, before)
	require.True(t, bytes.Equal(want, contents(t, im)[:len(want)]))
	require.NoError(t, im.Close())
	im, err = open(&memory{data: m.data}, "again", Options{ReadOnly: true})
	require.NoError(t, err)
	requireSound(t, im, 0)
	qemuCheck(t, m.data, 0)
}
