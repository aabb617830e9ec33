package pci

import (
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

const testSlot = 1 * functionsPerSlot * ConfigSize

// world is a bus with one function and what was asked for.
type world struct {
	*Bus
	f    *Function
	msix *MSIX
	log  []string
	fail error
}

func newWorld(t testing.TB) *world {
	w := &world{Bus: NewBus(), f: NewFunction(ID{Vendor: 0x1af4, Device: 0x1044, SubVendor: 1, SubDevice: 2, Revision: 1, Class: ClassOther})}
	w.f.SetBAR(0xc0000000, 0x10000, func(base uint64) error {
		w.log = append(w.log, fmt.Sprintf("map %#x", base))
		return w.fail
	}, func(base uint64) { w.log = append(w.log, fmt.Sprintf("unmap %#x", base)) })
	w.msix = w.f.AddMSIX(3, 0x8000, 0xe000, func(addr uint64, data uint32) { w.log = append(w.log, fmt.Sprintf("msi %#x %#x", addr, data)) })
	slot, err := w.Add(w.f)
	require.NoError(t, err)
	require.Equal(t, 1, slot)
	return w
}

func (w *world) read(reg, n int) uint32 {
	var b [4]byte
	w.Read(testSlot+uint64(reg), b[:n])
	return binary.LittleEndian.Uint32(b[:])
}

func (w *world) write(reg int, v uint32, n int) {
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], v)
	w.Write(testSlot+uint64(reg), b[:n])
}

func (w *world) said() []string {
	l := w.log
	w.log = nil
	return l
}

func TestHeader(t *testing.T) {
	w := newWorld(t)
	require.EqualValues(t, 0x10441af4, w.read(regVendor, 4))
	require.EqualValues(t, 0xff000001, w.read(regRevision, 4))
	require.EqualValues(t, 0x00020001, w.read(regSubVendor, 4))
	require.EqualValues(t, 0, w.read(0x0e, 1), "type 0, one function")
	w.write(regVendor, 0, 4)
	require.EqualValues(t, 0x10441af4, w.read(regVendor, 4), "it cannot be written")
	w.write(regCommand, 0xffff, 2)
	require.EqualValues(t, commandMemory|commandMaster|commandNoINTx, w.read(regCommand, 2))
	require.Zero(t, w.read(0x100, 4), "no extended capabilities")
	require.Zero(t, w.read(0x3d, 1), "no interrupt pin")
	var b [4]byte
	w.Read(0, b[:])
	require.Equal(t, []byte{0x36, 0x1b, 8, 0}, b[:], "the host bridge")
	for _, nobody := range []uint64{2 * functionsPerSlot * ConfigSize, testSlot + ConfigSize, ECAMSize - 4} {
		w.Read(nobody, b[:])
		require.Equal(t, []byte{0xff, 0xff, 0xff, 0xff}, b[:])
		w.Write(nobody, b[:])
	}
}

func TestBAR(t *testing.T) {
	w := newWorld(t)
	require.EqualValues(t, 0xc0000000, w.read(regBAR0, 4))
	w.write(regBAR0, 0xffffffff, 4)
	require.EqualValues(t, 0xffff0000, w.read(regBAR0, 4), "its size")
	w.write(regBAR0, 0xc0120000, 4)
	require.Empty(t, w.said(), "it does not answer yet")
	w.write(regCommand, commandMemory, 2)
	w.write(regCommand, commandMemory|commandMaster, 2)
	require.Equal(t, []string{"map 0xc0120000"}, w.said())
	w.write(regBAR0+2, 0xc013, 2)
	require.Equal(t, []string{"unmap 0xc0120000", "map 0xc0130000"}, w.said())
	w.write(regCommand, 0, 2)
	require.Equal(t, []string{"unmap 0xc0130000"}, w.said())
	w.write(regBAR0+4, 0xffffffff, 4)
	require.Zero(t, w.read(regBAR0+4, 4), "there is one BAR")
	// Where something else is it does not answer, and is not taken away again.
	w.fail = errors.New("taken")
	w.write(regCommand, commandMemory, 2)
	require.Equal(t, []string{"map 0xc0130000"}, w.said())
	w.fail = nil
	w.write(regBAR0, 0xc0140000, 4)
	require.Equal(t, []string{"map 0xc0140000"}, w.said())
}

func TestMSIX(t *testing.T) {
	w := newWorld(t)
	at := int(w.read(regCapabilities, 1))
	require.EqualValues(t, capMSIX, w.read(at, 1))
	require.EqualValues(t, 2, w.read(at+2, 2), "three vectors")
	require.EqualValues(t, 0x8000, w.read(at+4, 4))
	require.EqualValues(t, 0xe000, w.read(at+8, 4))
	w.write(at+4, 0, 4)
	require.EqualValues(t, 0x8000, w.read(at+4, 4))

	entry := func(v int, addr uint64, data, control uint32) {
		b := make([]byte, 8)
		binary.LittleEndian.PutUint64(b, addr)
		w.msix.WriteTable(uint64(16*v), b)
		binary.LittleEndian.PutUint32(b, data)
		binary.LittleEndian.PutUint32(b[4:], control)
		w.msix.WriteTable(uint64(16*v+8), b)
	}
	entry(0, 0xfee00000, 0x41, 0)
	entry(1, 0xfee01000, 0x42, entryMasked)
	w.msix.Signal(0)
	require.Empty(t, w.said(), "MSI-X is not enabled")
	w.write(at+2, msixEnable, 2)
	w.msix.Signal(0)
	require.Equal(t, []string{"msi 0xfee00000 0x41"}, w.said())
	w.msix.Signal(1)
	w.msix.Signal(1)
	require.Empty(t, w.said(), "the vector is masked")
	p := make([]byte, 8)
	w.msix.ReadPending(0, p)
	require.Equal(t, byte(2), p[0])
	entry(1, 0xfee01000, 0x43, 0)
	require.Equal(t, []string{"msi 0xfee01000 0x43"}, w.said(), "once, to where it points now")
	w.msix.ReadPending(0, p)
	require.Zero(t, p[0])
	w.write(at+3, (msixEnable|msixMaskAll)>>8, 1)
	w.msix.Signal(0)
	require.Empty(t, w.said(), "all are masked")
	w.write(at+2, msixEnable, 2)
	require.Equal(t, []string{"msi 0xfee00000 0x41"}, w.said())
	for _, v := range []int{-1, 3, 1 << 30} {
		w.msix.Signal(v)
	}
	require.Empty(t, w.said())
}

func TestTableAccesses(t *testing.T) {
	w := newWorld(t)
	w.msix.WriteTable(0, []byte{1, 2, 3, 4})
	for _, bad := range []struct {
		off uint64
		n   int
	}{{0, 1}, {0, 2}, {2, 4}, {6, 8}, {48, 4}, {1 << 40, 8}} {
		w.msix.WriteTable(bad.off, make([]byte, bad.n))
	}
	p := make([]byte, 8)
	w.msix.ReadTable(0, p)
	require.Equal(t, []byte{1, 2, 3, 4, 0, 0, 0, 0}, p)
	w.msix.ReadTable(12, p[:4])
	require.EqualValues(t, entryMasked, p[0], "masked after a reset")
	w.msix.WriteTable(12, []byte{0xff, 0xff, 0xff, 0xff})
	w.msix.ReadTable(12, p[:4])
	require.Equal(t, []byte{1, 0, 0, 0}, p[:4], "the other bits are reserved")
	w.msix.ReadTable(1<<40, p)
	w.msix.ReadPending(1<<40, p)
	require.Equal(t, make([]byte, 8), p)
}

func TestCapabilitiesAreAList(t *testing.T) {
	f := NewFunction(ID{})
	var want []byte
	for i := range byte(5) {
		want = append(want, byte(f.AddCapability(9, []byte{i, 1, 2}, nil, nil)))
	}
	var got []byte
	p := make([]byte, 1)
	for f.ReadConfig(regCapabilities, p); p[0] != 0; f.ReadConfig(int(p[0])+1, p) {
		got = append(got, p[0])
	}
	require.Equal(t, want, got)
}

func TestFullBus(t *testing.T) {
	b := NewBus()
	for range Slots - 1 {
		_, err := b.Add(NewFunction(ID{}))
		require.NoError(t, err)
	}
	_, err := b.Add(NewFunction(ID{}))
	require.ErrorIs(t, err, ErrFull)
}

func FuzzConfigSpace(f *testing.F) {
	f.Add([]byte{0x10, 0, 4, 0xff, 0xff, 0xff, 0xff, 0x04, 0, 2, 6, 0})
	f.Add([]byte{0x42, 0, 2, 0, 0x80, 0x40, 0, 8})
	f.Fuzz(func(t *testing.T, script []byte) {
		w := newWorld(t)
		for len(script) >= 3 {
			off, n := uint64(testSlot)+uint64(binary.LittleEndian.Uint16(script))%ConfigSize, 1+int(script[2])%8
			script = script[3:]
			p := make([]byte, n)
			copy(p, script)
			script = script[min(n, len(script)):]
			w.Write(off, p)
			w.Read(off, p)
			w.msix.WriteTable(off&0xff, p)
			w.msix.Signal(int(p[0] % 4))
		}
		require.EqualValues(t, 0x10441af4, w.read(regVendor, 4))
		mapped := 0
		for _, l := range w.log {
			switch l[:3] {
			case "map":
				mapped++
			case "unm":
				mapped--
			}
			require.Contains(t, []int{0, 1}, mapped, "the BAR is in one place at a time")
		}
	})
}

// FuzzMSIX compares with what the specification says: a message goes out at once, or is pending while its vector or all are
// masked and goes out once then, to where the vector points at that time; none is lost and none comes without a cause.
func FuzzMSIX(f *testing.F) {
	f.Add([]byte{0, 2, 1, 0x10, 3, 1, 2, 0x11, 1, 1, 1, 0x10})
	f.Add([]byte{0, 3, 3, 0, 3, 2, 0, 2, 2, 0x20, 1, 0x20, 0, 1, 0, 2})
	f.Fuzz(func(t *testing.T, script []byte) {
		w := newWorld(t)
		const vectors = 3
		at := int(w.read(regCapabilities, 1))
		var enabled, maskAll bool
		var want []string
		masked, pending, data := [vectors]bool{true, true, true}, [vectors]bool{}, [vectors]byte{}
		send := func(v int) {
			if !enabled || maskAll || masked[v] {
				return
			}
			pending[v] = false
			want = append(want, fmt.Sprintf("msi %#x %#x", v<<12, data[v]))
		}
		for v := range uint64(vectors) {
			w.msix.WriteTable(entrySize*v, binary.LittleEndian.AppendUint64(nil, v<<12))
		}
		for ; len(script) >= 2; script = script[2:] {
			arg, v := script[1], int(script[1]>>4)%vectors
			switch script[0] % 4 {
			case 0: // of all
				enabled, maskAll = arg&2 != 0, arg&1 != 0
				var control uint32
				if enabled {
					control |= msixEnable
				}
				if maskAll {
					control |= msixMaskAll
				}
				w.write(at+2, control, 2)
				for v := range pending {
					if pending[v] {
						send(v)
					}
				}
			case 1, 2: // a vector's mask, or with its data
				masked[v] = arg&1 != 0
				b := binary.LittleEndian.AppendUint32(nil, uint32(arg))
				off := uint64(entrySize*v + 12)
				if script[0]%4 == 2 {
					data[v] = arg
					b, off = append(binary.LittleEndian.AppendUint32(nil, uint32(arg)), b...), off-4
				}
				w.msix.WriteTable(off, b)
				if pending[v] {
					send(v)
				}
			case 3:
				w.msix.Signal(v)
				if enabled {
					pending[v] = true
					send(v)
				}
			}
			require.Equal(t, want, w.said())
			want = nil
			var bits byte
			for v := range pending {
				if pending[v] {
					bits |= 1 << v
				}
			}
			var p [8]byte
			w.msix.ReadPending(0, p[:])
			require.Equal(t, bits, p[0])
		}
	})
}
