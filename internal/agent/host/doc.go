// Package host is the host's side of package proto: what drivers whose guests run
// the agent make Exec and its kin of. It takes a connection for each request from its
// caller.
package host
