package acpi

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/bus"
)

type rig struct {
	*Device
	offs, resets, edges int
	irq                 bool
}

func newRig(t testing.TB) *rig {
	r := &rig{}
	r.Device = NewDevice(DeviceConfig{
		PowerOff: func() { r.offs++ },
		Reset:    func() { r.resets++ },
		IRQ: func(level bool) {
			if level == r.irq {
				t.Errorf("interrupt set to %v twice", level)
			}
			r.irq = level
			if level {
				r.edges++
			}
		},
	})
	return r
}

func (r *rig) in(off uint64) byte {
	p := []byte{0xaa}
	r.Read(off, p)
	return p[0]
}

func TestSleepControl(t *testing.T) {
	r := newRig(t)
	require.Zero(t, r.in(regSleepStatus))
	for v := range 256 {
		want := r.offs
		if v&0x3c == 0x34 { // SLP_EN, type 5
			want++
		}
		r.Write(regSleepControl, []byte{byte(v)})
		require.Equal(t, want, r.offs, "value %#x", v)
		require.EqualValues(t, v&0x1c, r.in(regSleepControl), "SLP_EN is write-only")
	}
	require.Equal(t, 16, r.offs)
	require.Zero(t, r.in(regSleepStatus), "it never wakes")
	require.Zero(t, r.resets)
}

func TestResetRegister(t *testing.T) {
	r := newRig(t)
	for v := range 256 {
		r.Write(regReset, []byte{byte(v)})
	}
	require.Equal(t, 1, r.resets)
	require.Zero(t, r.in(regReset))
	require.Zero(t, r.offs)
	r.Write(regSleepStatus, []byte{0x80, resetValue, resetValue, resetValue})
	require.Equal(t, 2, r.resets, "a wide write covers it once")
}

func TestPowerButton(t *testing.T) {
	r := newRig(t)
	require.Zero(t, r.in(regEvents))
	r.PowerButton()
	r.PowerButton()
	require.True(t, r.irq)
	require.Equal(t, 1, r.edges)
	r.Write(regEvents, []byte{0xff})
	require.True(t, r.irq, "kept until it is read")
	require.EqualValues(t, 1, r.in(regEvents))
	require.False(t, r.irq)
	require.Zero(t, r.in(regEvents))
	r.PowerButton()
	require.Equal(t, 2, r.edges)
	all := make([]byte, DeviceSize+1)
	r.Read(0, all)
	require.Equal(t, []byte{0, 0, 0, 0, 1, 0, 0, 0, 0xff}, all)
	require.False(t, r.irq)
	r.PowerButton()
	r.Reset()
	require.False(t, r.irq)
	require.Zero(t, r.in(regEvents))
	NewDevice(DeviceConfig{}).PowerButton() // not connected
}

// TestRegisters uses the device by nothing but what RegistersAt tells.
func TestRegisters(t *testing.T) {
	r := newRig(t)
	b := bus.New("port", bus.PortLast)
	require.NoError(t, b.Add(0x1230, DeviceSize, "acpi", r))
	at := RegistersAt(0x1230)
	r.PowerButton()
	p := []byte{0}
	require.True(t, b.Read(uint64(at.Events), p))
	require.NotZero(t, p[0]&at.PowerButton)
	require.False(t, r.irq)
	b.Write(uint64(at.SleepControl), []byte{at.S5})
	require.Equal(t, 1, r.offs)
	b.Write(uint64(at.Reset), []byte{at.ResetValue})
	require.Equal(t, 1, r.resets)
}

func TestConcurrent(t *testing.T) {
	r := newRig(t)
	var wg sync.WaitGroup
	for range 3 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			p := make([]byte, 8)
			for range 1000 {
				r.PowerButton()
				r.Read(0, p)
				r.Write(regSleepStatus, p[:1])
			}
			r.Reset()
		}()
	}
	wg.Wait()
	require.False(t, r.irq)
}

// FuzzDevice: for any accesses the line is the pending event, and the
// callbacks come only from the writes that ask for them.
func FuzzDevice(f *testing.F) {
	f.Add([]byte{0, 0, 1, 4, 1, 0x34, 1, 2, 0x42, 2, 0, 8})
	f.Add([]byte{3, 0, 4, 0x34, 0, 0x42, 0, 2, 1, 8, 2, 7, 8})
	f.Fuzz(func(t *testing.T, in []byte) {
		r := newRig(t)
		next := func() (b byte) {
			if len(in) > 0 {
				b, in = in[0], in[1:]
			}
			return b
		}
		offs, resets := 0, 0
		for len(in) > 0 {
			switch op := next() % 4; op {
			case 0:
				r.PowerButton()
			case 1, 3:
				off := uint64(next() % (DeviceSize + 2))
				p := make([]byte, 1)
				if op == 3 {
					p = make([]byte, next()%9)
				}
				for i := range p {
					p[i] = next()
					if off+uint64(i) == regSleepControl && p[i]&0x3c == 0x34 {
						offs++
					}
					if off+uint64(i) == regReset && p[i] == resetValue {
						resets++
					}
				}
				r.Write(off, p)
			case 2:
				off, p := uint64(next()), make([]byte, next()%9)
				pending := r.irq
				r.Read(off, p)
				read := off <= regEvents && off+uint64(len(p)) > regEvents
				if read && (p[regEvents-off]&1 != 0) != pending {
					t.Fatalf("event register reads %#x with the line %v", p[regEvents-off], pending)
				}
				if r.irq != (pending && !read) {
					t.Fatalf("line %v after reading %d+%d", r.irq, off, len(p))
				}
			}
			if r.offs != offs || r.resets != resets {
				t.Fatalf("%d power offs and %d resets, want %d and %d", r.offs, r.resets, offs, resets)
			}
		}
	})
}
