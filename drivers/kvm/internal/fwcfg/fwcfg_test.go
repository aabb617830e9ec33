package fwcfg

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// read chooses an item and reads n bytes of it, one by one as firmware does.
func read(d *Device, key uint16, n int) []byte {
	d.Write(0, binary.LittleEndian.AppendUint16(nil, key))
	b := make([]byte, n)
	for i := range b {
		d.Read(1, b[i:i+1])
	}
	return b
}

func TestItems(t *testing.T) {
	d := New()
	require.Equal(t, "QEMU", string(read(d, ItemSignature, 4)))
	require.Equal(t, []byte{1, 0, 0, 0}, read(d, ItemInterface, 4), "ports, and no direct memory access")
	d.Add(ItemCPUs, []byte{3, 0})
	require.Equal(t, []byte{3, 0, 0}, read(d, ItemCPUs, 3), "zero after the end")
	require.Equal(t, []byte{3, 0}, read(d, ItemCPUs, 2), "from the beginning when it is chosen again")
	require.Equal(t, []byte{0, 0}, read(d, 0x8001, 2), "no such item")
	require.Equal(t, []byte{0, 0, 0, 0}, read(d, itemDirectory, 4), "no files")
}

func TestFiles(t *testing.T) {
	d := New()
	n := byte(0)
	require.NoError(t, d.AddFile("etc/second", 2, func() []byte { n++; return []byte{n, n} }))
	require.NoError(t, d.AddFile("etc/first", 1, func() []byte { return []byte{7} }))
	dir := read(d, itemDirectory, 4+2*64)
	be := binary.BigEndian
	require.EqualValues(t, 2, be.Uint32(dir))
	for i, want := range []struct {
		name string
		size uint32
		data []byte
	}{{"etc/first", 1, []byte{7}}, {"etc/second", 2, []byte{1, 1}}} {
		e := dir[4+i*64:][:64]
		require.Equal(t, want.size, be.Uint32(e))
		require.Equal(t, want.name, strings.TrimRight(string(e[8:]), "\x00"))
		require.Equal(t, want.data, read(d, be.Uint16(e[4:]), int(want.size)))
	}
	require.Equal(t, []byte{2, 2}, read(d, firstFile, 2), "asked for again")
	require.NoError(t, d.AddFile("etc/third", 1, func() []byte { return []byte{8, 9} }))
	require.Equal(t, []byte{8, 0}, read(d, firstFile+2, 2), "no more than the directory says")
	require.Error(t, d.AddFile(strings.Repeat("x", nameSize), 0, nil))
}

// What is no choice of an item changes nothing.
func TestOtherAccesses(t *testing.T) {
	d := New()
	read(d, ItemSignature, 1)
	d.Write(0, []byte{5})
	d.Write(1, []byte{5})
	b := []byte{9, 9}
	d.Read(0, b)
	require.Equal(t, []byte{0, 'E'}, b, "the selector reads as nothing")
}

func FuzzDevice(f *testing.F) {
	f.Add([]byte{0, 0x19, 0, 2, 2, 2, 1, 5, 0, 0x20, 0, 2})
	f.Fuzz(func(t *testing.T, ops []byte) {
		d := New()
		require.NoError(t, d.AddFile("a", 3, func() []byte { return []byte("abc") }))
		for len(ops) > 2 {
			op, a, b := ops[0]%4, ops[1], ops[2]
			ops = ops[3:]
			switch op {
			case 0:
				d.Write(0, []byte{a, b})
			case 1:
				d.Write(uint64(a%2), make([]byte, 1+b%2))
			default:
				p := make([]byte, 1+b%2)
				d.Read(uint64(a%2), p)
				if d.at > len(d.data) {
					t.Fatal("read beyond the item")
				}
			}
		}
	})
}
