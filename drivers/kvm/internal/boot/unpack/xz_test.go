package unpack

import (
	"bufio"
	"bytes"
	"hash/crc32"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/boot/linux"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/boot/linux/imagetest"
)

func TestBlockHeader(t *testing.T) {
	const x, lz = "\x04\x00", "\x21\x01\x16"
	for _, tt := range []struct {
		name, head string
		want       xzBlock
		err        string
	}{
		{"plain", "\x02\x00" + lz + "\x00\x00\x00", xzBlock{packed: -1, unpacked: -1, dict: 8 << 20}, ""},
		{"filter and sizes", "\x04\xc1\x80\x02\x7f" + x + lz, xzBlock{packed: 256, unpacked: 127, x86: true, dict: 8 << 20}, ""},
		{"start offset", "\x03\x01\x04\x04\x00\x10\x00\x00" + lz, xzBlock{packed: -1, unpacked: -1, x86: true, x86Start: 4096, dict: 8 << 20}, ""},
		{"largest dictionary", "\x02\x00\x21\x01\x28", xzBlock{packed: -1, unpacked: -1, dict: 4 << 30}, ""},
		{"dictionary out of range", "\x02\x00\x21\x01\x29", xzBlock{}, "unsupported"},
		{"reserved flag", "\x02\x04" + lz, xzBlock{}, "unsupported"},
		{"delta", "\x03\x01\x03\x01\x00" + lz, xzBlock{}, "xz filter 0x3"},
		{"ARM", "\x03\x01\x07\x00" + lz, xzBlock{}, "xz filter 0x7"},
		{"x86 twice", "\x03\x02" + x + x + lz, xzBlock{}, "xz filter 0x4"},
		{"x86 last", "\x03\x01" + lz + x, xzBlock{}, "unsupported"},
		{"odd start offset", "\x03\x01\x04\x02\x00\x10" + lz, xzBlock{}, "unsupported"},
		{"properties beyond the header", "\x02\x00\x21\x7f\x16", xzBlock{}, "unexpected EOF"},
		{"no filters", "\x02\x00", xzBlock{}, "unexpected EOF"},
		{"no size", "\x02\xc0\x80", xzBlock{}, "unexpected EOF"},
		{"long integer", "\x03\x40\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01" + lz, xzBlock{}, "malformed integer"},
		{"integer with a zero end", "\x03\x40\x81\x00" + lz, xzBlock{}, "malformed integer"},
		{"padding", "\x02\x00" + lz + "\x00\x01", xzBlock{}, "padding"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseBlockHeader([]byte(tt.head))
			if tt.err != "" {
				require.ErrorContains(t, err, tt.err)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tt.want, got)
		})
	}
}

// TestHugeDictionary asks for a gigabyte: only as much as the output may use.
func TestHugeDictionary(t *testing.T) {
	x := &xzReader{in: &counter{r: bufio.NewReader(bytes.NewReader(nil))}, want: MaxUnpacked}
	err := x.lzma2(xzBlock{dict: 1 << 30}, &blockOutput{})
	assert.ErrorIs(t, err, linux.ErrUnsupported)
	x.want = 10000
	err = x.lzma2(xzBlock{dict: 1 << 30}, &blockOutput{})
	assert.NotErrorIs(t, err, linux.ErrUnsupported)
	assert.Error(t, err)
}

// TestXZStructure damages what is around the data, with checksums made right.
func TestXZStructure(t *testing.T) {
	packed, err := os.ReadFile("testdata/vmlinux.plain.xz")
	require.NoError(t, err)
	n := len(packed)
	fix := func(b []byte, from, to, at int) {
		le.PutUint32(b[at:], crc32.ChecksumIEEE(b[from:to]))
	}
	index := n - 12 - 4*(int(le.Uint32(packed[n-8:]))+1)
	for _, tt := range []struct {
		name string
		edit func(b []byte)
		want error
	}{
		{"reserved stream flag", func(b []byte) { b[6] = 1; fix(b, 6, 8, 8) }, linux.ErrUnsupported},
		{"unknown check", func(b []byte) { b[7] = 2; fix(b, 6, 8, 8) }, linux.ErrUnsupported},
		{"another check", func(b []byte) { b[7] = 1; fix(b, 6, 8, 8) }, ErrCorrupt},
		{"delta filter", func(b []byte) {
			copy(b[12:24], "\x02\x01\x03\x01\x00\x21\x01\x16")
			fix(b, 12, 20, 20)
		}, linux.ErrUnsupported},
		{"index of two blocks", func(b []byte) { b[index+1] = 2; fix(b, index, n-16, n-16) }, ErrCorrupt},
		{"index of another size", func(b []byte) { b[index+2] ^= 1; fix(b, index, n-16, n-16) }, ErrCorrupt},
		{"footer length", func(b []byte) { b[n-8]++; fix(b, n-8, n-2, n-12) }, ErrCorrupt},
		{"footer flags", func(b []byte) { b[n-3] = 1; fix(b, n-8, n-2, n-12) }, ErrCorrupt},
		{"footer magic", func(b []byte) { b[n-1] = 0 }, ErrCorrupt},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := bytes.Clone(packed)
			tt.edit(b)
			_, err := unpack(t, bzImage(imagetest.WithSize(b, len(vmlinux(fixtureSize)))))
			requireTyped(t, err, tt.want)
			if tt.want == linux.ErrUnsupported {
				assert.ErrorContains(t, err, "decompress=guest")
			}
		})
	}
}
