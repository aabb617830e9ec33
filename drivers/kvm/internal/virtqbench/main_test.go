//go:build linux && amd64

package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// The driver and the queue agree, over many turns of the indices, and nothing is allocated.
func TestRing(t *testing.T) {
	r, err := newRing()
	require.NoError(t, err)
	defer func() { require.NoError(t, r.mem.Close()) }()
	require.NoError(t, r.do(100_000))
	require.Zero(t, r.q.InFlight())
	require.Len(t, r.chain.Writable, 1)
	require.Len(t, r.chain.Writable[0], 4096)
	require.Zero(t, testing.AllocsPerRun(10, func() { require.NoError(t, r.do(100)) }))
	_, err = againstC(t.Context(), "", 1, 1, r.do)
	require.ErrorContains(t, err, "no reference")
}
