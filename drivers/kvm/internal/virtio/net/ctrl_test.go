//go:build linux

package net

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio/virtiotest"
)

func pairsCommand(n byte) [][]byte { return [][]byte{{4, 0}, {n, 0}} }

func offloadsCommand(f byte) [][]byte { return [][]byte{{5, 0}, {f, 0, 0, 0, 0, 0, 0, 0}} }

func TestControlQueue(t *testing.T) {
	const control = 8
	features := uint64(offloads | MQ | CtrlVQ | CtrlGuestOffloads)
	d, h, _, seen := start(t, Config{Backend: Backend{VNetHdr: true, Offloads: true}}, 4, virtiotest.Options{Features: features})
	for _, tc := range []struct {
		name string
		cmd  [][]byte
		ok   bool
	}{
		{"two pairs", pairsCommand(2), true},
		{"all pairs", pairsCommand(4), true},
		{"in one part", [][]byte{{4, 0, 3, 0}}, true},
		{"byte by byte", [][]byte{{4}, {0}, {2}, {0}}, true},
		{"no pair", pairsCommand(0), false},
		{"too many pairs", pairsCommand(5), false},
		{"very many pairs", [][]byte{{4, 0, 0, 0x80}}, false},
		{"pairs cut short", [][]byte{{4, 0, 1}}, false},
		{"pairs and more", [][]byte{{4, 0, 1, 0, 0}}, false},
		{"class only", [][]byte{{4}}, false},
		{"nothing", nil, false},
		{"unknown class", [][]byte{{9, 0, 1, 0}}, false},
		{"unknown command", [][]byte{{4, 9, 1, 0}}, false},
		{"promiscuous, which was not offered", [][]byte{{0, 0, 1}}, false},
		{"very long", [][]byte{make([]byte, 100000)}, false},
		{"no offloads", offloadsCommand(0), true},
		{"one offload", offloadsCommand(GuestCsum), true},
		{"an offload without what it needs", offloadsCommand(GuestTSO4), true},
		{"an offload that is none", offloadsCommand(1 << 2), false},
		{"unknown offloads", [][]byte{{5, 0}, {2, 0, 0, 0, 0, 0, 0, 1}}, false},
		{"offloads cut short", [][]byte{{5, 0}, {2, 0, 0, 0}}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := d.Stats().CtrlErrors
			want := []byte{ctrlErr}
			if tc.ok {
				want[0], before = ctrlOK, before-1
			}
			assert.Equal(t, want, h.Do(control, tc.cmd, 1))
			assert.Equal(t, before+1, d.Stats().CtrlErrors)
		})
	}
	assert.Equal(t, uint64(2), seen.pairs.Load())
	assert.Zero(t, seen.offloads.Load(), "TSO without checksums is nothing")
	h.Do(control, offloadsCommand(GuestCsum))
	assert.Equal(t, uint64(GuestCsum), seen.offloads.Load(), "a command needs no place for its answer")
	h.Do(control, pairsCommand(4), 1)

	h.Reset()
	h.Begin()
	until(t, "defaults", func() bool { return seen.pairs.Load() == 1 && seen.offloads.Load() == offloads&guestOffloads })
}

// Commands that were not negotiated are refused, and the control queue is where the driver looks for it.
func TestControlQueueWithoutMQ(t *testing.T) {
	_, h, _, seen := start(t, Config{}, 3, virtiotest.Options{Features: CtrlVQ})
	assert.Equal(t, []byte{ctrlErr}, h.Do(2, pairsCommand(2), 1))
	assert.Equal(t, []byte{ctrlErr}, h.Do(2, offloadsCommand(0), 1))
	assert.Equal(t, uint64(1), seen.pairs.Load())
}

func TestBackendRefusesCommand(t *testing.T) {
	c := Config{SetPairs: func(n int) error {
		if n > 1 {
			return errors.New("not so many")
		}
		return nil
	}}
	_, h, _, _ := start(t, c, 2, virtiotest.Options{Features: CtrlVQ | MQ})
	assert.Equal(t, []byte{ctrlErr}, h.Do(4, pairsCommand(2), 1))
	assert.Equal(t, []byte{ctrlOK}, h.Do(4, pairsCommand(1), 1))
	assert.Empty(t, h.Failures())
}

func TestPairs(t *testing.T) {
	d, h, peer, _ := start(t, Config{}, 2, virtiotest.Options{Features: CtrlVQ | MQ | MrgRxbuf})
	for i := range 2 {
		for range 4 {
			h.Queue(2*i).Add(nil, 1526)
		}
		h.Kick(2 * i)
	}
	// The second pair is not in use: nothing is received there.
	write(t, peer[1], frame(60, 1))
	until(t, "the drop", func() bool { return d.Stats().RxDrops == 1 })
	assert.Equal(t, []byte{ctrlOK}, h.Do(4, pairsCommand(2), 1))
	for i := range 2 {
		write(t, peer[i], frame(100, byte(i)))
		_, data, _ := receive(t, h, 2*i)
		assert.Equal(t, frame(100, byte(i)), data)
		send(t, h, 2*i+1, noHeader, frame(200, byte(i)))
		assert.Equal(t, frame(200, byte(i)), read(t, peer[i]))
	}
}
