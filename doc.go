// Package polyvisor runs virtual machines on any hypervisor through one API.
//
// A program imports this package and, for their side effect, the drivers it
// wants, and chooses one by a connection URI:
//
//	import (
//		"github.com/polyvisor/polyvisor"
//		_ "github.com/polyvisor/polyvisor/drivers/kvm"
//	)
//
//	conn, err := polyvisor.Open(ctx, "kvm:///session")
//	if err != nil { ... }
//	defer conn.Close()
//	dom, err := conn.Create(ctx, &polyvisor.Config{
//		Name:   "web",
//		Memory: 512 * polyvisor.MiB,
//		VCPUs:  2,
//		Boot:   polyvisor.Boot{Kernel: polyvisor.Path("/boot/vmlinuz"), CommandLine: "console=ttyS0"},
//	})
//	stop, err := dom.Wait(ctx)
//
// # Words
//
// The words are libvirt's. A domain is a virtual machine. Define stores a
// domain's configuration, Undefine forgets it; Create runs a transient domain,
// one that has no stored configuration and is gone when it stops. Shutdown asks
// the guest to power off, Destroy pulls the plug.
//
// # Contexts
//
// A context bounds the call it is given to, never the life of a virtual
// machine. When it ends, the call returns its error, and what was half done is
// undone or visible as the domain's state.
//
// # Errors
//
// Every error is an *Error with the operation, the driver, the domain and a
// Code, and matches one of the sentinels with errors.Is: ErrNotFound,
// ErrExists, ErrInvalidState, ErrInvalidConfig, ErrNoResource, ErrUnsupported,
// ErrReadOnly, ErrPermission, ErrBusy, ErrConnLost, ErrClosed, or the context's
// own error. What a driver cannot do is told by Conn.Capabilities, is checked
// when a domain is defined, and otherwise fails with an *UnsupportedError; no
// call ever does nothing and reports success.
//
// # Concurrency
//
// Conn and Domain are safe for concurrent use. On one domain the operations
// that change its state run one after another; Destroy, State and Wait never
// wait for those.
//
// # Drivers
//
// The interfaces that a driver implements are Driver and Instance and the
// optional ones beside them. Most programs never use them.
package polyvisor
