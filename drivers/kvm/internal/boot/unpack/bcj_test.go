package unpack

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestX86FilterChunks shows that the result does not depend on how the stream
// is cut into writes.
func TestX86FilterChunks(t *testing.T) {
	data := branchy(5000)
	run := func(sizes ...int) []byte {
		var out bytes.Buffer
		f := newX86Filter(&out, 0)
		rest := data
		for i := 0; len(rest) > 0; i++ {
			n := min(sizes[i%len(sizes)], len(rest))
			_, err := f.Write(rest[:n])
			require.NoError(t, err)
			rest = rest[n:]
		}
		require.NoError(t, f.Flush())
		return out.Bytes()
	}
	want := run(len(data))
	require.Len(t, want, len(data))
	require.NotEqual(t, data, want)
	for _, sizes := range [][]int{{1}, {2}, {3}, {4}, {5}, {6}, {7, 1, 4}, {4096}, {1, 4095}} {
		assert.True(t, bytes.Equal(want, run(sizes...)), sizes)
	}
}

// TestX86FilterShort keeps streams shorter than an instruction as they are.
func TestX86FilterShort(t *testing.T) {
	for n := range 5 {
		var out bytes.Buffer
		f := newX86Filter(&out, 0)
		in := []byte{0xe8, 0, 0, 0, 0}[:n]
		_, err := f.Write(bytes.Clone(in))
		require.NoError(t, err)
		require.NoError(t, f.Flush())
		assert.True(t, bytes.Equal(in, out.Bytes()))
	}
}
