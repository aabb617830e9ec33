//go:build !linux

package rpc

import "net"

// socket and patiently are linux's.
type socket struct{ net.Conn }

type patiently struct{ *socket }

// ownSocket leaves the connection as it is.
func ownSocket(conn net.Conn) net.Conn { return conn }
