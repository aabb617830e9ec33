package serial

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReceiveInterrupt(t *testing.T) {
	for _, tc := range []struct {
		name string
		fcr  byte
		in   int
		iir  byte
	}{
		{"no FIFO", 0, 1, iirRX},
		{"no FIFO, more waiting", 0, 5, iirRX},
		{"trigger 1", fcrEnable, 1, iirFIFO | iirRX},
		{"below trigger 4", fcrEnable | 0x40, 3, iirFIFO | iirTimeout},
		{"at trigger 4", fcrEnable | 0x40, 4, iirFIFO | iirRX},
		{"below trigger 8", fcrEnable | 0x80, 7, iirFIFO | iirTimeout},
		{"at trigger 8", fcrEnable | 0x80, 8, iirFIFO | iirRX},
		{"below trigger 14", fcrEnable | 0xc0, 13, iirFIFO | iirTimeout},
		{"above trigger 14", fcrEnable | 0xc0, 40, iirFIFO | iirRX},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t)
			r.set(regIIR, tc.fcr)
			r.set(regMCR, mcrDTR|mcrRTS|mcrOut2)
			r.set(regIER, ierRX)
			require.EqualValues(t, tc.fcr&1*iirFIFO|iirNone, r.in(regIIR))
			in := strings.Repeat("abcdefg", 10)[:tc.in]
			require.Equal(t, tc.in, r.Input([]byte(in)))
			require.True(t, r.irq.level)
			require.Equal(t, tc.iir, r.in(regIIR))
			// Down to the last byte there is a reason to read on.
			for i := range in {
				require.True(t, r.irq.level)
				require.EqualValues(t, in[i], r.in(regData))
			}
			require.False(t, r.irq.level)
			require.Equal(t, 1, r.irq.edges)
			require.Zero(t, r.in(regData))
			r.Input([]byte("!"))
			require.Equal(t, 2, r.irq.edges, "an edge for what comes after")
		})
	}
}

// TestTypeAhead: nothing typed before the guest opens its console is lost,
// whatever the driver clears on the way.
func TestTypeAhead(t *testing.T) {
	const text = "ls -l\necho done, and more than a FIFO holds\n"
	t.Run("Linux", func(t *testing.T) {
		r := newRig(t)
		r.Input([]byte(text))
		for _, c := range "boot messages" { // polled console, DTR on
			r.set(regMCR, mcrDTR)
			r.in(regLSR)
			r.set(regData, byte(c))
			r.in(regLSR)
		}
		r.set(regIIR, fcrEnable) // startup
		r.set(regIIR, fcrEnable|6)
		r.set(regIIR, 0)
		for range 2 {
			r.in(regLSR)
			r.in(regData)
			r.in(regIIR)
			r.in(regMSR)
		}
		r.set(regMCR, mcrDTR|mcrOut2)
		require.Zero(t, r.in(regLSR)&lsrData)
		r.set(regIER, ierRX|ierLine) // set_termios: interrupt first, then the FIFO
		r.set(regIIR, fcrEnable)
		r.set(regIIR, fcrEnable|0x80)
		r.set(regMCR, mcrDTR|mcrRTS|mcrOut2)
		require.True(t, r.irq.level)
		require.Equal(t, text, r.drain())
		require.Equal(t, "boot messages", r.out.String())
	})
	t.Run("interrupts without RTS", func(t *testing.T) {
		r := newRig(t)
		r.Input([]byte(text))
		r.set(regIIR, fcrEnable|6)
		require.False(t, r.irq.level)
		r.set(regIER, ierRX)
		require.True(t, r.irq.level)
		require.Equal(t, text, r.drain())
	})
	t.Run("polling without RTS", func(t *testing.T) {
		r := newRig(t)
		for range 20 {
			require.Zero(t, r.in(regLSR)&lsrData)
		}
		r.Input([]byte(text))
		require.Equal(t, text, r.drain())
	})
	t.Run("polling, input was first", func(t *testing.T) {
		r := newRig(t)
		r.Input([]byte(text))
		for range pollReads - 1 {
			require.Zero(t, r.in(regLSR)&lsrData)
		}
		require.Equal(t, text, r.drain())
	})
}

func TestFlowControl(t *testing.T) {
	r := newRig(t)
	r.set(regIIR, fcrEnable)
	r.set(regIER, ierRX)
	r.set(regMCR, mcrDTR|mcrRTS)
	r.Input(bytes.Repeat([]byte("x"), 20))
	r.set(regMCR, mcrDTR) // the guest's buffer is full
	require.Len(t, r.drain(), FIFOSize, "what had arrived stays")
	r.Input([]byte("y"))
	require.False(t, r.irq.level, "the peer waits although the receive interrupt is on")
	r.set(regMCR, mcrDTR|mcrRTS)
	require.Equal(t, "xxxxy", r.drain())
}

func TestClearFIFO(t *testing.T) {
	r := newRig(t)
	r.set(regIIR, fcrEnable)
	r.set(regMCR, mcrRTS)
	r.Input([]byte("lost"))
	r.set(regIIR, fcrEnable|fcrClearRX)
	require.Empty(t, r.drain())
	r.Input([]byte("new"))
	require.Equal(t, "new", r.drain())
}

// TestFlood gives 1 GiB to a guest that does not read.
func TestFlood(t *testing.T) {
	r := newRig(t)
	r.set(regIIR, fcrEnable)
	r.set(regMCR, mcrRTS)
	r.set(regIER, ierRX)
	chunk := make([]byte, 1<<20)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	taken := 0
	for range 1 << 10 {
		taken += r.Input(chunk)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	require.Equal(t, Backlog+FIFOSize, taken)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20), "bytes allocated for 1 GiB")
	require.Equal(t, 1, r.irq.edges)
	require.Len(t, r.drain(), Backlog+FIFOSize)
}

func TestFeed(t *testing.T) {
	r := newRig(t)
	text := make([]byte, 10*Backlog+7)
	for i := range text {
		text[i] = byte(i >> 3)
	}
	done := make(chan error, 1)
	go func() {
		n, err := r.Feed(context.Background(), text)
		if err == nil && n != len(text) {
			err = errors.New("short without error")
		}
		done <- err
	}()
	r.set(regIIR, fcrEnable)
	r.set(regMCR, mcrRTS)
	var got []byte
	for len(got) < len(text) {
		got = append(got, r.drain()...)
		runtime.Gosched()
	}
	require.NoError(t, <-done)
	require.True(t, bytes.Equal(text, got))
}

func TestFeedEnds(t *testing.T) {
	big := make([]byte, 3*Backlog)
	t.Run("context", func(t *testing.T) {
		r := newRig(t)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		n, err := r.Feed(ctx, big)
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, Backlog, n)
		n, err = r.Feed(ctx, nil)
		require.NoError(t, err)
		require.Zero(t, n)
	})
	t.Run("close", func(t *testing.T) {
		r := newRig(t)
		var wg sync.WaitGroup
		for range 3 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				if _, err := r.Feed(context.Background(), big); !errors.Is(err, ErrClosed) {
					t.Errorf("Feed on a closed port: %v", err)
				}
			}()
		}
		for r.Input([]byte("x")) > 0 { // until a feeder, or this, filled the backlog
			runtime.Gosched()
		}
		r.Close()
		r.Close()
		wg.Wait()
		require.Zero(t, r.Input([]byte("x")))
		_, err := r.Feed(context.Background(), []byte("x"))
		require.ErrorIs(t, err, ErrClosed)
		r.set(regData, 'o')
		require.Equal(t, "o", r.out.String(), "the guest's side goes on")
	})
}

// TestConcurrent is for the race detector: vCPUs, feeders and a reset.
func TestConcurrent(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(context.Background())
	var vcpus, feeders sync.WaitGroup
	for range 2 {
		feeders.Add(1)
		go func() {
			defer feeders.Done()
			for {
				if _, err := r.Feed(ctx, []byte("some words of input")); err != nil {
					return
				}
			}
		}()
	}
	for v := range 2 {
		vcpus.Add(1)
		go func() {
			defer vcpus.Done()
			for i := range 2000 {
				r.set(regMCR, mcrRTS)
				r.set(regIER, byte(i))
				r.set(regData, byte('a'+v))
				r.in(regIIR)
				r.in(regData)
				if i%500 == 0 {
					r.Reset()
				}
			}
		}()
	}
	vcpus.Wait()
	cancel()
	feeders.Wait()
	require.Len(t, r.out.String(), 4000)
}
