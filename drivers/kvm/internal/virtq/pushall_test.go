package virtq_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/guestmem"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtq"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtq/virtqtest"
)

// A driver that sees the first request of a PushAll sees the last, over many turns of the ring. There are many of them,
// so that a device that gave them back one by one would take long enough to be caught.
func TestPushAllAppearsAtOnce(t *testing.T) {
	eachLayout(t, func(t *testing.T, o virtqtest.Options) {
		const size, together, rounds = 256, 200, 100
		d, q := pair(t, size, o)
		var device sync.WaitGroup
		added := make(chan struct{})
		device.Go(func() {
			c, written := make([]virtq.Chain, together), make([]uint32, together)
			for i := range written {
				written[i] = uint32(i) // more than there is room for, in the end
			}
			for range added {
				for i := range c {
					if ok, err := q.Pop(&c[i]); !ok || err != nil {
						t.Errorf("%v, %v", ok, err)
					}
				}
				q.PushAll(c, written)
				q.PushAll(c, written) // they are given back already
			}
		})
		defer device.Wait()
		defer close(added)
		index := d.Bytes(d.Config().Device+2, 2)
		for round := range uint16(rounds) {
			for range together {
				d.Add(nil, 100)
			}
			first, last := index, index // split: there is one index
			if o.Packed {
				first, last = d.Desc(round * together % size)[14:], d.Desc((round*together + together - 1) % size)[14:]
			}
			before, lastBefore := guestmem.Load16(first), guestmem.Load16(last)
			added <- struct{}{}
			for guestmem.Load16(first) == before {
			}
			if now := guestmem.Load16(last); o.Packed {
				require.NotEqual(t, lastBefore, now, "the last is not there with the first")
			} else {
				require.Equal(t, before+together, now, "the last is not there with the first")
			}
			for i := range together {
				_, n, ok := d.Used()
				require.True(t, ok)
				require.EqualValues(t, min(i, 100), n)
			}
		}
		q.PushAll(nil, nil)
	})
}
