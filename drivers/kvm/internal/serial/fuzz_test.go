package serial

import "testing"

// FuzzPort runs any sequence of accesses, inputs and resets. What must hold
// after each step: the interrupt line says what IIR will say, LSR agrees with
// the receiver, at most as many bytes came out as were written, and the bytes
// of the line arrive in order (a counter makes gaps visible).
func FuzzPort(f *testing.F) {
	f.Add([]byte{1, 2, 1, 0, 1, 4, 2, 0, 2, 40, 0, 5, 0, 0, 0, 0, 0, 2})
	f.Add([]byte{1, 4, 0x12, 1, 0, 'x', 1, 0, 'y', 0, 5, 0, 2, 0, 0})
	f.Add([]byte{2, 9, 0, 5, 0, 5, 0, 5, 0, 5, 0, 5, 0, 5, 0, 5, 0, 5, 0, 0, 3, 0, 1, 3, 0x80, 0, 0})
	f.Add([]byte{4, 0, 8, 5, 1, 7, 1, 1, 2, 0, 2, 1, 0, 'z', 0, 2})
	f.Fuzz(func(t *testing.T, in []byte) {
		r := newRig(t)
		next := func() (b byte) {
			if len(in) > 0 {
				b, in = in[0], in[1:]
			}
			return b
		}
		wrote, sent := 0, byte(0)
		for len(in) > 0 {
			switch next() % 6 {
			case 0:
				r.in(uint64(next() % Size))
			case 1:
				off, v := uint64(next()%Size), next()
				if off == regData {
					wrote++
				}
				r.set(off, v)
			case 2:
				p := make([]byte, int(next())*20)
				for i := range p {
					p[i] = sent + byte(i)
				}
				sent += byte(r.Input(p))
			case 3:
				r.Reset()
			case 4: // any offset and width
				p := make([]byte, next()%9)
				r.Read(uint64(next()), p)
			case 5:
				off, p := uint64(next()%16), make([]byte, next()%9)
				for i := range p {
					p[i] = next()
				}
				if off == regData {
					wrote++
				}
				r.Write(off, p)
			}
			if r.irq.level != (r.source() != iirNone) {
				t.Fatalf("line %v with source %#x", r.irq.level, r.source())
			}
			if r.out.Len() > wrote {
				t.Fatalf("%d bytes came out of %d", r.out.Len(), wrote)
			}
			if r.fifoLen > FIFOSize || r.backLen > Backlog || r.fifoLen < 0 || r.backLen < 0 {
				t.Fatalf("buffers hold %d and %d", r.fifoLen, r.backLen)
			}
			if r.backLen > 0 && r.regs.listening() && r.fifoLen < r.depth() {
				t.Fatal("input waits although the guest listens and has room")
			}
			for i := 1; i < r.backLen; i++ {
				a, b := r.back[(r.backHead+i-1)%Backlog], r.back[(r.backHead+i)%Backlog]
				if b != a+1 {
					t.Fatal("input out of order")
				}
			}
		}
	})
}
