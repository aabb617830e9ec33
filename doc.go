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
// # Drivers and features
//
// What a driver can do on the host at hand it declares as features:
// Conn.Capabilities lists them and says why one is missing. What needs a
// missing one is refused with an *UnsupportedError before anything has
// happened; no call ever does nothing and reports success. Calls are checked in
// one order: context and connection, feature, arguments, whether the connection
// may do it, and then, in the domain's turn, its state.
//
// # Words
//
// The words are libvirt's. A domain is a virtual machine. Define stores a
// domain's configuration, Undefine forgets it; Create runs a transient domain,
// one that has no stored configuration and is gone when it stops. Shutdown asks
// the guest to power off, Destroy pulls the plug.
//
// # States
//
// A domain that can execute is active: running, blocked, paused or in shutdown.
// Otherwise it is shutoff or, after a crash, crashed. The table Transitions says
// which operation is legal in which state; State.Allowed asks it, an illegal
// operation gives a *StateError that says what to do first. Domain.SetState goes
// the way by itself. What follows when the guest powers off, reboots or crashes
// is the choice of Config.OnPoweroff, OnReboot and OnCrash; Wait tells the
// reason. A crashed domain is active only under ActionPreserve.
//
// A change of an inactive domain (memory, virtual CPUs, devices) changes its
// definition; one of an active domain changes its run, and is gone with it.
// Labels, title and autostart change in both.
//
// # Memory and virtual CPUs
//
// Sizes are Bytes, everywhere. Config.Memory and VCPUs are what a guest starts
// with, MaxMemory and MaxVCPUs what it can be given while it runs, by SetMemory
// through its balloon and by SetVCPUs through hot-plug. PinVCPU and
// ConfigureVCPU bind a virtual CPU to a CPUSet of the host and weigh it against
// others.
//
// # Devices
//
// A Device is a *Disk, *NIC, *Share or *RNG. A Config lists those that a domain
// has from its start; AttachDevice, DetachDevice and UpdateDevice change them,
// in a running guest too. A device is found by its kind and its DeviceID: the
// target of a disk, the MAC address of a NIC, the tag of a share.
//
//	err := dom.AttachDevice(ctx, &polyvisor.Disk{Target: "vdb", Source: polyvisor.Path("/img/data.qcow2"), Format: polyvisor.FormatQCOW2})
//	err = dom.DetachDevice(ctx, &polyvisor.Disk{Target: "vdb"})
//
// Files are named by path, or given open: an open file belongs to the library
// from the call it is given to, and is closed when that returns.
//
// # Events
//
// Conn.Subscribe gives what happens to domains, whoever causes it. Subscribe
// first, then act: nothing is missed.
//
//	events, err := conn.Subscribe(ctx, polyvisor.SubscribeOptions{})
//	defer events.Close()
//	for e := range events.All(ctx) {
//		if e.Type == polyvisor.EventStopped && e.Stop.Reason == polyvisor.StopCrash { ... }
//	}
//
// A reader never holds up a driver. One that is slow loses events and finds an
// EventGap in their place; after it, and after an EventResync, ask for the state
// of the domains that matter.
//
// # Saved domains
//
// Domain.Save writes a run to a file and ends it, Conn.Restore continues it:
// with its name, its UUID and the configuration it ran with, persistent if it
// was. The file stays, but what it says of disks is true only as long as nobody
// has written to them since. Domain.CoreDump writes a file for a debugger and
// the guest goes on. Their paths are those of the hypervisor's host.
//
// # XML
//
// DefineXML, CreateXML and the device methods in XML take libvirt's domain XML,
// and Domain.XML gives it. A driver that speaks to libvirt passes it on as it
// is; for others package domainxml translates, and refuses what Config cannot
// say with one error that lists all of it.
//
// # Numbers
//
// The numbers of states, stop reasons, device modes and CPU maps are those of
// libvirt and of Android's virtual machine API. Code.VM, Code.Errno and
// Code.Libvirt tell an error's number in each reference API; VMError,
// LibvirtError and CodeOfErrno read them.
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
// own error.
//
// # Concurrency
//
// Conn, Domain and Subscription are safe for concurrent use. On one domain the
// operations that change it run one after another; Destroy, and everything that
// only asks, never wait for those. The library starts no goroutine that
// outlives a call.
//
// # Writing a driver
//
// The interfaces that a driver implements are Driver and Instance and the
// optional ones beside them. Most programs never use them.
package polyvisor
