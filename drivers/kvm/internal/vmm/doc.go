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
// Suspend holds the processors and not the devices: no request is begun on behalf of a processor any more, but those that
// the guest had put into its rings before are carried out and answered in its memory, each once, and frames that arrive are
// put into the receive buffers that it had offered, at most as many as a ring holds; what comes later waits or is dropped at
// its source. So guest memory comes to rest by itself, soon for disks and, where there is traffic, with the last receive
// buffer for networks, but nothing tells when. A core dump of a paused machine may have such a change in it. Interrupts that
// devices send meanwhile are taken after Resume; none is lost.
//
// The devices stop with the machine: when Wait returns none of them touches memory, a file or a socket any more.
//
// # How a guest ends
//
// Power-off is ACPI S5. Reset is the ACPI reset register or the keyboard controller's reset line. A triple fault is a
// crash, though "reboot=t" makes Linux reset that way: a guest that dies cannot be told from one that asks so, except by
// having asked before; see endOf.
package vmm
