//go:build linux && amd64

package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/boot/guest"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/boot/linux"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/kvmapi"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/vmm"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/vmmproc"
)

// New is the vmmproc.Factory of real machines.
func New(ctx context.Context, spec json.RawMessage, env vmmproc.Env) (vmmproc.Machine, error) {
	var s Spec
	if err := json.Unmarshal(spec, &s); err != nil {
		return nil, &vmmproc.Error{Code: vmmproc.CodeInvalidArgument, Message: fmt.Sprintf("machine specification: %v", err)}
	}
	opts := vmm.Options{Device: s.Device, Console: env.Console, Files: env.Files, OnDeviceError: env.DeviceError}
	var err error
	if s.Machine.Vsock != nil {
		if opts.Vsock.Listener, err = env.Listen(VsockSocket); err != nil {
			return nil, err
		}
		opts.Vsock.Connect = func(port uint32) (int, error) { return env.Connect(VsockSocketOf(port)) }
	}
	// vmm closes what it is given, and the same files serve the next boot.
	if opts.Kernel, err = duplicate(env.Files[KernelFile], s.Machine.Boot.Kernel); err != nil {
		return nil, err
	}
	if opts.Initrd, err = duplicate(env.Files[InitrdFile], s.Machine.Boot.Initrd); err != nil {
		if opts.Kernel != nil {
			opts.Kernel.Close()
		}
		return nil, err
	}
	m, err := vmm.New(ctx, s.Machine, opts)
	if err != nil {
		return nil, coded(err)
	}
	return &machine{m: m}, nil
}

// duplicate gives an open file the name that errors are to call it by.
func duplicate(f *os.File, name string) (*os.File, error) {
	if f == nil {
		return nil, nil
	}
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// machine makes a vmm.Machine a vmmproc.Machine.
type machine struct {
	m *vmm.Machine
	// reset is set before a Reset from outside, which is carried out whatever
	// the domain's policy for reboots is.
	reset atomic.Bool
}

func (a *machine) Start() error                      { return coded(a.m.Start()) }
func (a *machine) StartPaused() error                { return coded(a.m.StartPaused()) }
func (a *machine) Suspend(ctx context.Context) error { return coded(a.m.Suspend(ctx)) }
func (a *machine) Resume(context.Context) error      { return coded(a.m.Resume()) }
func (a *machine) PowerButton() error                { return coded(a.m.PowerButton()) }
func (a *machine) Close() error                      { return a.m.Close() }

func (a *machine) Reset() error {
	a.reset.Store(true)
	return coded(a.m.Reset())
}

// Kill must not block; the goroutine ends with the machine, which the caller
// waits for.
func (a *machine) Kill() { go func() { _ = a.m.Kill() }() }

func (a *machine) Wait(ctx context.Context) (vmmproc.Exit, error) {
	stop, err := a.m.Wait(ctx)
	if err != nil {
		return vmmproc.Exit{}, err
	}
	exit := vmmproc.Exit{Reason: reasons[stop.Reason], Detail: stop.Detail}
	if stop.Reason == vmm.StopReboot && a.reset.Load() {
		exit.Reason = vmmproc.ReasonReset
	}
	return exit, nil
}

var reasons = map[vmm.StopReason]vmmproc.Reason{
	vmm.StopShutdown: vmmproc.ReasonShutdown,
	vmm.StopReboot:   vmmproc.ReasonReboot,
	vmm.StopCrash:    vmmproc.ReasonCrash,
	vmm.StopKilled:   vmmproc.ReasonKilled,
}

func (a *machine) Info() vmmproc.Info {
	i := a.m.Info()
	state := vmmproc.StateRunning
	if i.State == vmm.StatePaused {
		state = vmmproc.StatePaused
	}
	var disks []vmmproc.Disk
	for _, d := range i.Disks {
		disks = append(disks, vmmproc.Disk{
			Name: d.Name, ReadRequests: d.Read.Requests, ReadBytes: d.Read.Bytes, WriteRequests: d.Write.Requests, WriteBytes: d.Write.Bytes,
			FlushRequests: d.Flush.Requests, Errors: d.Read.Errors + d.Write.Errors + d.Flush.Errors + d.Discard.Errors + d.WriteZeroes.Errors,
			Latency: d.Latency[:],
		})
	}
	var nics []vmmproc.NIC
	for _, n := range i.NICs {
		nics = append(nics, vmmproc.NIC{
			Name: n.Name, RXPackets: n.RxPackets, RXBytes: n.RxBytes, RXDropped: n.RxDrops,
			TXPackets: n.TxPackets, TXBytes: n.TxBytes, TXDropped: n.TxDrops + n.TxErrors,
		})
	}
	return vmmproc.Info{
		Disks: disks, NICs: nics,
		State: state, VCPUs: i.VCPUs, Memory: i.Memory, MaxMemory: i.Memory, CPUTime: i.CPUTime, Exits: i.Exits,
		VCPUTime: i.VCPUTime, Accesses: i.Accesses,
	}
}

func (a *machine) VCPUs() []vmmproc.VCPU {
	threads := a.m.Threads()
	list := make([]vmmproc.VCPU, len(threads))
	for i, t := range threads {
		list[i] = vmmproc.VCPU{Running: t.Running, CPU: t.CPU, Time: t.Time, Affinity: t.Affinity}
	}
	return list
}

func (a *machine) Pin(number int, cpus []byte) error { return coded(a.m.Pin(number, cpus)) }

func (a *machine) CoreDump(ctx context.Context, f *os.File) error {
	return coded(a.m.CoreDump(ctx, f))
}

func (a *machine) Input(ctx context.Context, p []byte) (int, error) {
	n, err := a.m.Input(ctx, p)
	if err != nil && ctx.Err() == nil {
		return n, vmmproc.ErrMachineEnded
	}
	return n, err
}

func (a *machine) ResizeConsole(cols, rows uint16) error {
	if !a.m.Resize(cols, rows) {
		return &vmmproc.Error{Code: vmmproc.CodeUnsupported, Message: "a serial port's terminal has no size; give the domain a virtio console"}
	}
	return nil
}

// codes says which code an error of the machine travels with.
var codes = []struct {
	cause error
	code  vmmproc.Code
}{
	{vmm.ErrSpec, vmmproc.CodeInvalidArgument},
	{linux.ErrUnsupported, vmmproc.CodeUnsupported},
	{linux.ErrTruncated, vmmproc.CodeInvalidArgument},
	{linux.ErrBadMagic, vmmproc.CodeInvalidArgument},
	{linux.ErrMalformed, vmmproc.CodeInvalidArgument},
	{linux.ErrBounds, vmmproc.CodeInvalidArgument},
	{linux.ErrMemory, vmmproc.CodeInvalidArgument},
	{linux.ErrCommandLine, vmmproc.CodeInvalidArgument},
	{guest.ErrCommandLine, vmmproc.CodeInvalidArgument},
	{guest.ErrMemory, vmmproc.CodeInvalidArgument},
	{kvmapi.ErrNoDevice, vmmproc.CodeNoResource},
	{kvmapi.ErrPermission, vmmproc.CodePermission},
	{kvmapi.ErrNotKVM, vmmproc.CodeUnsupported},
	{kvmapi.ErrAPIVersion, vmmproc.CodeUnsupported},
}

// coded gives an error of the machine the code with which it travels. Errors of
// the operating system get theirs from vmmproc.
func coded(err error) error {
	if err == nil {
		return nil
	}
	var se *vmm.StateError
	if errors.As(err, &se) {
		return &vmmproc.Error{Code: vmmproc.CodeInvalidState, Message: err.Error()}
	}
	for _, c := range codes {
		if errors.Is(err, c.cause) {
			return &vmmproc.Error{Code: c.code, Message: err.Error()}
		}
	}
	return err
}
