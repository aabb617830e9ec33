//go:build linux && amd64

package main

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func needKVM(t *testing.T) {
	t.Helper()
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("needs /dev/kvm: %v", err)
	}
	f.Close()
}

// The whole machine, not only its run loop, allocates nothing for an exit.
func TestNothingAllocated(t *testing.T) {
	needKVM(t)
	m, err := machine(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, m.Close()) }()
	require.NoError(t, m.Start())
	a, err := allocations(t.Context(), m)
	require.NoError(t, err)
	require.Greater(t, a.Exits, uint64(100))
	assert.Less(t, float64(a.Objects)/float64(a.Exits), 0.01)
}
