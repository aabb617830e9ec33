// Package kvm is the driver for virtual machines on this host's /dev/kvm, run
// by an engine of this project's own in pure Go.
//
// # URIs
//
//	kvm:///session    the user's own machines; needs access to /dev/kvm only
//	kvm:///system     the host's machines, under /var/lib and /run
//
// Parameters: state=, run= and cache= give other directories for definitions,
// for sockets and locks, and for unpacked kernels; isolation=process|none,
// decompress=host|guest, vmm=PROGRAM and device=PATH are explained at Options.
//
// # Processes
//
// Each virtual machine is a process of its own, in its own session. It outlives
// the program that started it; any other process that opens the same URI finds
// it, controls it and waits for it. The process is the small program
// polyvisor-vmm if there is one, else the calling program runs itself again:
// importing this package is all that is needed, as its init function takes over
// in such a child before main begins.
//
// # Guests
//
// A domain without a kernel runs the built-in guest, a few KiB of machine code
// that prints a banner and answers commands on its console. Linux x86-64 guests
// boot from a bzImage or an ELF vmlinux.
package kvm
