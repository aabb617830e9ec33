//go:build linux && amd64

package kvmapi

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func testPage(reason ExitReason) *RunPage {
	p := &RunPage{b: make([]byte, 3*4096)}
	binary.LittleEndian.PutUint32(p.b[offExitReason:], uint32(reason))
	return p
}

func TestRunPageIO(t *testing.T) {
	p := testPage(ExitIO)
	p.b[offUnion], p.b[offIOSize] = 1, 2
	binary.LittleEndian.PutUint16(p.b[offIOPort:], 0x3f8)
	binary.LittleEndian.PutUint32(p.b[offIOCount:], 3)
	binary.LittleEndian.PutUint64(p.b[offIOData:], 4096)
	copy(p.b[4096:], "abcdef")
	io, ok := p.IO()
	require.True(t, ok)
	assert.Equal(t, IO{Write: true, Size: 2, Port: 0x3f8, Count: 3, Data: []byte("abcdef")}, io)

	binary.LittleEndian.PutUint64(p.b[offIOData:], uint64(len(p.b))-5)
	_, ok = p.IO()
	assert.False(t, ok, "data that ends beyond the page")
	binary.LittleEndian.PutUint64(p.b[offIOData:], 1<<63)
	_, ok = p.IO()
	assert.False(t, ok, "offset that overflows")
}

func TestRunPageMMIO(t *testing.T) {
	p := testPage(ExitMMIO)
	binary.LittleEndian.PutUint64(p.b[offUnion:], 0xfee00000)
	copy(p.b[offMMIOData:], "12345678")
	binary.LittleEndian.PutUint32(p.b[offMMIOLen:], 4)
	p.b[offMMIOWrite] = 1
	m, ok := p.MMIO()
	require.True(t, ok)
	assert.Equal(t, MMIO{Write: true, Addr: 0xfee00000, Data: []byte("1234")}, m)
	binary.LittleEndian.PutUint32(p.b[offMMIOLen:], 9)
	_, ok = p.MMIO()
	assert.False(t, ok)
}

func TestRunPageInternalError(t *testing.T) {
	p := testPage(ExitInternalError)
	binary.LittleEndian.PutUint32(p.b[offUnion:], InternalErrorEmulation)
	binary.LittleEndian.PutUint32(p.b[offUnion+4:], 4)
	p.b[offUnion+8] = 1 // code bytes follow
	p.b[offUnion+16] = 3
	copy(p.b[offUnion+17:], "\x0f\x0b\x90\xff")
	e := p.InternalError()
	assert.EqualValues(t, InternalErrorEmulation, e.SubError)
	assert.Equal(t, []byte{0x0f, 0x0b, 0x90}, e.Code)
	assert.Len(t, e.Data, 4)

	p.b[offUnion+8] = 0
	assert.Empty(t, p.InternalError().Code)
	binary.LittleEndian.PutUint32(p.b[offUnion+4:], 1<<31)
	assert.Len(t, p.InternalError().Data, 16, "a length beyond the array is cut")
}

func TestRunPageImmediateExit(t *testing.T) {
	p := testPage(ExitIO)
	p.SetImmediateExit(true)
	assert.Equal(t, []byte{0, 1, 0, 0, 0, 0, 0, 0}, p.b[:8])
	p.SetImmediateExit(false)
	assert.Equal(t, make([]byte, 8), p.b[:8])
}

// The kernel fills the page, so it is trusted to make sense, and still no content of it makes an accessor panic.
func FuzzRunPage(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{1, 2, 0xf8, 3, 3, 0, 0, 0, 0, 16})
	f.Fuzz(func(t *testing.T, union []byte) {
		p := testPage(ExitIO)
		copy(p.b[offUnion:offUnion+256], union)
		if io, ok := p.IO(); ok {
			assert.Len(t, io.Data, io.Size*io.Count)
		}
		if m, ok := p.MMIO(); ok {
			assert.LessOrEqual(t, len(m.Data), 8)
		}
		assert.LessOrEqual(t, len(p.InternalError().Code), 15)
	})
}

func TestRunPageAllocatesNothing(t *testing.T) {
	p := testPage(ExitIO)
	p.b[offIOSize] = 1
	binary.LittleEndian.PutUint32(p.b[offIOCount:], 1)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		if _, ok := p.IO(); !ok {
			t.Fatal("page makes no sense")
		}
		p.SetImmediateExit(false)
	}))
}
