package q35

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Firmware switches the window off, writes the high half of its address and then the low one with the bit that switches
// it on.
func TestWindow(t *testing.T) {
	var at []uint64
	f := HostBridge(func(base uint64) { at = append(at, base) })
	put := func(reg int, v uint32) { f.WriteConfig(reg, binary.LittleEndian.AppendUint32(nil, v)) }
	var id [4]byte
	f.ReadConfig(0, id[:])
	require.Equal(t, []byte{0x86, 0x80, 0xc0, 0x29}, id[:])
	put(0x60, 0)
	put(0x64, 0)
	require.Empty(t, at)
	put(0x60, 0xb0000001)
	put(0x60, 0xb0000001)
	require.Equal(t, []uint64{0xb0000000}, at, "told once")
	put(0x60, 0xb0000003)
	require.Equal(t, []uint64{0xb0000000, 0}, at, "128 MiB is not offered")
	put(0x64, 0xffffffff)
	put(0x60, 0xffffffff&^6)
	require.EqualValues(t, 0xff0000000, at[len(at)-1])
	f.WriteConfig(0x60, []byte{0})
	require.Zero(t, at[len(at)-1])
}

func TestSouthBridge(t *testing.T) {
	f := SouthBridge()
	for reg := range 256 {
		f.WriteConfig(reg, []byte{0xff})
	}
	b := make([]byte, 5)
	f.ReadConfig(lpcPMBase, b)
	require.Equal(t, []byte{0x01, 0x06, 0, 0, 0x80}, b, "the power management registers stay where they are, and on")
}

func TestPower(t *testing.T) {
	off := 0
	p := NewPower(func() { off++ })
	get := func(at uint64, n int) uint64 {
		b := make([]byte, 8)
		p.Read(at, b[:n])
		return binary.LittleEndian.Uint64(b)
	}
	put := func(at uint64, v uint16) { p.Write(at, binary.LittleEndian.AppendUint16(nil, v)) }
	put(pmControl, sciEnable)
	require.EqualValues(t, sciEnable, get(pmControl, 2))
	put(pmControl, sleepEnable|1<<10) // S3
	put(pmControl+2, sleepEnable)
	put(pmTimer, sleepEnable)
	p.Write(pmControl, []byte{0})
	require.Zero(t, off)
	require.Zero(t, get(0x20, 8))
	require.Zero(t, get(PMSize-1, 1))
	put(pmControl, sleepEnable)
	require.Equal(t, 1, off)

	// A day and a bit later: the timer goes round every 4.7 seconds.
	p.start = time.Now().Add(-24*time.Hour - 100*time.Millisecond)
	before := uint64(24*60*60*timerHz + timerHz/10)
	got := get(pmTimer, 4)
	require.Less(t, (got-before)&timerMask, uint64(timerMask/2))
	require.LessOrEqual(t, got, uint64(timerMask))
}

func TestResets(t *testing.T) {
	require.True(t, Resets(0x06))
	require.True(t, Resets(0x0e))
	require.False(t, Resets(0x02), "prepares it")
}

func FuzzHostBridge(f *testing.F) {
	f.Add([]byte{0x64, 4, 0, 0, 0, 0, 0x60, 4, 1, 0, 0, 0xb0})
	f.Add([]byte{0x60, 8, 0xff, 0xff, 0xff, 0xff, 0x5e, 8, 1, 2, 3, 4, 0xff, 4, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, ops []byte) {
		at := uint64(0)
		b := HostBridge(func(base uint64) {
			if base == at || base&^windowAddress != 0 || base%(256<<20) != 0 {
				t.Fatalf("the window moves from %#x to %#x", at, base)
			}
			at = base
		})
		for ; len(ops) >= 6; ops = ops[6:] {
			b.WriteConfig(int(ops[0]), append(ops[2:6:6], ops[2:6]...)[:1+ops[1]%8])
		}
		id := make([]byte, 4)
		b.ReadConfig(0, id)
		if binary.LittleEndian.Uint32(id) != mchID<<16|intel {
			t.Fatalf("the bridge is %#x now", id)
		}
	})
}
