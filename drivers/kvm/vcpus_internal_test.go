//go:build linux && amd64

package kvm

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/vmmproc"
)

// What a thread is seen to do on its way to sleep does not count once its domain is paused.
func TestPausedVCPUsAreBlocked(t *testing.T) {
	seen := []vmmproc.VCPU{{CPU: 1, Running: true, Affinity: []byte{2}}, {CPU: 0, Affinity: []byte{1}}, {CPU: -1}}
	for paused, want := range map[bool][]polyvisor.VCPUState{
		false: {polyvisor.VCPURunning, polyvisor.VCPUBlocked, polyvisor.VCPUOffline},
		true:  {polyvisor.VCPUBlocked, polyvisor.VCPUBlocked, polyvisor.VCPUOffline},
	} {
		list, err := vcpusOf(seen, paused)
		require.NoError(t, err)
		for n, v := range list {
			require.Equal(t, want[n], v.State, "vCPU %d, paused %t", n, paused)
		}
	}
}
