// Package vcpu runs virtual processors: one goroutine each, locked to a thread of its own, that loops over KVM_RUN and
// answers the guest's port and memory accesses through a [Bus].
//
// Who wants something of a processor sends it an operation ([VCPU.Do], [Pause], [Resume], [Stop]) and kicks it out of
// KVM_RUN. The order that loses no kick:
//
//	sender:    put the operation into the channel; set immediate_exit; signal the thread
//	processor: KVM_RUN returns EINTR; clear immediate_exit; take operations from the channel
//
// A signal that arrives before KVM_RUN has begun finds immediate_exit set; one that arrives within ends it. If the
// processor clears immediate_exit just before a sender sets it, the next KVM_RUN returns at once and the channel is looked
// at again. The signal is repeated until the operation is acknowledged, so that a signal swallowed by something we have
// not thought of costs milliseconds instead of a hang.
//
// EINTR means "look at the channel" and nothing else: the Go scheduler's own signal ends KVM_RUN at any time. Operations
// are taken only then, when KVM has finished the last port or memory access, so that the registers an operation sees are
// consistent.
//
// The package also has what a processor is before its first instruction: CPUID with topology, model-specific registers,
// local APIC, and the entry state of 64-bit long mode and of the 32-bit PVH entry.
package vcpu
