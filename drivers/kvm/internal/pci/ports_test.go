package pci

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
)

func newPorts(t testing.TB, f *Function) (*Ports, *Bus, *[]byte) {
	b := NewBusWith(NewFunction(ID{Vendor: 0x8086, Device: 0x29c0, Class: ClassHostBridge}))
	require.NoError(t, b.AddAt(31, f))
	control := &[]byte{}
	return NewPorts(b, func(v byte) { *control = append(*control, v) }), b, control
}

func TestPorts(t *testing.T) {
	f := NewFunction(ID{Vendor: 0x8086, Device: 0x2918, Class: 0x060100})
	var told [][]byte
	f.AddRegisters(0x60, []byte{1, 2, 3, 4}, []byte{0xff, 0xf0}, func(b []byte) { told = append(told, append([]byte{}, b...)) })
	p, b, control := newPorts(t, f)
	require.ErrorIs(t, b.AddAt(31, f), ErrFull)
	address := func(v uint32) { p.Address().Write(0, binary.LittleEndian.AppendUint32(nil, v)) }
	data := func(off uint64, n int) []byte {
		d := make([]byte, n)
		p.Read(off, d)
		return d
	}
	require.Equal(t, []byte{0xff, 0xff, 0xff, 0xff}, data(0, 4), "no address yet")
	address(addressEnable)
	require.Equal(t, []byte{0x86, 0x80, 0xc0, 0x29}, data(0, 4))
	require.Equal(t, []byte{0xc0, 0x29}, data(2, 2))
	address(addressEnable | 31<<11 | 0x63) // the lowest bits are none of it
	d := make([]byte, 4)
	p.Address().Read(0, d)
	require.EqualValues(t, uint32(addressEnable|31<<11|0x60), binary.LittleEndian.Uint32(d))
	p.Write(1, []byte{0xab, 0xff})
	require.Equal(t, []byte{1, 0xa2, 3, 4}, data(0, 4))
	require.Equal(t, [][]byte{{1, 0xa2, 3, 4}}, told)
	p.Write(0, []byte{9, 9, 9, 9})
	require.Equal(t, []byte{9, 2, 3, 4}, told[1])
	for _, none := range []uint32{31 << 11, addressEnable | 1<<16 | 31<<11, addressEnable | 30<<11, addressEnable | 31<<11 | 1<<8} {
		address(none)
		p.Write(0, []byte{7})
		require.Equal(t, []byte{0xff}, data(0, 1), "%#x", none)
	}

	// Bytes are not the address, and the second is another register's.
	address(addressEnable)
	p.Address().Write(0, []byte{1})
	p.Address().Write(0, []byte{1, 2})
	p.Address().Write(1, []byte{6})
	p.Address().Write(3, []byte{0})
	require.Equal(t, []byte{6}, *control)
	require.Equal(t, []byte{0x86}, data(0, 1))
	p.Address().Read(1, d[:1])
	require.Zero(t, d[0])
}

// By ports a guest sees the same as by the window.
func FuzzPorts(f *testing.F) {
	f.Add(uint32(addressEnable|31<<11|0x40), uint8(2), []byte{1, 2})
	f.Add(uint32(addressEnable|31<<11|0x10), uint8(0), []byte{0, 0, 0, 0xc1})
	f.Fuzz(func(t *testing.T, address uint32, off uint8, data []byte) {
		w := newWorld(t)
		p, b, _ := newPorts(t, w.f)
		p.Address().Write(0, binary.LittleEndian.AppendUint32(nil, address))
		off %= 4
		data = data[:min(len(data), int(4-off))]
		p.Write(uint64(off), data)
		got := make([]byte, len(data))
		p.Read(uint64(off), got)
		want := make([]byte, len(data))
		if at := uint64(address & 0xfffc); address&addressEnable != 0 && address>>16&0xff == 0 {
			b.Read(at>>8*ConfigSize+at&0xff+uint64(off), want)
		} else {
			for i := range want {
				want[i] = 0xff
			}
		}
		require.Equal(t, want, got)
	})
}
