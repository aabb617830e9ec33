// Package guest is the agent's side of package proto: it runs commands, moves files
// and sets the clock for the host. As the first process of a guest it also sets the
// system up.
//
// Only the host may ask: the agent runs what it is told as root, so connections that
// programs of the guest make to it are closed.
package guest
