package cmos

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func newAt(s string) *Device {
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		panic(err)
	}
	return New(2<<30, 5<<30, func() time.Time { return at })
}

func (d *Device) get(reg byte) byte {
	d.Write(0, []byte{reg})
	p := []byte{0}
	d.Read(1, p)
	return p[0]
}

func (d *Device) put(reg, v byte) {
	d.Write(0, []byte{reg})
	d.Write(1, []byte{v})
}

func (d *Device) all(regs ...byte) (v []byte) {
	for _, r := range regs {
		v = append(v, d.get(r))
	}
	return v
}

func TestTime(t *testing.T) {
	d := newAt("2034-11-09T21:58:37+02:00") // a Thursday
	clock := []byte{regSeconds, regMinutes, regHours, regWeekday, regDay, regMonth, regYear, regCentury}
	require.Equal(t, []byte{0x37, 0x58, 0x19, 5, 0x09, 0x11, 0x34, 0x20}, d.all(clock...), "decimal digits, UTC")
	d.put(regB, b24Hours|bBinary|0x70)
	require.EqualValues(t, b24Hours|bBinary, d.get(regB), "no interrupts")
	require.Equal(t, []byte{37, 58, 19, 5, 9, 11, 34, 20}, d.all(clock...))
	d.put(regB, bBinary)
	require.EqualValues(t, 7|afternoon, d.get(regHours))
	d.put(regHours, 3)
	require.EqualValues(t, 7|afternoon, d.get(regHours), "what is set is forgotten")
	for s, want := range map[string]byte{"00": 0x12, "01": 0x01, "11": 0x11, "12": 0x12 | afternoon, "23": 0x11 | afternoon} {
		d = newAt("2034-11-09T" + s + ":00:00Z")
		d.put(regB, 0)
		require.Equal(t, want, d.get(regHours), s)
	}
	require.Equal(t, []byte{dividerOn, 0, dValid}, d.all(regA, regC, regD), "running, no interrupt, power is good")
}

func TestMemory(t *testing.T) {
	for _, c := range []struct {
		low, high uint64
		want      []byte
	}{
		{8 << 20, 0, []byte{0, 0, 0, 0, 0}},
		{256 << 20, 0, []byte{0, 0x0f, 0, 0, 0}},
		{2 << 30, 5 << 30, []byte{0, 0x7f, 0, 0x40, 0x01}},
		{2 << 30, 1 << 46, []byte{0, 0x7f, 0xff, 0xff, 0xff}},
	} {
		d := New(c.low, c.high, nil)
		require.Equal(t, c.want, d.all(regLow, regLow+1, regHigh, regHigh+1, regHigh+2))
	}
}

func TestIndex(t *testing.T) {
	d := newAt("2034-11-09T21:58:37Z")
	d.put(0x80|0x40, 0x55)
	require.EqualValues(t, 0x55, d.get(0x40), "the highest bit is no part of it")
	p := []byte{0, 0}
	d.Read(0, p)
	require.Equal(t, []byte{0xff, 0x55}, p)
}

func FuzzDevice(f *testing.F) {
	f.Add([]byte{0, 0x0b, 1, 0xff, 2, 0})
	f.Fuzz(func(t *testing.T, ops []byte) {
		d := newAt("2034-11-09T21:58:37Z")
		for ; len(ops) > 1; ops = ops[2:] {
			p := []byte{ops[1], ops[1]}
			if ops[0]&2 == 0 {
				d.Write(uint64(ops[0]&1), p[:2-ops[0]&1])
			} else {
				d.Read(uint64(ops[0]&1), p[:2-ops[0]&1])
			}
		}
		if d.get(regD) != dValid || d.get(regA) != dividerOn {
			t.Fatal("the guest has stopped the clock")
		}
	})
}
