// Package vmmproc runs a virtual machine in a process of its own and talks to it:
// the start of the VM process ([Spawn], [MaybeMain]), its control server ([Serve])
// and the client of that server ([Dial]). The protocol is described in
// docs/vmm-protocol.md.
//
// The package knows a virtual machine only as a [Machine] made by a [Factory], so
// it can be tested without KVM.
//
// # Processes
//
// Spawn runs the VM program twice. The first instance detaches itself from
// everything of the caller (session, descriptors), starts the second and exits at
// once; the second is the VM process. It is thus not a child of the caller: it
// outlives the caller, and its remains are collected by init (or the nearest
// subreaper) and not by a goroutine in the caller. Where the caller itself is
// process 1 of a container, or a subreaper, orphans come to it; it then collects
// the VM processes that it started, and only those, at its next call of Spawn or
// when a connection to one of them ends. A VM process whose starter died in a
// container whose process 1 never waits stays as a zombie there, as every other
// orphan does; that needs an init in the container.
//
// While the start is under way the caller and the VM process share a socket. The
// VM process says "started" on it when the guest runs, or why not. If the caller
// goes away before the guest runs, the VM process removes what it made and exits;
// afterwards it stays.
//
// # Not linked in
//
// The package is linked into every VM process, so it uses no net, net/http or
// other large packages; sockets are os.Files on the runtime's poller.
package vmmproc
