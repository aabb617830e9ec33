//go:build linux && amd64

package vmm

import (
	"fmt"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/vcpu"
)

// Threads looks at the threads of the processors, in any state, in the order of
// the processors.
func (m *Machine) Threads() []vcpu.Thread {
	list := make([]vcpu.Thread, len(m.vcpus))
	for i, v := range m.vcpus {
		list[i] = v.Thread()
	}
	return list
}

// Pin binds the thread of a processor to host CPUs, given as a map, also before Start. An error
// matches ErrSpec if there is no such processor or the host has none of the CPUs.
func (m *Machine) Pin(number int, cpus []byte) error {
	if number < 0 || number >= len(m.vcpus) {
		return fmt.Errorf("%w: vCPU %d, the machine has %d", ErrSpec, number, len(m.vcpus))
	}
	err := m.vcpus[number].Pin(cpus)
	switch err {
	case nil:
		return nil
	case vcpu.ErrNoCPU:
		return fmt.Errorf("%w: vCPU %d: %w", ErrSpec, number, err)
	case vcpu.ErrStopped:
		return &StateError{Op: "pin", State: StateStopped, Want: []State{StateCreated, StateRunning, StatePaused}}
	}
	return fmt.Errorf("vCPU %d: %w", number, err)
}
