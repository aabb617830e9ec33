// Package usernet is the network behind a card of kind user: a TCP/IP stack in
// a process of its own that gives the guest an address by DHCP, answers DNS, and
// carries its TCP and UDP connections out through the host's sockets. It needs
// no privilege.
//
// A program that imports it, for its side effect, can be that process itself,
// for which its init function takes over in a child that the kvm driver starts:
//
//	import _ "github.com/polyvisor/polyvisor/drivers/kvm/usernet"
//
// It makes a program some megabytes larger. One that does without needs the
// program polyvisor-usernet beside it or in PATH.
//
// # What a guest reaches
//
// Its network is 192.168.127.0/24 unless the configuration says otherwise: the
// gateway, with DHCP and DNS, is .1 and the guest .2. It reaches what the host's
// own programs reach, the addresses of the host's interfaces included, by IPv4.
// It does not reach the host's loopback, unless that is asked for; then it is
// .254 and host.polyvisor.internal. Link-local addresses, among them those of
// clouds for metadata, are never reached. An echo request is answered by the
// gateway whatever its address is, so ping says nothing about hosts beyond it.
//
// # A hostile guest
//
// Frames are checked before the stack sees them: see filter. The process bounds
// its descriptors, and with them connections; flows of UDP and requests for DNS
// are bounded as well, and so is what it writes to its log.
package usernet
