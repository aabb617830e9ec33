package polyvisor

import (
	"context"
	"io"
	"net"

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
	Create(ctx context.Context, c *Config, o StartOptions) (Instance, error)
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
	// Name and UUID do no I/O and are constant, except that Renamer changes the
	// name.
	Name() string
	UUID() uuid.UUID
	// State asks the hypervisor; ErrNotFound if the domain is gone.
	State(ctx context.Context) (State, error)
	// Info tells the figures of the domain. In state Crashed, an ID tells that
	// what crashed is preserved and the domain is active.
	Info(ctx context.Context) (Info, error)
	// Config gives a copy of the definition: for an active domain, of the one it
	// runs with.
	Config(ctx context.Context) (*Config, error)
	// Start runs an inactive domain. It returns when the guest is free to
	// execute, or with an error and the domain inactive.
	Start(ctx context.Context, o StartOptions) error
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
// matches ErrBusy when the console was taken over. Close may be called while a
// Read or Write is under way and ends it.
//
// The stream of a virtio console (FeatureVirtioConsole) is a ConsoleResizer too.
type ConsoleOpener interface {
	OpenConsole(ctx context.Context, o ConsoleOptions) (io.ReadWriteCloser, error)
}

// ConsoleResizer is implemented by the console of a domain with
// ConsoleConfig.Virtio.
type ConsoleResizer interface {
	// Resize tells the guest the size of the terminal, in characters; 0 is not
	// known. It stays until it is changed, also for later owners of the console
	// and after a reboot of the guest, and begins as not known. The guest learns it
	// some time after the call; a guest without a driver for the console does not.
	// ErrBusy if the console was taken over. It may be called while a Read or Write
	// is under way; the errors are the driver's.
	Resize(ctx context.Context, cols, rows uint16) error
}

// Vsocker is implemented by an Instance whose programs can be reached by sockets,
// and reach the host's (FeatureVsockStreams). Other operations on the domain may
// be under way. A domain without Config.Vsock is ErrInvalidConfig.
type Vsocker interface {
	// DialVsock connects to a port of the guest, and returns when the guest has
	// accepted; ErrNotFound if it refuses. The connection ends when the domain
	// stops.
	DialVsock(ctx context.Context, port uint32) (net.Conn, error)
	// ListenVsock takes the guest's connections to a port of the host; ErrBusy if
	// somebody does already. ctx bounds the call only; the listener ends when the
	// domain stops.
	ListenVsock(ctx context.Context, port uint32) (net.Listener, error)
}

// Execer is implemented by an Instance whose guest runs commands for the host
// (FeatureExec). Other operations on the domain may be under way. A domain without
// Config.Vsock is ErrInvalidConfig.
type Execer interface {
	// WaitReady returns when the agent takes commands. An agent that had problems with
	// setting the guest up is ErrNoResource.
	WaitReady(ctx context.Context) error
	// StartExec starts a command and returns when it runs; ctx bounds the call alone.
	// The Cmd is valid and belongs to the driver. ErrNoResource if no agent answers;
	// ErrNotFound and ErrPermission as the guest has it.
	StartExec(ctx context.Context, c *Cmd) (ExecProcess, error)
}

// ExecProcess is a command that an Execer has started. Its methods may be called
// concurrently.
type ExecProcess interface {
	// PID is the number of the process in the guest, 0 if it is not known.
	PID() int
	// Wait returns when the command has ended and all its output is written, for any
	// number of callers. An error with the zero status is why the end is not known:
	// ErrConnLost; or that of the Cmd's reader or writer. ErrClosed after Close.
	Wait(ctx context.Context) (ExitStatus, error)
	// Signal sends a signal, 1 to 64, to the command's process group; ErrInvalidState
	// if the command has ended.
	Signal(ctx context.Context, s Signal) error
	// Resize changes the size of the command's terminal; ErrInvalidConfig without
	// one, ErrInvalidState if the command has ended.
	Resize(ctx context.Context, size TTYSize) error
	// Close ends the command and all that it has started, if it has not ended. When it
	// has returned nothing is written to the Cmd's writers.
	Close() error
}

// Saver is implemented by an Instance whose run can be saved to a file
// (FeatureSave).
type Saver interface {
	// Save stops the guest, writes its memory and devices to a new file and
	// leaves the domain inactive, a transient one gone. If it fails the guest
	// goes on as before and there is no file.
	Save(ctx context.Context, path string) error
}

// Restorer is implemented by a Driver that continues what Save wrote
// (FeatureSave).
type Restorer interface {
	// Restore continues the domain in the file; the file stays. ErrExists if a
	// domain of that name or UUID is active, or is defined with the other of the
	// two; ErrInvalidConfig if the file is damaged or not a saved domain.
	Restore(ctx context.Context, path string, o StartOptions) (Instance, error)
}

// CoreDumper is implemented by an Instance that can write the guest's memory
// and processor state to a new file for analysis (FeatureCoreDump), an ELF core
// file. The guest is stopped meanwhile and goes on afterwards.
type CoreDumper interface {
	CoreDump(ctx context.Context, path string) error
}

// MemorySetter is implemented by an Instance whose memory can be changed
// (FeatureMemory). On an inactive domain both change the definition, and 0
// takes its memory away, so that it cannot start. The sizes are multiples of
// 4 KiB, within the declared bounds, and SetMemory's is at most the maximum.
type MemorySetter interface {
	// SetMemory on an active domain asks the guest to grow or shrink and returns
	// when it has been asked (FeatureBalloon).
	SetMemory(ctx context.Context, n Bytes) error
	// SetMaxMemory comes on inactive domains only. It lowers the memory to the
	// maximum if that is less.
	SetMaxMemory(ctx context.Context, n Bytes) error
}

// VCPUSetter is implemented by an Instance whose number of virtual CPUs can be
// changed (FeatureVCPUs): in the running guest if it is active
// (FeatureMaxVCPUs), with n from 1 to Config.MaxVCPUs; in the definition if it is
// inactive, where MaxVCPUs rises to n if it is less. A driver without
// FeatureMaxVCPUs keeps the two equal.
type VCPUSetter interface {
	SetVCPUs(ctx context.Context, n int) error
}

// VCPULister is implemented by an Instance that tells about its virtual CPUs
// (FeatureVCPUInfo): one for each that the domain has, Config.MaxVCPUs in all,
// those that are not plugged in being offline. All of an inactive domain are.
type VCPULister interface {
	VCPUs(ctx context.Context) ([]VCPU, error)
}

// VCPUPinner is implemented by an Instance whose virtual CPUs can be bound to
// host CPUs (FeatureVCPUPin). vcpu is a number of the domain. The set is not
// empty; ErrInvalidConfig if the host has none of its CPUs. The binding of an
// active domain is that of the run, the one of an inactive domain is stored.
type VCPUPinner interface {
	PinVCPU(ctx context.Context, vcpu int, cpus CPUSet) error
}

// VCPUConfigurer is implemented by an Instance whose virtual CPUs have settings
// of their own (FeatureVCPUConfig). c is valid and replaces the settings of its
// vCPU, as PinVCPU does those of an active or an inactive domain.
type VCPUConfigurer interface {
	ConfigureVCPU(ctx context.Context, c VCPUConfig) error
}

// DeviceAttacher is implemented by an Instance whose devices can be changed
// (FeatureDevices): in the running guest of an active domain, for the rest of
// its run; in the definition of an inactive one. Devices are valid, have their
// DeviceID, and belong to the driver; the root package closes open files as in
// a Config.
type DeviceAttacher interface {
	// AttachDevice adds the device; ErrExists if its DeviceID is taken by another
	// of its kind.
	AttachDevice(ctx context.Context, d Device) error
	// DetachDevice removes the device of that kind and DeviceID, which is all that
	// is set; ErrNotFound if there is none. It returns when the guest has let go
	// of it.
	DetachDevice(ctx context.Context, d Device) error
	// UpdateDevice replaces the settings of the device of that kind and DeviceID;
	// ErrNotFound if there is none.
	UpdateDevice(ctx context.Context, d Device) error
}

// XMLCodec is implemented by a Driver whose domains are Configs and that can
// read and write them as libvirt domain XML (FeatureXML), with package
// domainxml. An element that Config cannot say is an ErrInvalidConfig.
type XMLCodec interface {
	ParseDomainXML(xml string) (*Config, error)
	FormatDomainXML(c *Config) (string, error)
	ParseDeviceXML(xml string) (Device, error)
}

// XMLDefiner is implemented by a Driver that takes domain XML as it is
// (FeatureXML); it goes before XMLCodec, and its instances implement
// XMLInstance.
type XMLDefiner interface {
	DefineXML(ctx context.Context, xml string) (Instance, error)
	CreateXML(ctx context.Context, xml string, o StartOptions) (Instance, error)
}

// XMLInstance is implemented by an Instance of an XMLDefiner.
type XMLInstance interface {
	XML(ctx context.Context) (string, error)
	AttachDeviceXML(ctx context.Context, xml string) error
	DetachDeviceXML(ctx context.Context, xml string) error
	UpdateDeviceXML(ctx context.Context, xml string) error
}

// Labeler is implemented by an Instance with labels (FeatureLabels). SetLabels
// replaces all of them, in the definition and in the run, whichever there is.
// They are valid.
type Labeler interface {
	SetLabels(ctx context.Context, labels map[string]string) error
}

// Autostarter is implemented by an Instance that can be started with the host
// (FeatureAutostart). ErrInvalidState if the domain is transient.
type Autostarter interface {
	SetAutostart(ctx context.Context, on bool) error
}

// Renamer is implemented by an Instance that can be renamed while it is
// inactive (FeatureRename). The name is valid; ErrExists if it is taken. The
// Instance has the new name from then on.
type Renamer interface {
	Rename(ctx context.Context, name string) error
}

// StatsReader is implemented by an Instance that counts (FeatureStats).
type StatsReader interface {
	Stats(ctx context.Context) (Stats, error)
}

// BulkStatsReader is implemented by a Driver that reads the statistics of many
// domains in one go. Without it the root package asks the instances, several
// at a time. Domains that are gone are left out.
type BulkStatsReader interface {
	BulkStats(ctx context.Context, list []Instance) ([]Stats, error)
}

// EventSource is implemented by a Driver that tells what happens to its domains
// (FeatureEvents).
type EventSource interface {
	// Subscribe calls sink for every event from its return on until cancel is
	// called, for each domain in order, whoever caused it. The driver fills in
	// all but Seq. sink does not block and may be called concurrently. After
	// cancel has returned it is not called again. Events that the driver itself
	// missed are told as an EventGap; after a lost connection has come back, an
	// EventResync.
	Subscribe(ctx context.Context, sink func(Event)) (cancel func(), err error)
}

// StartOptions are the options of Domain.Start, Conn.Create and Conn.Restore
// as a driver sees them.
type StartOptions struct {
	// Paused leaves the domain in state Paused: no guest code has run
	// (FeatureSuspend).
	Paused bool
}

// ConsoleOptions are the options of Domain.Console.
type ConsoleOptions struct {
	// Force takes the console from its present owner.
	Force bool
}
