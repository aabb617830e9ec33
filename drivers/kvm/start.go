//go:build linux && amd64

package kvm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

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
		return ended(ctx, classify(err))
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
	if v, err := i.look(ctx); err == nil && v.status != nil && v.status.Ended != nil {
		return fmt.Errorf("%w: the guest has ended (%s) and is kept for inspection; destroy the domain first", polyvisor.ErrInvalidState, v.stop.Reason)
	}
	_, err = i.d.run(ctx, c, o, store.RunSpec{Name: def.Name, UUID: def.UUID, Config: def.Config})
	return ended(ctx, err)
}

// Create runs a transient domain.
func (d *driver) Create(ctx context.Context, c *polyvisor.Config, o polyvisor.StartOptions) (polyvisor.Instance, error) {
	if err := admit(c); err != nil {
		return nil, err
	}
	text, err := json.Marshal(named(c))
	if err != nil {
		return nil, err
	}
	u := store.UUID(c.UUID)
	lock, err := d.store.LockDomain(ctx, u)
	if err != nil {
		return nil, ended(ctx, classify(err))
	}
	defer lock.Unlock()
	if a, err := d.store.ActiveByUUID(u); err == nil {
		return nil, fmt.Errorf("UUID %s belongs to the active domain %q: %w", c.UUID, a.Name, polyvisor.ErrExists)
	}
	end, err := d.run(ctx, c, o, store.RunSpec{Name: c.Name, UUID: u, Config: text, Transient: true})
	if err != nil {
		return nil, ended(ctx, err)
	}
	i := d.instance(c.Name, u)
	i.end.Store(end)
	return i, nil
}

// named gives a copy of the configuration with names in place of open files,
// since that is all there is to tell about them.
func named(c *polyvisor.Config) *polyvisor.Config {
	c = c.Clone()
	for _, f := range c.Files() {
		if f.File.Open != nil {
			*f.File = polyvisor.Path(f.File.Open.Name())
		}
	}
	return c
}

// run starts a domain whose operation lock is held, in a VM process or here. For a
// transient one it gives what will tell of its end.
func (d *driver) run(ctx context.Context, c *polyvisor.Config, o polyvisor.StartOptions, spec store.RunSpec) (*watcher, error) {
	c, text, err := withCID(c, spec.Config)
	if err != nil {
		return nil, err
	}
	spec.Config = text
	run, err := d.store.NewRun(ctx, spec)
	if errors.Is(err, store.ErrActive) && spec.Transient {
		return nil, &classed{polyvisor.ErrExists, err} // another domain's UUID
	}
	if err != nil {
		return nil, classify(err)
	}
	token := run.Token // the run is the launch's from here on
	follow, err := d.launch(ctx, c, o, run, spec.Transient)
	if err == nil && spec.Transient {
		// Followed from its beginning on: nothing is left to ask for.
		return d.watchers.add(token, func(ctx context.Context, asked func()) (polyvisor.Stop, error) {
			asked()
			return follow(ctx)
		}), nil
	}
	if err == nil {
		return nil, nil
	}
	if !spec.Transient && ctx.Err() == nil {
		rec := store.StopRecord{Run: token, Reason: string(vmmproc.ReasonStartFailed), Detail: err.Error(), Time: time.Now().UTC()}
		if rerr := d.store.RecordStop(spec.UUID, rec); rerr != nil {
			d.log.Warn("recording a failed start", "domain", spec.Name, "error", rerr)
		}
	}
	return nil, err
}

// launch hands a run to the process that is to be its VM process. The run is
// undone if that fails. For a transient domain it gives what waits for the end of
// the run, from its beginning on, since nothing else tells of it; it must be called.
func (d *driver) launch(ctx context.Context, c *polyvisor.Config, o polyvisor.StartOptions, run *store.Run, transient bool) (func(context.Context) (polyvisor.Stop, error), error) {
	files := make(map[string]*os.File)
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	stateDir := run.StateDir()
	if transient {
		stateDir = ""
	}
	spec, err := d.prepare(ctx, c, stateDir, files)
	if err != nil {
		return nil, errors.Join(classify(err), run.Abort())
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return nil, errors.Join(err, run.Abort())
	}
	policy := vmmproc.Config{
		Pins:       pins(c),
		OnPoweroff: vmmproc.Action(c.OnPoweroff), OnReboot: vmmproc.Action(c.OnReboot), OnCrash: vmmproc.Action(c.OnCrash),
		ConsoleLog: c.Console.Log, StartPaused: o.Paused,
	}
	if d.opts.Isolation == IsolationNone {
		owned := maps.Clone(files)
		clear(files) // the server closes them
		s, err := d.serve(ctx, vmmproc.ServeConfig{Run: run, Spec: text, Files: owned, Config: policy, Log: d.log})
		if err != nil {
			return nil, classify(err)
		}
		return func(ctx context.Context) (polyvisor.Stop, error) {
			stop, err := s.Wait(ctx)
			return stopFrom(stop), err
		}, nil
	}
	program, err := vmmproc.FindProgram(d.opts.VMM)
	if err != nil {
		return nil, errors.Join(&classed{polyvisor.ErrInvalidConfig, err}, run.Abort())
	}
	spawn := vmmproc.SpawnConfig{Program: program, Run: run, Spec: text, Config: policy, Log: d.logFile(run, transient)}
	for name, f := range files {
		spawn.Files = append(spawn.Files, vmmproc.NamedFile{Name: name, File: f})
	}
	if !transient {
		_, err = vmmproc.Spawn(ctx, spawn)
		return nil, classify(err)
	}
	_, f, err := vmmproc.SpawnFollowed(ctx, spawn)
	if err != nil {
		return nil, classify(err)
	}
	return func(ctx context.Context) (polyvisor.Stop, error) {
		defer f.Close()
		stop, err := f.Wait(ctx)
		if errors.Is(err, vmmproc.ErrGone) {
			return died(), nil
		}
		return stopFrom(stop), err
	}, nil
}

// serve runs a machine in this process.
func (d *driver) serve(ctx context.Context, cfg vmmproc.ServeConfig) (*vmmproc.Server, error) {
	cfg.Restart = func(ctx context.Context, run *store.Run, c vmmproc.Config) error {
		again := cfg
		again.Run, again.Config, again.Files = run, c, make(map[string]*os.File)
		for name, f := range cfg.Files {
			dup, err := reopen(f)
			if err != nil {
				for _, f := range again.Files {
					f.Close()
				}
				return errors.Join(err, run.Abort())
			}
			again.Files[name] = dup
		}
		_, err := d.serve(ctx, again)
		return err
	}
	s, err := vmmproc.Serve(ctx, cfg, machine.New)
	if err == nil {
		d.local.add(s)
	}
	return s, err
}

// logFile is where the VM process writes what it has to say. A transient domain
// leaves nothing behind, also no log.
func (d *driver) logFile(run *store.Run, transient bool) string {
	if transient {
		return ""
	}
	return filepath.Join(run.StateDir(), store.LogName)
}

// prepare opens what the machine boots from, with the caller's permissions, and
// unpacks the kernel if that is to be done on the host. stateDir is that of a
// persistent domain.
func (d *driver) prepare(ctx context.Context, c *polyvisor.Config, stateDir string, files map[string]*os.File) (machine.Spec, error) {
	s := machine.Spec{Device: d.opts.Device, Machine: vmm.Spec{Memory: uint64(c.Memory), VCPUs: c.VCPUs}}
	if err := d.prepareDevices(ctx, c, &s.Machine, files); err != nil {
		return s, err
	}
	boot := &s.Machine.Boot
	if !c.Boot.Firmware.IsZero() {
		return s, prepareFirmware(c, boot, stateDir, files)
	}
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
	files[machine.KernelFile], boot.Kernel = kernel, c.Boot.Kernel.String()
	if c.Boot.Initrd.IsZero() {
		return s, nil
	}
	initrd, err := openFile("initrd", c.Boot.Initrd)
	if err != nil {
		return s, err
	}
	files[machine.InitrdFile], boot.Initrd = initrd, c.Boot.Initrd.String()
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

// withRemedy says what to do about a file that cannot be opened.
func withRemedy(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.EISDIR):
		return fmt.Errorf("%w; check the path", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w; give this user the right to it", err)
	}
	return err
}

// openFile opens a file of the configuration, or duplicates an open one, which
// the root package closes.
func openFile(what string, f polyvisor.File) (*os.File, error) {
	var file *os.File
	var err error
	if f.Open != nil {
		file, err = reopen(f.Open)
	} else {
		// Not to wait for the other end of a pipe.
		file, err = os.OpenFile(f.Path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, withRemedy(err))
	}
	fi, err := file.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("%w: %s %s is not a regular file; give the path of one", polyvisor.ErrInvalidConfig, what, file.Name())
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}
