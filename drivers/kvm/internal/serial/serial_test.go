package serial

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

// line records an interrupt line and checks that it is told of changes only.
type line struct {
	t     testing.TB
	level bool
	edges int // rises
}

func (l *line) set(level bool) {
	if level == l.level {
		l.t.Errorf("interrupt set to %v twice", level)
	}
	l.level = level
	if level {
		l.edges++
	}
}

type rig struct {
	*Port
	out bytes.Buffer
	irq line
}

func newRig(t testing.TB) *rig {
	r := &rig{irq: line{t: t}}
	r.Port = New(Config{Output: &r.out, IRQ: r.irq.set})
	return r
}

func (r *rig) in(off uint64) byte {
	p := []byte{0xaa}
	r.Read(off, p)
	return p[0]
}

func (r *rig) set(off uint64, v byte) { r.Write(off, []byte{v}) }

// drain reads what the guest's receiver holds, as a driver does: while LSR
// says so.
func (r *rig) drain() string {
	var b []byte
	for r.in(regLSR)&lsrData != 0 {
		b = append(b, r.in(regData))
	}
	return string(b)
}

func TestTransmit(t *testing.T) {
	r := newRig(t)
	require.EqualValues(t, 0x60, r.in(regLSR), "the transmitter is idle from the start")
	r.Write(regData, []byte("h"))
	r.Write(regData, []byte("i"))
	require.Equal(t, "hi", r.out.String())
	require.EqualValues(t, 0x60, r.in(regLSR))
	require.Zero(t, r.irq.edges)
}

func TestRegisters(t *testing.T) {
	r := newRig(t)
	r.set(regSCR, 0x5a)
	require.EqualValues(t, 0x5a, r.in(regSCR))
	r.set(regIER, 0xff)
	require.EqualValues(t, 0x0f, r.in(regIER), "a 16550A has no upper bits")
	r.set(regIER, 0)
	r.set(regMCR, 0xef)
	require.EqualValues(t, 0x0f, r.in(regMCR))
	r.set(regLCR, 0x83)
	require.EqualValues(t, 12, r.in(regData), "9600 baud after reset")
	r.set(regData, 1)
	r.set(regIER, 2)
	require.EqualValues(t, 1, r.in(regData))
	require.EqualValues(t, 2, r.in(regIER))
	r.set(regLCR, 3)
	require.EqualValues(t, 3, r.in(regLCR))
	require.EqualValues(t, 0, r.in(regIER), "the divisor is not IER")
	require.Empty(t, r.out.String(), "the divisor is not data")
	r.set(regLSR, 0)
	r.set(regMSR, 0)
	require.EqualValues(t, 0x60, r.in(regLSR), "read-only")
	require.EqualValues(t, 0xb0, r.in(regMSR), "the peer is ready")

	wide := []byte{0, 0, 0, 0}
	r.Read(regSCR, wide)
	require.Equal(t, []byte{0x5a, 0xff, 0xff, 0xff}, wide, "nothing past the last register")
	r.Write(regLSR, []byte{1, 2, 3, 4, 5, 6, 7, 8})
	require.EqualValues(t, 3, r.in(regSCR), "a wide write is one write to each register")
}

// TestLinuxProbe follows the accesses by which Linux's 8250 driver decides what
// chip there is (autoconfig) and whether its interrupts work (startup).
func TestLinuxProbe(t *testing.T) {
	r := newRig(t)
	// Is anything there at all?
	r.set(regIER, 0)
	require.EqualValues(t, 0, r.in(regIER)&0x0f)
	r.set(regIER, 0x0f)
	require.EqualValues(t, 0x0f, r.in(regIER))
	r.set(regIER, 0)
	// Loopback of the modem lines.
	r.set(regMCR, mcrLoop|0x0a)
	require.EqualValues(t, 0x90, r.in(regMSR)&0xf0)
	r.set(regMCR, 0)
	// FIFO, but none of the later chips.
	r.set(regLCR, 0xbf)
	r.set(regIIR, 0)
	r.set(regLCR, 0)
	require.Zero(t, r.in(regIIR)>>6)
	r.set(regIIR, fcrEnable)
	require.EqualValues(t, 3, r.in(regIIR)>>6)
	for _, lcr := range []byte{0x80, 0xbf} { // no enhanced feature register
		r.set(regLCR, lcr)
		require.NotZero(t, r.in(regIIR))
	}
	r.set(regLCR, 0)
	mcr := r.in(regMCR) // not a NatSemi Super I/O
	r.set(regLCR, 0xe0)
	require.Zero(t, (r.in(regIIR)^mcr)&mcrLoop)
	r.set(regLCR, 0)
	r.set(regMCR, mcr^mcrLoop)
	r.set(regLCR, 0xe0)
	require.Zero(t, (r.in(regIIR)^mcr)&mcrLoop)
	r.set(regLCR, 0)
	r.set(regMCR, mcr)
	for _, lcr := range []byte{0, 0x80} { // not a TI16750
		r.set(regLCR, lcr)
		r.set(regIIR, fcrEnable|0x20)
		require.EqualValues(t, 6, r.in(regIIR)>>5)
	}
	r.set(regLCR, 0)
	r.set(regIER, 0x40) // not an XScale
	require.Zero(t, r.in(regIER)&0x40)

	// Startup: clear, THRE is signalled each time it is enabled, also when it
	// was seen before.
	r.set(regIIR, fcrEnable|6)
	require.NotEqualValues(t, 0xff, r.in(regLSR))
	r.set(regLCR, 3)
	edges := r.irq.edges
	for range 3 {
		r.set(regIER, ierTHRE)
		require.True(t, r.irq.level)
		require.EqualValues(t, iirFIFO|iirTHRE, r.in(regIIR))
		require.EqualValues(t, iirFIFO|iirNone, r.in(regIIR), "acknowledged by reading IIR")
		require.False(t, r.irq.level)
		r.set(regIER, 0)
	}
	require.Equal(t, edges+3, r.irq.edges)
}

func TestTHREInterrupt(t *testing.T) {
	r := newRig(t)
	r.set(regIER, ierTHRE)
	require.EqualValues(t, iirTHRE, r.in(regIIR))
	require.False(t, r.irq.level)
	r.set(regData, 'x')
	require.True(t, r.irq.level, "empty again at once")
	require.Equal(t, 2, r.irq.edges)
	r.set(regData, 'y')
	require.Equal(t, 2, r.irq.edges, "still pending")
	r.set(regIER, 0)
	require.False(t, r.irq.level)
	r.set(regIER, ierTHRE)
	require.True(t, r.irq.level)
	r.in(regIIR)
	r.set(regIER, ierTHRE|ierRX)
	require.False(t, r.irq.level, "it was enabled already")
}

func TestPriorities(t *testing.T) {
	r := newRig(t)
	r.set(regMCR, mcrLoop)
	r.in(regMSR)
	r.set(regMCR, mcrLoop|mcrDTR) // modem change
	r.set(regData, 'a')
	r.set(regData, 'b') // overruns the single holding register
	r.set(regIER, 0x0f)
	require.EqualValues(t, iirLine, r.in(regIIR))
	require.EqualValues(t, 0x63, r.in(regLSR))
	require.EqualValues(t, 0x61, r.in(regLSR), "the error is told once")
	require.EqualValues(t, iirRX, r.in(regIIR))
	require.EqualValues(t, iirRX, r.in(regIIR), "stays until the data is read, and hides THRE")
	require.EqualValues(t, 'b', r.in(regData))
	require.EqualValues(t, iirTHRE, r.in(regIIR))
	require.EqualValues(t, iirModem, r.in(regIIR))
	require.True(t, r.irq.level)
	require.Equal(t, 1, r.irq.edges, "one pending interrupt after the other is one level")
	require.EqualValues(t, msrDSR|msrDeltaDSR, r.in(regMSR))
	require.EqualValues(t, iirNone, r.in(regIIR))
	require.False(t, r.irq.level)
}

func TestLoopback(t *testing.T) {
	r := newRig(t)
	r.set(regIIR, fcrEnable)
	r.set(regMCR, mcrRTS)
	r.Input([]byte("from outside"))
	require.Equal(t, "from outside", r.drain())
	r.set(regMCR, mcrLoop|mcrRTS|mcrOut1)
	require.EqualValues(t, msrCTS|msrRI|msrDeltaDSR|msrDeltaDCD, r.in(regMSR))
	r.set(regMCR, mcrLoop)
	require.EqualValues(t, msrDeltaCTS|msrTrailRI, r.in(regMSR))
	r.set(regMCR, mcrLoop|mcrOut1)
	require.EqualValues(t, msrRI, r.in(regMSR), "only the end of a ring counts")

	r.Input([]byte("held back"))
	for i := range byte(FIFOSize + 1) {
		r.set(regData, 'A'+i)
	}
	require.EqualValues(t, 0x63, r.in(regLSR), "overrun")
	require.Equal(t, "ABCDEFGHIJKLMNOP", r.drain())
	require.Empty(t, r.out.String(), "nothing leaves")
	r.set(regMCR, mcrRTS)
	require.Equal(t, "held back", r.drain())
}

func TestReset(t *testing.T) {
	r := newRig(t)
	r.set(regIIR, fcrEnable)
	r.set(regMCR, mcrRTS)
	r.set(regIER, 0x0f)
	r.set(regLCR, 0x1b)
	r.set(regSCR, 1)
	require.Equal(t, 30, r.Input(bytes.Repeat([]byte("z"), 30)))
	require.True(t, r.irq.level)
	r.Reset()
	require.False(t, r.irq.level)
	got := make([]byte, 8)
	r.Read(0, got)
	require.Equal(t, []byte{0, 0, 1, 0, 0, 0x60, 0xb0, 0}, got)
	r.set(regIIR, fcrEnable)
	r.set(regMCR, mcrRTS)
	require.Len(t, r.drain(), 30-FIFOSize, "what had not reached the FIFO is still to come")
}

func TestNoAllocation(t *testing.T) {
	p := New(Config{IRQ: func(bool) {}})
	one, in := []byte{'x'}, []byte("0123456789")
	p.Write(regIIR, []byte{fcrEnable})
	p.Write(regMCR, []byte{mcrRTS})
	require.Zero(t, testing.AllocsPerRun(100, func() {
		p.Write(regData, one)
		p.Read(regLSR, one)
		p.Input(in)
		for range in {
			p.Read(regData, one)
		}
		p.Write(regIER, one)
		p.Read(regIIR, one)
	}))
}
