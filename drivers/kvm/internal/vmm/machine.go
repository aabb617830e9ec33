//go:build linux && amd64

package vmm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/guestmem"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/kvmapi"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/vcpu"
)

// Machine is a virtual machine. Its methods are safe for concurrent use.
type Machine struct {
	spec  Spec
	vm    *kvmapi.VM
	mem   *guestmem.Memory
	cpus  []*kvmapi.VCPU
	vcpus []*vcpu.VCPU
	*platform
	pci      *pciBus // nil without devices
	devices  devices
	firmware *firmware // nil without
	undo     undoList

	// op is held by the operations that change the state and wait for processors.
	op sync.Mutex

	mu       sync.Mutex // guards what follows; never held while waiting
	state    State
	stop     Stop // valid when stopping
	stopping bool
	stopReq  chan struct{} // closed with stopping
	done     chan struct{} // closed when the state is stopped
	closed   bool
}

// changeState is the only place where the state changes, except for the end.
func (m *Machine) changeState(op string, to State, from ...State) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.state
	if m.stopping {
		s = StateStopped
	}
	if !slices.Contains(from, s) {
		return &StateError{Op: op, State: s, Want: from}
	}
	m.state = to
	return nil
}

// Start lets the processors run.
func (m *Machine) Start() error {
	m.op.Lock()
	defer m.op.Unlock()
	if err := m.changeState("start", StateRunning, StateCreated); err != nil {
		return err
	}
	return m.resume()
}

// StartPaused starts the machine in state paused: no processor has run, Resume lets them.
func (m *Machine) StartPaused() error { return m.changeState("start", StatePaused, StateCreated) }

// resume lets devices and processors go. A machine that ends at the same time is no error: Wait tells.
func (m *Machine) resume() error {
	if m.pci != nil {
		m.pci.resume()
	}
	if err := vcpu.Resume(m.vcpus...); err != nil && !errors.Is(err, vcpu.ErrStopped) {
		return err
	}
	// A stop that was asked for after changeState froze the processors before they were let go.
	if m.isStopping() {
		vcpu.Freeze(m.vcpus...)
	}
	return nil
}

func (m *Machine) isStopping() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stopping
}

// Suspend stops the processors between two instructions, then the devices between two requests, and returns when all
// have stopped. If ctx ends before, the machine runs on and the error is ctx's.
func (m *Machine) Suspend(ctx context.Context) error {
	m.op.Lock()
	defer m.op.Unlock()
	if err := m.changeState("suspend", StatePaused, StateRunning); err != nil {
		return err
	}
	if err := m.quiet(ctx); err != nil {
		if m.changeState("suspend", StateRunning, StatePaused) == nil { // or it is being stopped
			return errors.Join(err, m.resume())
		}
		return err
	}
	return nil
}

// quiet stops all that changes guest memory. After an error resume is to be called.
func (m *Machine) quiet(ctx context.Context) error {
	if err := vcpu.Pause(m.vcpus...); err != nil && !errors.Is(err, vcpu.ErrStopped) {
		return err
	}
	if m.pci == nil {
		return nil
	}
	return m.pci.pause(ctx)
}

// Resume lets a suspended machine go on. The package comment says what its clocks show.
func (m *Machine) Resume() error {
	m.op.Lock()
	defer m.op.Unlock()
	if err := m.changeState("resume", StateRunning, StatePaused); err != nil {
		return err
	}
	for _, v := range m.vcpus {
		err := v.Do(func(c *kvmapi.VCPU) error { return c.KVMClockCtrl() })
		// EINVAL: the guest does not use kvmclock.
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, vcpu.ErrStopped) {
			return fmt.Errorf("resume vCPU %d: %w", v.ID(), err)
		}
	}
	return m.resume()
}

// PowerButton presses the ACPI power button. What the guest does, and when, is up to the guest; a paused one sees it when
// it is resumed.
func (m *Machine) PowerButton() error {
	m.op.Lock()
	defer m.op.Unlock()
	m.mu.Lock()
	s := m.state
	if m.stopping {
		s = StateStopped
	}
	m.mu.Unlock()
	if s != StateRunning && s != StatePaused {
		return &StateError{Op: "power button", State: s, Want: []State{StateRunning, StatePaused}}
	}
	m.power.PowerButton()
	return nil
}

// Reset ends the machine as a press of the reset button: at once, with reason StopReboot. See the package comment.
func (m *Machine) Reset() error { return m.end("reset", Stop{StopReboot, "reset by request"}) }

// Kill ends the machine as pulling the plug. It returns when no processor's thread is left. On a machine that has
// stopped already it does nothing.
func (m *Machine) Kill() error {
	err := m.end("kill", Stop{StopKilled, ""})
	var se *StateError
	if errors.As(err, &se) {
		return nil
	}
	return err
}

func (m *Machine) end(op string, s Stop) error {
	if !m.requestStop(s) {
		<-m.done
		return &StateError{Op: op, State: StateStopped, Want: []State{StateCreated, StateRunning, StatePaused}}
	}
	<-m.done
	return nil
}

// requestStop notes how the machine ends, freezes its processors and lets supervise do the rest. It does not wait, so
// devices call it on a processor's thread. The first call counts; false means that it was not this one.
func (m *Machine) requestStop(s Stop) bool {
	m.mu.Lock()
	if m.stopping {
		m.mu.Unlock()
		return false
	}
	m.stopping = true
	m.stop = s
	close(m.stopReq)
	m.mu.Unlock()
	vcpu.Freeze(m.vcpus...)
	return true
}

// supervise ends the machine when it is asked to. It is the machine's only goroutine beside its processors.
func (m *Machine) supervise() {
	<-m.stopReq
	vcpu.Stop(m.vcpus...)
	if m.pci != nil {
		m.pci.stop() // whoever hears of the end finds nothing at work on disks and networks
	}
	if m.firmware != nil && m.firmware.flash != nil {
		m.firmware.flash.Close()
	}
	m.platform.close()
	if m.devices.console != nil {
		m.devices.console.Close()
	}
	m.mu.Lock()
	m.state = StateStopped
	m.mu.Unlock()
	close(m.done)
}

// endOf says what a fault of a processor means for the machine. This is the place to change if a triple fault shall be a
// reboot: a guest that asked for a reset by another way before has stopped the machine then already.
func endOf(f *vcpu.Fault) Stop {
	if f.Kind == vcpu.FaultSystemEvent {
		switch f.Event {
		case kvmapi.SystemEventShutdown:
			return Stop{StopShutdown, "system event of KVM"}
		case kvmapi.SystemEventReset:
			return Stop{StopReboot, "system event of KVM"}
		}
	}
	return Stop{StopCrash, f.Error()}
}

// Wait waits until the machine has stopped and says how. Ending ctx ends the wait alone. Any number may wait, also
// after the end.
func (m *Machine) Wait(ctx context.Context) (Stop, error) {
	select {
	case <-m.done:
	default:
		select {
		case <-m.done:
		case <-ctx.Done():
			return Stop{}, ctx.Err()
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stop, nil
}

// Done is closed when the machine has stopped.
func (m *Machine) Done() <-chan struct{} { return m.done }

// Input gives what was typed to the guest's console and waits while the guest does not read: until ctx ends or the
// machine stops. n is how many bytes were taken, also with an error.
func (m *Machine) Input(ctx context.Context, p []byte) (n int, err error) {
	if c := m.devices.console; c != nil {
		return c.Feed(ctx, p)
	}
	return m.com1.Feed(ctx, p)
}

// Resize tells the guest the size of its console's terminal, 0 for not known. It is false without a virtio console.
func (m *Machine) Resize(cols, rows uint16) bool {
	c := m.devices.console
	if c != nil {
		c.Resize(cols, rows)
	}
	return c != nil
}

// Info is a machine at one moment.
type Info struct {
	State    State             `json:"state"`
	Memory   uint64            `json:"memory"`    // bytes
	VCPUs    int               `json:"vcpus"`     //
	CPUTime  time.Duration     `json:"cpu_time"`  // of all processors, nanoseconds
	VCPUTime []time.Duration   `json:"vcpu_time"` // of each
	Exits    map[string]uint64 `json:"exits"`     // returns from KVM_RUN by kind
	Accesses map[string]uint64 `json:"accesses"`  // port and memory accesses by device
	Disks    []DiskInfo        `json:"disks"`
	NICs     []NICInfo         `json:"nics"`
}

// Info looks at the machine, in any state.
func (m *Machine) Info() Info {
	m.mu.Lock()
	i := Info{State: m.state, Memory: m.spec.Memory, VCPUs: m.spec.VCPUs}
	m.mu.Unlock()
	var exits vcpu.Exits
	for _, v := range m.vcpus {
		t := v.CPUTime()
		i.VCPUTime = append(i.VCPUTime, t)
		i.CPUTime += t
		exits.Add(v.Exits())
	}
	i.Exits = exits.Map()
	i.Accesses = m.accesses()
	i.Disks, i.NICs = m.devices.diskInfo(), m.devices.nicInfo()
	return i
}

// Spec gives what the machine was made of.
func (m *Machine) Spec() Spec { return m.spec }

// Close kills the machine if it lives and gives back all it holds. Info and Wait still work after it. A second call does
// nothing.
func (m *Machine) Close() error {
	_ = m.Kill() // the only error is "has stopped"
	m.op.Lock()
	defer m.op.Unlock()
	if m.closed {
		return nil
	}
	m.closed = true
	return m.undo.run()
}
