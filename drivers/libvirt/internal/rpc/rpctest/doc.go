// Package rpctest is the other end of the protocol for tests: a server that
// does what a script says, and an oracle that records how go-libvirt encodes a
// call, to compare with how we do.
package rpctest
