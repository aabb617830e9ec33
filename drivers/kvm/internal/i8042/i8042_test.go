package i8042

import (
	"testing"

	"github.com/stretchr/testify/require"
)

type rig struct {
	*Controller
	resets, edges int
	irq           bool
}

func newRig(t testing.TB) *rig {
	r := &rig{}
	r.Controller = New(Config{
		Reset: func() { r.resets++ },
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

func in(p Port) byte {
	b := []byte{0xaa}
	p.Read(0, b)
	return b[0]
}

func out(p Port, v byte) { p.Write(0, []byte{v}) }

func TestAnswers(t *testing.T) {
	const none = -1
	for _, tc := range []struct {
		name   string
		cmd    byte
		param  int // byte written to the data port, or none
		want   int // answer, or none
		status byte
	}{
		{"read configuration", 0x20, none, 0x64, 0x1d},
		{"read RAM", 0x3f, none, 0, 0x1d},
		{"no password", 0xa4, none, 0xf1, 0x1d},
		{"disable mouse", 0xa7, none, none, 0x1c},
		{"enable mouse", 0xa8, none, none, 0x1c},
		{"test mouse port", 0xa9, none, 1, 0x1d},
		{"self test", 0xaa, none, 0x55, 0x1d},
		{"test keyboard port", 0xab, none, 0, 0x1d},
		{"disable keyboard", 0xad, none, none, 0x1c},
		{"enable keyboard", 0xae, none, none, 0x1c},
		{"read input port", 0xc0, none, 0x80, 0x1d},
		{"read output port", 0xd0, none, 3, 0x1d},
		{"keyboard loop", 0xd2, 0x77, 0x77, 0x15},
		{"mouse loop: not by a mouse", 0xd3, 0x5a, 0x5a, 0x15},
		{"to the mouse", 0xd4, 0xf2, 0xfe, 0x55},
		{"test lines", 0xe0, none, 0, 0x1d},
		{"unknown", 0x00, none, 0xfe, 0x1d},
		{"unknown", 0x90, none, 0xfe, 0x1d},
		{"unknown", 0xc5, none, 0xfe, 0x1d},
		{"pulse no line", 0xff, none, none, 0x1c},
		{"pulse other lines", 0xf1, none, none, 0x1c},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t)
			out(r.Command(), tc.cmd)
			if tc.param != none {
				require.Zero(t, in(r.Command())&statFull, "no answer before the parameter")
				out(r.Data(), byte(tc.param))
			}
			require.Equal(t, tc.status, in(r.Command()))
			if tc.want != none {
				require.EqualValues(t, tc.want, in(r.Data()))
				require.Zero(t, in(r.Command())&(statFull|statTimeout))
				require.EqualValues(t, tc.want, in(r.Data()), "an empty buffer keeps its byte")
			}
			require.Zero(t, r.resets)
			require.Zero(t, r.edges)
		})
	}
}

func TestResetRequests(t *testing.T) {
	for c := 0xf0; c <= 0xff; c++ {
		r := newRig(t)
		out(r.Command(), byte(c))
		require.Equal(t, 1-c&1, r.resets, "pulse %#x", c)
	}
	r := newRig(t)
	out(r.Command(), cmdSetOutput)
	out(r.Data(), 0x03)
	require.Zero(t, r.resets)
	out(r.Command(), cmdSetOutput)
	out(r.Data(), 0xfe)
	require.Equal(t, 1, r.resets)
	out(r.Data(), 0xfe) // for the keyboard now
	require.Equal(t, 1, r.resets)
	New(Config{}).Command().Write(0, []byte{0xfe}) // not connected
}

func TestConfiguration(t *testing.T) {
	r := newRig(t)
	out(r.Command(), 0x60)
	out(r.Data(), 0x47)
	out(r.Command(), 0x20)
	require.EqualValues(t, 0x47, in(r.Data()))
	out(r.Command(), cmdDisableKbd)
	out(r.Command(), cmdDisableAux)
	out(r.Command(), 0x20)
	require.EqualValues(t, 0x77, in(r.Data()))
	out(r.Command(), cmdEnableAux)
	out(r.Data(), 0xff) // enables the keyboard
	out(r.Command(), 0x20)
	require.EqualValues(t, 0x47, in(r.Data()))
	out(r.Command(), 0x7f)
	out(r.Data(), 0x12)
	out(r.Command(), 0x3f)
	require.EqualValues(t, 0x12, in(r.Data()))
	out(r.Command(), cmdA20Off)
	out(r.Command(), cmdReadOutput)
	require.EqualValues(t, outNoReset, in(r.Data()))
	out(r.Command(), cmdA20On)
	out(r.Command(), cmdReadOutput)
	require.EqualValues(t, outNoReset|outA20, in(r.Data()))
	r.Reset()
	require.EqualValues(t, 0x14, in(r.Command()))
	require.Zero(t, in(r.Data()))
	out(r.Command(), 0x20)
	require.EqualValues(t, 0x64, in(r.Data()))
}

func TestInterrupt(t *testing.T) {
	r := newRig(t)
	out(r.Command(), 0x60)
	out(r.Data(), confIRQ|confSystem)
	out(r.Data(), 0xf2) // identify, to a keyboard that is not there
	require.True(t, r.irq)
	require.EqualValues(t, statTimeout|statFull|statUnlock|statSystem, in(r.Command()))
	require.EqualValues(t, 0xfe, in(r.Data()))
	require.False(t, r.irq)
	out(r.Data(), 0xed)
	require.Equal(t, 2, r.edges)
	r.Reset()
	require.False(t, r.irq)
}

func TestWidths(t *testing.T) {
	r := newRig(t)
	p := []byte{0, 0, 0, 0}
	r.Command().Read(0, p)
	require.Equal(t, []byte{0x14, 0xff, 0xff, 0xff}, p)
	r.Command().Read(1, p)
	require.Equal(t, []byte{0xff, 0xff, 0xff, 0xff}, p)
	r.Command().Write(0, []byte{cmdSelfTest, 0xfe})
	r.Command().Write(1, []byte{0xfe})
	r.Command().Write(0, nil)
	r.Data().Read(0, nil)
	require.Zero(t, r.resets)
	require.EqualValues(t, 0x55, in(r.Data()))
}

// FuzzController: whatever is written, the two status bits that a driver waits
// for are right (input buffer empty; full only until the data is read), the
// line follows, and resets come only from writes.
func FuzzController(f *testing.F) {
	f.Add([]byte{1, 0xaa, 2, 0, 1, 0x60, 3, 0x47, 3, 0xff, 2, 0})
	f.Add([]byte{1, 0xd1, 3, 0xfe, 1, 0xfe, 1, 0xd3, 3, 0x5a, 2, 0, 4, 0})
	f.Fuzz(func(t *testing.T, seq []byte) {
		r := newRig(t)
		writes := 0
		for ; len(seq) >= 2; seq = seq[2:] {
			switch v := seq[1]; seq[0] % 6 {
			case 0:
				in(r.Command())
			case 1:
				out(r.Command(), v)
				writes++
			case 2:
				in(r.Data())
				if in(r.Command())&statFull != 0 {
					t.Fatal("full after the data was read")
				}
			case 3:
				out(r.Data(), v)
				writes++
			case 4:
				r.Reset()
			case 5:
				p := make([]byte, v%9)
				r.Data().Read(uint64(v)/9, p)
				r.Command().Read(uint64(v)/9, p)
				r.Command().Write(uint64(v)/9, p)
				r.Data().Write(uint64(v)/9, p)
				writes += 2
			}
			st := in(r.Command())
			if st&0x02 != 0 {
				t.Fatalf("status %#x: the input buffer is never full", st)
			}
			if want := st&statFull != 0 && r.ram[0]&confIRQ != 0; r.irq != want {
				t.Fatalf("interrupt %v with status %#x, configuration %#x", r.irq, st, r.ram[0])
			}
			if r.resets > writes {
				t.Fatalf("%d resets by %d writes", r.resets, writes)
			}
		}
	})
}
