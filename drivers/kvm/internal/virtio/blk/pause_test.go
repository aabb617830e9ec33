package blk

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A paused disk has nothing under way, with its helpers neither, and answers nothing; then it goes on.
func TestPause(t *testing.T) {
	img := newMemory(diskSize)
	var inside, begun atomic.Int32
	img.hook = func(string, int64, int64) error {
		inside.Add(1)
		begun.Add(1)
		time.Sleep(time.Millisecond) // slow enough for helpers
		inside.Add(-1)
		return nil
	}
	g := boot(t, Config{Image: img, Queues: 2})
	for round := range 5 {
		var all []*pending
		for i := range 40 {
			all = append(all, g.add(i%2, [][]byte{header(typeIn, 0)}, 512, 1))
		}
		g.kick(0)
		g.kick(1)
		time.Sleep(time.Duration(round) * time.Millisecond)
		require.NoError(t, g.h.Core.Pause(t.Context()))
		require.Zero(t, inside.Load())
		g.poll(0)
		g.poll(1)
		g.h.Quiet(func() {
			all = append(all, g.add(0, [][]byte{header(typeFlush, 0)}, 1))
			g.kick(0)
			g.kick(1)
		}, func() any { return []any{begun.Load(), g.dev.Stats()} }, 0, 1)
		for _, p := range all {
			require.EqualValues(t, statusOK, p.status())
		}
	}
}
