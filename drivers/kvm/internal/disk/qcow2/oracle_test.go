package qcow2

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/lima-vm/go-qcow2reader"
	"github.com/stretchr/testify/require"
)

// What we write at random a reader by others reads too, without any program installed.
func TestOracle(t *testing.T) {
	for _, cs := range []int64{512, 4096, 64 << 10} {
		t.Run(fmt.Sprint(cs), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(uint64(cs), 11))
			want := make([]byte, 4<<20)
			path := create(t, int64(len(want)), CreateOptions{ClusterSize: cs})
			im := openPath(t, path, Options{CacheBytes: 8192})
			for range times(300) {
				step(t, rnd, im, want)
			}
			require.NoError(t, im.Close())
			f, err := os.Open(path)
			require.NoError(t, err)
			defer f.Close()
			other, err := qcow2reader.Open(f)
			require.NoError(t, err)
			defer other.Close()
			require.NoError(t, other.Readable())
			require.Equal(t, int64(len(want)), other.Size())
			got := make([]byte, len(want))
			n, err := other.ReadAt(got, 0)
			require.Equal(t, len(got), n, err)
			require.True(t, bytes.Equal(want, got))
		})
	}
}
