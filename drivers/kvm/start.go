//go:build linux && amd64

package kvm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/boot/unpack"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/machine"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/store"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/vmm"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/vmmproc"
)

// maxVCPUs is the engine's limit; the host may have a lower one.
const maxVCPUs = vmm.MaxVCPUs

// Start runs a defined domain.
func (i *instance) Start(ctx context.Context, o polyvisor.StartOptions) error {
	lock, err := i.d.store.LockDomain(ctx, i.uuid)
	if err != nil {
		return classify(err)
	}
	defer lock.Unlock()
	def, err := i.d.store.Definition(i.uuid)
	if err != nil {
		return classify(err)
	}
	c, err := parseConfig(def.Config)
	if err != nil {
		return err
	}
	return i.d.run(ctx, c, o, store.RunSpec{Name: def.Name, UUID: def.UUID, Config: def.Config})
}

// Create runs a transient domain.
func (d *driver) Create(ctx context.Context, c *polyvisor.Config, o polyvisor.StartOptions) (polyvisor.Instance, error) {
	if err := absolutePaths(c); err != nil {
		return nil, err
	}
	text, err := json.Marshal(named(c))
	if err != nil {
		return nil, err
	}
	u := store.UUID(c.UUID)
	lock, err := d.store.LockDomain(ctx, u)
	if err != nil {
		return nil, classify(err)
	}
	defer lock.Unlock()
	if err := d.run(ctx, c, o, store.RunSpec{Name: c.Name, UUID: u, Config: text, Transient: true}); err != nil {
		return nil, err
	}
	run, err := d.store.ActiveByUUID(u)
	if err != nil {
		// It has stopped already, and nothing tells how.
		return d.instance(c.Name, u), nil
	}
	return d.activeInstance(run), nil
}

// named gives a copy of the configuration with names in place of open files,
// since that is all there is to tell about them.
func named(c *polyvisor.Config) *polyvisor.Config {
	c = c.Clone()
	for _, f := range []*polyvisor.File{&c.Boot.Kernel, &c.Boot.Initrd} {
		if f.Open != nil {
			*f = polyvisor.Path(f.Open.Name())
		}
	}
	return c
}

// run starts a domain whose operation lock is held, in a VM process or here.
func (d *driver) run(ctx context.Context, c *polyvisor.Config, o polyvisor.StartOptions, spec store.RunSpec) error {
	run, err := d.store.NewRun(ctx, spec)
	if err != nil {
		return classify(err)
	}
	err = d.launch(ctx, c, o, run, spec.Transient)
	if err == nil {
		return nil
	}
	if !spec.Transient && ctx.Err() == nil {
		rec := store.StopRecord{Run: run.Token, Reason: string(vmmproc.ReasonStartFailed), Detail: err.Error(), Time: time.Now().UTC()}
		if rerr := d.store.RecordStop(spec.UUID, rec); rerr != nil {
			d.log.Warn("recording a failed start", "domain", spec.Name, "error", rerr)
		}
	}
	return err
}

// launch hands a run to the process that is to be its VM process. The run is
// undone if that fails.
func (d *driver) launch(ctx context.Context, c *polyvisor.Config, o polyvisor.StartOptions, run *store.Run, transient bool) error {
	files := make(map[string]*os.File)
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	spec, err := d.prepare(ctx, c, files)
	if err != nil {
		return errors.Join(classify(err), run.Abort())
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return errors.Join(err, run.Abort())
	}
	policy := vmmproc.Config{
		OnPoweroff: vmmproc.Action(c.OnPoweroff), OnReboot: vmmproc.Action(c.OnReboot), OnCrash: vmmproc.Action(c.OnCrash),
		ConsoleLog: c.Console.Log, StartPaused: o.Paused,
	}
	if d.opts.Isolation == IsolationNone {
		owned := maps.Clone(files)
		clear(files) // the server closes them
		s, err := vmmproc.Serve(ctx, vmmproc.ServeConfig{Run: run, Spec: text, Files: owned, Config: policy, Log: d.log}, machine.New)
		if err != nil {
			return startError(err)
		}
		d.local.add(s)
		return nil
	}
	program, err := vmmproc.FindProgram(d.opts.VMM)
	if err != nil {
		return errors.Join(classify(err), run.Abort())
	}
	spawn := vmmproc.SpawnConfig{Program: program, Run: run, Spec: text, Config: policy, Log: d.logFile(run, transient)}
	for name, f := range files {
		spawn.Files = append(spawn.Files, vmmproc.NamedFile{Name: name, File: f})
	}
	_, err = vmmproc.Spawn(ctx, spawn)
	return startError(err)
}

// logFile is where the VM process writes what it has to say. A transient domain
// leaves nothing behind, also no log.
func (d *driver) logFile(run *store.Run, transient bool) string {
	if transient {
		return ""
	}
	return filepath.Join(run.StateDir(), store.LogName)
}

// startError gives an error of a VM process that did not come up its class.
func startError(err error) error {
	var e *vmmproc.Error
	if errors.As(err, &e) {
		if class := codes[e.Code]; class != nil {
			return &classed{class, err}
		}
	}
	return classify(err)
}

// prepare opens what the machine boots from, with the caller's permissions, and
// unpacks the kernel if that is to be done on the host.
func (d *driver) prepare(ctx context.Context, c *polyvisor.Config, files map[string]*os.File) (machine.Spec, error) {
	s := machine.Spec{Device: d.opts.Device, Machine: vmm.Spec{Memory: uint64(c.Memory), VCPUs: c.VCPUs}}
	boot := &s.Machine.Boot
	boot.CommandLine = c.Boot.CommandLine
	if c.Boot.Kernel.IsZero() {
		boot.Kind = vmm.BootGuest
		return s, nil
	}
	boot.Kind = vmm.BootLinux
	kernel, err := d.openKernel(ctx, c.Boot.Kernel)
	if err != nil {
		return s, err
	}
	files[machine.KernelFile] = kernel
	if c.Boot.Initrd.IsZero() {
		return s, nil
	}
	initrd, err := openFile("initrd", c.Boot.Initrd)
	if err != nil {
		return s, err
	}
	files[machine.InitrdFile] = initrd
	return s, nil
}

// openKernel opens the kernel, or what was unpacked of it.
func (d *driver) openKernel(ctx context.Context, f polyvisor.File) (*os.File, error) {
	file, err := openFile("kernel", f)
	if err != nil || d.opts.Decompress == DecompressGuest {
		return file, err
	}
	k, err := d.kernels.VmlinuxFrom(ctx, file)
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("kernel: %w", err)
	}
	if k.Origin != unpack.Original {
		file.Close()
	}
	if k.CacheErr != nil {
		d.log.Warn("the kernel could not be cached; it is unpacked again at every start", "kernel", file.Name(), "error", k.CacheErr)
	}
	return k.File, nil
}

// openFile opens a file of the configuration, or duplicates an open one, which
// the root package closes.
func openFile(what string, f polyvisor.File) (*os.File, error) {
	file, err := os.Open(f.Path)
	if f.Open != nil {
		file, err = reopen(f.Open)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	fi, err := file.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("%w: %s %s is not a regular file", polyvisor.ErrInvalidConfig, what, file.Name())
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}
