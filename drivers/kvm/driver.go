//go:build linux && amd64

package kvm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/google/uuid"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/boot/unpack"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/kvmapi"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/store"
)

// driver is one open connection. Domains live in the store and in processes of
// their own, so there is little to it.
type driver struct {
	opts    Options
	log     *slog.Logger
	caps    polyvisor.Capabilities
	store   *store.Store
	kernels *unpack.Cache

	watchers *watchers
	local    *localMachines // of isolation=none
	hubs     hubs           // of events
}

// openDriver checks that the host can run machines, opens the store, and
// clears away what dead VM processes have left.
func openDriver(ctx context.Context, o Options) (*driver, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	d := &driver{
		opts: o, log: o.Logger, kernels: &unpack.Cache{Dir: filepath.Join(o.CacheDir, "kernels")},
		local: newLocalMachines(),
	}
	// Reading what there is needs no KVM.
	if err := d.probe(); err != nil && !o.ReadOnly {
		return nil, classify(err)
	}
	if d.store, err = store.Open(store.Paths{State: o.StateDir, Run: o.RunDir}); err != nil {
		return nil, classify(err)
	}
	d.watchers = newWatchers(d.store)
	if o.ReadOnly {
		return d, nil
	}
	n, err := d.store.Reap(ctx)
	switch {
	case ctx.Err() != nil:
		return nil, errors.Join(ended(ctx, err), d.Close())
	case err != nil:
		// A file that cannot be removed must not keep the other domains from
		// being used.
		d.log.Warn("clearing away after dead VM processes", "error", err)
	case n > 0:
		d.log.Info("cleared away after dead VM processes", "count", n)
	}
	return d, nil
}

// probe asks KVM what it can do and fills in the capabilities.
func (d *driver) probe() error {
	d.caps = polyvisor.Capabilities{
		Arch: "amd64", OSType: "hvm",
		Features:  features,
		Reasons:   reasons,
		MaxVCPUs:  maxVCPUs,
		MinMemory: minMemory, MaxMemory: maxMemory,
	}
	host, err := hostMemory(os.DirFS("/"))
	if err != nil {
		return err
	}
	d.caps.MaxMemory = uint64(host)
	sys, err := kvmapi.Open(d.opts.Device)
	if err != nil {
		return err
	}
	defer sys.Close()
	if n, err := sys.CheckExtension(kvmapi.CapMaxVCPUs); err == nil && n > 0 {
		d.caps.MaxVCPUs = min(d.caps.MaxVCPUs, n)
	}
	return nil
}

func (d *driver) Type() string { return "kvm" }

func (d *driver) Capabilities() polyvisor.Capabilities { return d.caps }

func (d *driver) Version(context.Context) (polyvisor.Version, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return polyvisor.Version{}, fmt.Errorf("uname: %w", err)
	}
	v := fmt.Sprintf("KVM API %d, Linux %s", kvmapi.APIVersion, unix.ByteSliceToString(u.Release[:]))
	return polyvisor.Version{Hypervisor: v}, nil
}

func (d *driver) Node(context.Context) (polyvisor.Node, error) {
	n, err := readNode(os.DirFS("/"))
	if err != nil {
		return n, err
	}
	n.Hostname, err = os.Hostname()
	return n, err
}

func (d *driver) Close() error {
	err := d.local.close()
	d.watchers.close()
	return errors.Join(err, d.store.Close())
}

// Define stores the domain, or replaces the definition of the one that has
// both its name and its UUID.
func (d *driver) Define(ctx context.Context, c *polyvisor.Config) (polyvisor.Instance, error) {
	if err := admit(c); err != nil {
		return nil, err
	}
	text, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	def := store.Definition{Name: c.Name, UUID: store.UUID(c.UUID), Config: text}
	lock, err := d.store.LockDomain(ctx, def.UUID)
	if err != nil {
		return nil, ended(ctx, classify(err))
	}
	defer lock.Unlock()
	old, err := d.store.Definition(def.UUID)
	switch {
	case err == nil && old.Name == c.Name:
		err = d.store.Redefine(ctx, def)
	case err == nil:
		err = fmt.Errorf("UUID %s belongs to domain %q: %w", c.UUID, old.Name, store.ErrExists)
	case errors.Is(err, store.ErrNotFound):
		err = d.store.Define(ctx, def)
	}
	if err != nil {
		return nil, ended(ctx, classify(err))
	}
	return d.instance(c.Name, def.UUID), nil
}

// admit refuses what this engine has not, before any side effect, and makes the
// paths absolute.
func admit(c *polyvisor.Config) error {
	if err := checkDisks(c); err != nil {
		return err
	}
	if err := checkNICs(c); err != nil {
		return err
	}
	return absolutePaths(c)
}

// absolutePaths makes the paths of a configuration independent of the caller's
// working directory, since the VM process has another.
func absolutePaths(c *polyvisor.Config) error {
	paths := []*string{&c.Console.Log}
	for _, f := range c.Files() {
		paths = append(paths, &f.File.Path)
	}
	for _, p := range paths {
		if *p == "" || filepath.IsAbs(*p) {
			continue
		}
		abs, err := filepath.Abs(*p)
		if err != nil {
			return fmt.Errorf("path %s: %w", *p, err)
		}
		*p = abs
	}
	return nil
}

// Lookup finds a domain among the defined and the active ones.
func (d *driver) Lookup(ctx context.Context, key polyvisor.Key) (polyvisor.Instance, error) {
	switch {
	case key.Name != "":
		def, err := d.store.DefinitionByName(key.Name)
		if err == nil {
			return d.instance(def.Name, def.UUID), nil
		}
		if !errors.Is(err, store.ErrNotFound) {
			return nil, classify(err)
		}
		return d.findActive(ctx, func(a store.Active) bool { return a.Name == key.Name }, err)
	case key.UUID != uuid.Nil:
		u := store.UUID(key.UUID)
		def, err := d.store.Definition(u)
		if err == nil {
			return d.instance(def.Name, u), nil
		}
		if !errors.Is(err, store.ErrNotFound) {
			return nil, classify(err)
		}
		return d.findActive(ctx, func(a store.Active) bool { return a.UUID == u }, err)
	default:
		return d.findActive(ctx, func(a store.Active) bool { return a.ID == key.ID },
			fmt.Errorf("no active domain has ID %d: %w", key.ID, store.ErrNotFound))
	}
}

// findActive gives the active domain that matches, else the error. How its run
// ends, however soon, is known to who holds it.
func (d *driver) findActive(ctx context.Context, match func(store.Active) bool, otherwise error) (polyvisor.Instance, error) {
	active, err := d.store.Active()
	for _, a := range active {
		if match(a) {
			i := d.activeInstance(a)
			i.end.Load().ready(ctx)
			return i, nil
		}
	}
	if err != nil {
		// A damaged file may be the domain that is looked for.
		return nil, classify(err)
	}
	return nil, classify(otherwise)
}

// List gives the defined domains and the active ones without a definition.
// Damaged files are logged and do not hide the others.
func (d *driver) List(context.Context) ([]polyvisor.Instance, error) {
	defs, err := d.store.Definitions()
	d.warnDamaged(err)
	known := make(map[store.UUID]bool, len(defs))
	list := make([]polyvisor.Instance, 0, len(defs))
	for _, def := range defs {
		known[def.UUID] = true
		list = append(list, d.instance(def.Name, def.UUID))
	}
	active, err := d.store.Active()
	d.warnDamaged(err)
	for _, a := range active {
		if !known[a.UUID] {
			list = append(list, d.activeInstance(a))
		}
	}
	return list, nil
}

// warnDamaged logs each of the errors that are joined in err.
func (d *driver) warnDamaged(err error) {
	if err == nil {
		return
	}
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all = joined.Unwrap()
	}
	for _, e := range all {
		d.log.Warn("left out of the list", "error", e)
	}
}
