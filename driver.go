package polyvisor

import (
	"context"
	"io"

	"github.com/google/uuid"
)

// Driver is one open connection to a hypervisor: what an author of a driver
// implements. Users hold a *Conn, which calls it.
//
// The root package guarantees to every driver:
//   - methods are called concurrently, but after Close has been called nothing
//     else is, and Close is called once, when no other call is under way;
//   - ctx is never nil;
//   - a *Config has its defaults filled in, is valid by Config.Validate, fits
//     the declared Capabilities, and belongs to the driver from then on, except
//     its open files: the root package closes them when the call returns, so a
//     driver that needs one for longer duplicates it;
//   - calls that change anything do not come on a read-only connection;
//   - nothing that needs an undeclared feature is called.
//
// A driver returns plain causes that wrap one of the sentinels (ErrNotFound...)
// with %w; the root package adds operation, driver and domain. ctx bounds the
// call alone: its end never harms a domain that the call has finished with, and
// what a call had half done by then is undone or is visible as state.
//
// There is nothing to embed: a method of an optional interface that is missing
// is how a driver says that it cannot do it.
type Driver interface {
	// Capabilities tells what the driver can do. It is called once, does no
	// I/O and cannot fail: a driver gathers the facts when it is opened.
	Capabilities() Capabilities
	// Type is the name of the driver: "kvm", "libvirt", "fake".
	Type() string
	// Version is the version of the hypervisor.
	Version(ctx context.Context) (Version, error)
	// Node describes the host.
	Node(ctx context.Context) (Node, error)
	// Define stores a domain without starting it. If a domain with the same
	// name and the same UUID exists its definition is replaced, which a running
	// guest notices at its next start; if only one of the two is taken the
	// error is ErrExists.
	Define(ctx context.Context, c *Config) (Instance, error)
	// Create starts a transient domain, one that is gone when it stops. It
	// returns when the guest is free to execute. ErrExists if name or UUID is
	// taken. After a failure nothing is left behind.
	Create(ctx context.Context, c *Config) (Instance, error)
	// Lookup finds one domain; ErrNotFound if there is none. Exactly one field
	// of the key is set.
	Lookup(ctx context.Context, key Key) (Instance, error)
	// List gives all domains in no particular order. It must not wait for any
	// single domain to answer.
	List(ctx context.Context) ([]Instance, error)
	// Close releases the connection. Domains go on running unless the driver's
	// documentation says otherwise.
	Close() error
}

// Key names a domain for Driver.Lookup: by the one field that is not zero.
type Key struct {
	Name string
	UUID uuid.UUID
	// ID is the number of an active domain, 1 or more.
	ID int
}

// Instance is one domain as a driver sees it. It is a reference: holding one
// does not keep the domain alive.
//
// Beyond what Driver lists, the root package guarantees:
//   - at most one of the operations of the Transitions table runs at a time on
//     a domain of a connection, except Destroy and Wait, which come at any
//     time; a driver whose domains are shared between connections or processes
//     serialises those itself;
//   - the operation is legal in the state that State has just returned. The
//     state may have changed since: then the driver returns a *StateError or an
//     error that wraps ErrInvalidState, or does what was asked for.
type Instance interface {
	// Name and UUID are constant and do no I/O.
	Name() string
	UUID() uuid.UUID
	// State asks the hypervisor; ErrNotFound if the domain is gone.
	State(ctx context.Context) (State, error)
	// Info tells the figures of the domain.
	Info(ctx context.Context) (Info, error)
	// Config gives the definition: for an active domain, the one it runs with.
	Config(ctx context.Context) (*Config, error)
	// Start runs an inactive domain. It returns when the guest is free to
	// execute, or with an error and the domain inactive.
	Start(ctx context.Context) error
	// Destroy stops the domain at once, like pulling the plug, and returns when
	// it is inactive. It must succeed while a Start is under way elsewhere.
	Destroy(ctx context.Context) error
	// Undefine removes the definition. An active domain becomes transient.
	Undefine(ctx context.Context) error
	// Wait returns when the domain is inactive, with the end of its last run.
	// Any number of callers may wait, also after the end; a transient domain's
	// end is told to those who hold an Instance of it. ErrInvalidState if the
	// domain has never run.
	Wait(ctx context.Context) (Stop, error)
}

// Suspender is implemented by an Instance whose vCPUs can be stopped and
// continued (FeatureSuspend).
type Suspender interface {
	// Suspend returns when no vCPU executes guest code any more.
	Suspend(ctx context.Context) error
	Resume(ctx context.Context) error
}

// Shutdowner is implemented by an Instance that can ask its guest to stop
// (FeatureShutdown). Shutdown returns when the guest has been asked.
type Shutdowner interface {
	Shutdown(ctx context.Context) error
}

// Rebooter is implemented by an Instance that can ask its guest to stop and
// come back (FeatureReboot). Reboot returns when the guest has been asked.
type Rebooter interface {
	Reboot(ctx context.Context) error
}

// ConsoleOpener is implemented by an Instance with a console
// (FeatureConsole). What was printed before is replayed as far as the driver
// keeps it; one owner at a time: ErrBusy if there is one, unless Force takes
// the console over. Read returns io.EOF when the domain stops, and an error that
// matches ErrBusy when the console was taken over. Close may be called while a Read or Write is under way and ends
// it.
type ConsoleOpener interface {
	OpenConsole(ctx context.Context, o ConsoleOptions) (io.ReadWriteCloser, error)
}

// ConsoleOptions are the options of Domain.Console.
type ConsoleOptions struct {
	// Force takes the console from its present owner.
	Force bool
}
