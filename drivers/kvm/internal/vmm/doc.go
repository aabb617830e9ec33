// Package vmm is the virtual machine: it puts memory, processors, devices and a boot loader together, runs them, and says
// how it ended.
//
// A [Machine] is made by New from a [Spec], in one line of steps that are undone in reverse when one fails, and lives
//
//	created -> running <-> paused -> stopped
//
// once: a reboot, whoever asks for it, ends the machine with reason [StopReboot], and the owner makes a new one from the
// same Spec if it wants one. So nothing of the old guest can survive in the new one, and there is one way to build a
// machine instead of two.
//
// # Clocks
//
// The guest's clocks, kvmclock and the time stamp counter, follow the host's and go on while the machine is paused: after
// Resume the guest's uptime and wall time have moved by the length of the pause, as those of a computer that was held by a
// debugger. Resume tells each processor through kvmclock that it was stopped, so that the guest's watchdogs do not take
// the gap for a lockup.
//
// # Devices of a paused machine
//
// Suspend holds the processors and then the devices: a request that a device has begun is finished and answered, others
// wait in the guest's rings, frames that arrive wait or are dropped at their source, and no interrupt is sent. So guest
// memory, the rings in it and the interrupt controllers rest until Resume. What a device holds besides: receive buffers
// that a network took from its ring for the next frame, a frame that its back end has no room for, and a request of a
// random number generator that has used up its rate.
//
// The devices stop with the machine: when Wait returns none of them touches memory, a file or a socket any more.
//
// # How a guest ends
//
// Power-off is ACPI S5. Reset is the ACPI reset register or the keyboard controller's reset line. A triple fault is a
// crash, though "reboot=t" makes Linux reset that way: a guest that dies cannot be told from one that asks so, except by
// having asked before; see endOf.
package vmm
