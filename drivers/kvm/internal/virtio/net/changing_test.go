//go:build linux

package net

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtq/virtqtest"
)

// A guest that rewrites the header of a frame while it is sent: the header that was judged is the one that goes to the
// back end.
func TestHeadersThatChange(t *testing.T) {
	b := newBare(t, Config{Backend: Backend{VNetHdr: true, Offloads: true}}, virtqtest.Options{})
	features := effective(offloads & b.d.Features())
	b.d.pairs[0].conn = &drained{b, t, make([]byte, 1<<17), func(m []byte) {
		h := [hdrLen]byte(m)
		if err := checkTx(&h, uint64(len(m)-hdrLen), features); err != nil {
			t.Errorf("header % x: %v", h, err)
		}
	}}
	w := newTx(b.d, b.d.pairs[0], b.q, features)
	id := b.drv.Add([][]byte{join(noHeader, frame(100, 1))})
	_, err := w.Step()
	require.NoError(t, err)
	head := b.drv.Bytes(b.drv.Buffers(id)[0].Addr, hdrLen)
	var stop atomic.Bool
	var guest sync.WaitGroup
	guest.Go(func() {
		for list := [][]byte{noHeader, header(1, 0, 0, 0, 34, 16, 0), header(1, 0, 0, 0, 0xffff, 16, 0), header(1, 1, 54, 1448, 34, 16, 0), header(1, 3, 54, 0, 34, 16, 0)}; !stop.Load(); {
			for _, h := range list {
				for range 4 {
					copy(head, h)
				}
			}
		}
	})
	for s := b.d.Stats(); s.TxPackets < 10000 || s.TxErrors == 0; s = b.d.Stats() {
		b.drv.Offer(id)
		_, err := w.Step()
		require.NoError(t, err)
	}
	stop.Store(true)
	guest.Wait()
}
