// Package fake is a driver whose virtual machines exist in the memory of the
// calling process alone: for tests of programs that use the library, and the
// reference of what a driver does. It has every feature, and it keeps every
// promise that package polyvisor makes: domains have a simulated guest that
// sees its memory, processors, disks and other devices, and that tells about
// them on its console.
//
// # URIs
//
//	fake:///default    a hypervisor that all connections of the process share
//	fake:///NAME       another one
//
// A hypervisor comes into being with the first connection to its name and lives
// as long as the process, or until Forget. Parameters, all optional:
//
//	state=FILE         domains and node to begin with; see Hypervisor.Load
//	fault=SPEC,...     faults of the calls of this connection; see ParseFault
//	latency=SPEC,...   how long the calls of this connection take; see ParseLatency
//	seed=N             of the random latencies
//	shutdown=DURATION  how long guests take to power off when they are asked
//
// A test that wants a hypervisor of its own makes one with New: it then has a
// handle with which to inject faults and to act as the guest.
//
// # Time
//
// All time comes from package time, so everything works, and takes no real time,
// in a bubble of package testing/synctest. An idle domain has no goroutine: the
// guest is a state machine that is run by whoever writes to its console or calls
// an operation, and by timers. While it runs, each of its processors uses one
// second of CPU time a second.
//
// # The guest
//
// The guest says on its console how much memory and how many processors it
// has, and obeys commands line by line, also those that follow auto= on its
// command line; type help at its prompt. The words are those of the kvm
// driver's built-in guest where both have them. It answers the power button by
// powering off, unless it was told to do otherwise (button), or is stuck (spin,
// halt).
//
// Files are real: disk sectors are read from and written to the image,
// directories that are shared are those of the host, a kernel that is missing
// or is no kernel keeps its domain from starting.
package fake
