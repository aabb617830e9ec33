// Package netback makes the host's side of a virtual network card that needs no
// privilege: it starts polyvisor-usernet, a helper process with a TCP/IP stack
// of its own, and gives the end of a socket that the VM process is to have.
//
// # The helper
//
// There is one helper for each card. Cards are then as isolated from each other
// as those of two domains, the fault of one is not that of another, and its life
// is that of its socket: when the VM process is gone, however it ended, the
// socket ends and with it the helper. Nothing is to be cleaned up and there is
// no file with its number. A helper that was killed is an end of file for the VM
// process.
//
// The socket is of type SOCK_SEQPACKET, each message an Ethernet frame without
// checksum and without any header before it. An empty message means nothing; a
// frame that is too long, has another source address than the card or is neither
// IPv4 nor ARP is dropped.
//
// # Two descriptors more
//
// The helper runs with /dev/null, its log, the socket and the control socket,
// and with nothing else, whatever the caller leaves open: it marks all others to
// be closed and executes itself once more.
package netback
