package libvirt

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/internal/leaktest"
	"github.com/polyvisor/polyvisor/internal/libvirttest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func build(t *testing.T) string {
	t.Helper()
	path, err := Build(t.Context(), t.TempDir())
	if errors.Is(err, ErrNoLibrary) {
		t.Skip(err)
	}
	require.NoError(t, err)
	return path
}

// The reference makes calls on a real daemon.
func TestC(t *testing.T) {
	program := build(t)
	d := libvirttest.Start(t, libvirttest.Options{})
	uri := d.URI("test", libvirttest.Unix)
	c, err := StartC(t.Context(), program, uri, "test")
	require.NoError(t, err)
	for _, op := range Ops {
		for _, threads := range []int{1, 16} {
			took, err := c.Time(t.Context(), op, threads, 10)
			require.NoError(t, err)
			assert.Positive(t, took)
		}
	}
	figures, err := Measure(t.Context(), Plan{Ops: Ops, Threads: []int{1, 3}, Pairs: 1, Turn: time.Millisecond}, Subject{"C", c})
	require.NoError(t, err)
	require.Len(t, figures, 6)
	for _, f := range figures {
		assert.Positive(t, f.Rate())
		assert.Nil(t, f.Ratio)
	}
	_, err = c.Time(t.Context(), "bogus", 1, 1)
	require.ErrorContains(t, err, "bad line: bogus")
	require.NoError(t, c.Close(), "told already")

	c, err = StartC(t.Context(), program, uri, "nobody")
	require.NoError(t, err)
	_, err = c.Time(t.Context(), State, 1, 1)
	require.ErrorContains(t, err, "nobody")

	c, err = StartC(t.Context(), program, uri, "test")
	require.NoError(t, err)
	_, err = c.Time(t.Context(), State, 1, 1)
	require.NoError(t, err)
	require.NoError(t, d.Kill())
	_, err = c.Time(t.Context(), State, 4, 10)
	require.ErrorContains(t, err, "state")

	c, err = StartC(t.Context(), program, uri, "test")
	require.NoError(t, err)
	require.ErrorContains(t, c.Close(), d.Socket())
}

// known is a client that takes a known time for each call.
type known struct {
	each  time.Duration
	calls *[]string
	name  string
}

func (k known) Time(_ context.Context, _ Op, threads, count int) (time.Duration, error) {
	*k.calls = append(*k.calls, k.name)
	return time.Duration(threads*count) * k.each, nil
}

func TestMeasure(t *testing.T) {
	var calls []string
	p := Plan{Ops: []Op{State}, Threads: []int{1, 4}, Pairs: 4, Turn: time.Second}
	a := Subject{"a", known{time.Microsecond, &calls, "a"}}
	b := Subject{"b", known{2 * time.Microsecond, &calls, "b"}}
	figures, err := Measure(t.Context(), p, a, b)
	require.NoError(t, err)
	require.Len(t, figures, 4)
	for i, want := range []struct {
		name    string
		threads int
		rate    float64
	}{{"a", 1, 1e6}, {"b", 1, 5e5}, {"a", 4, 1e6}, {"b", 4, 5e5}} {
		f := figures[i]
		assert.Equal(t, want.name, f.Subject)
		assert.Equal(t, want.threads, f.Threads)
		assert.Len(t, f.Rates, 4)
		assert.InEpsilon(t, want.rate, f.Rate(), 1e-6)
		if want.name == "b" {
			require.NotNil(t, f.Ratio)
			assert.InEpsilon(t, 0.5, f.Ratio.Estimate, 1e-6)
		}
	}
	assert.Equal(t, []string{"a", "b", "b", "a", "a", "b", "b", "a"}, calls[len(calls)-8:], "turns")

	bad := errors.New("no daemon")
	_, err = Measure(t.Context(), p, a, Subject{"c", Funcs{State: func(context.Context) error { return bad }}})
	require.ErrorIs(t, err, bad)
	require.ErrorContains(t, err, "c: ")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Measure(ended, p, a)
	require.ErrorIs(t, err, context.Canceled)
}

func TestFuncs(t *testing.T) {
	var n, most, now atomic.Int64
	f := Funcs{Info: func(context.Context) error {
		for at := now.Add(1); ; {
			old := most.Load()
			if at <= old || most.CompareAndSwap(old, at) {
				break
			}
		}
		time.Sleep(time.Millisecond)
		now.Add(-1)
		n.Add(1)
		return nil
	}}
	for _, threads := range []int{1, 8} {
		n.Store(0)
		took, err := f.Time(t.Context(), Info, threads, 5)
		require.NoError(t, err)
		assert.GreaterOrEqual(t, took, 5*time.Millisecond)
		assert.EqualValues(t, 5*threads, n.Load())
	}
	assert.Greater(t, most.Load(), int64(1), "goroutines call at the same time")
	_, err := f.Time(t.Context(), State, 1, 1)
	require.ErrorContains(t, err, "state")
}

var sink []*int

func TestAllocations(t *testing.T) {
	f := Funcs{
		State: func(context.Context) error { return nil },
		Info: func(context.Context) error {
			sink = sink[:0]
			for i := range 3 {
				sink = append(sink, &i)
			}
			return nil
		},
	}
	for op, want := range map[Op]float64{State: 0, Info: 3} {
		got, err := f.Allocations(t.Context(), op)
		require.NoError(t, err)
		assert.InDelta(t, want, got, 0.5, op)
	}
}
