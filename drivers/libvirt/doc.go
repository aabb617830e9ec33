// Package libvirt is the driver for every hypervisor that a libvirt daemon
// manages, on this host or another one. It speaks libvirt's remote protocol
// itself, without cgo and without libvirt's C library.
//
// # URIs
//
// They are libvirt's own, driver[+transport]://[user@][host][:port]/path[?parameters]:
//
//	qemu:///system                 the host's machines, through the local daemon
//	qemu:///session                the user's own
//	test:///default                libvirt's own hypervisor in memory, for tests
//	qemu+ssh://root@host/system    another host's, through ssh
//	qemu+tls://host/system         ... through TLS with client certificates
//	qemu+tcp://host/system         ... through plain TCP
//	qemu+unix:///system?socket=/f  through a socket at another place
//
// README.md lists schemes, transports and parameters.
//
// # Why the protocol is spoken here
//
// github.com/digitalocean/go-libvirt has types and constants for all of libvirt,
// which this driver uses, but its calls cannot be given up, its frames are not
// checked, a reader of a stream that sleeps stalls every other call, and it opens
// connections that can write only. So the calls are made by internal/rpc, and a
// handle of that package, over the same connection, is what Unwrap gives for
// everything that this driver has no method for.
//
// # Calls and the connection
//
// Calls run at the same time on one connection; each console has a connection of
// its own. A context ends its call at once. What a call that changes something
// had begun by then is waited for, a short while, so that the caller knows whether
// it was done; a start, a save and a core dump are aborted and undone.
//
// When the connection is lost, the calls under way fail with ErrConnLost, each
// once; nothing is repeated. The driver connects again in the background, with
// growing pauses; until then calls fail with ErrConnLost. Subscribers are told an
// EventResync when the events flow again.
package libvirt
