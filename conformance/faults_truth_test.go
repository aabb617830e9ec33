package conformance_test

import (
	"errors"
	"io"
	"slices"
	"sync"

	"github.com/polyvisor/polyvisor"
)

// truthFaults tell of a run what is right, and the guest knows better.
func truthFaults() []fault {
	list := slices.Concat(afreshFaults(), modeFaults(), manyFaults())
	for _, kind := range []string{"disk", "nic", "share", "rng"} {
		hotPlug := "device/" + kind + "-hot-plug"
		list = append(list,
			fault{name: "hot-plug is in the books only: " + kind, of: hotPlug, says: "waited in vain until after attach the guest finds",
				op: newBooks(kind, "attach", "detach", "update").op},
			fault{name: "what is detached stays with the guest: " + kind, of: hotPlug, says: "waited in vain until after detach the guest finds nothing",
				op: newBooks(kind, "detach").op},
			fault{name: "a run begins without it: " + kind, of: "device/" + kind + "-config", says: "waited in vain until at the start the guest finds",
				op: newBooks(kind, "start").op})
		if kind != "rng" { // no guest tells what its limit is
			list = append(list, fault{name: "an update is in the books only: " + kind, of: hotPlug, says: "waited in vain until after update the guest finds",
				op: newBooks(kind, "update").op})
		}
	}
	return list
}

// afresh boots the domain again that was restored.
func afresh(c *call) error {
	i, err := (*c.result).Info(c.ctx)
	if err != nil {
		return err
	}
	if i.Persistent {
		if err := (*c.result).Destroy(c.ctx); err != nil {
			return err
		}
		return (*c.result).Start(c.ctx, *c.start)
	}
	cfg, err := (*c.result).Config(c.ctx)
	if err == nil {
		err = (*c.result).Destroy(c.ctx)
	}
	if err == nil {
		*c.result, err = c.d.Driver.Create(c.ctx, cfg, *c.start)
	}
	return err
}

// afreshFaults restore a guest that is not the one that was saved.
func afreshFaults() []fault {
	const again = "the restored guest booted again"
	when := func(f func(c *call, i polyvisor.Info) bool) func(*call) error {
		return func(c *call) error {
			i, err := (*c.result).Info(c.ctx)
			if err != nil || !f(c, i) {
				return err
			}
			return afresh(c)
		}
	}
	return []fault{
		{name: "restore boots afresh", of: "save/persistent", says: again, op: after("restore", afresh)},
		{name: "restore of what is transient boots afresh", of: "save/transient", says: again,
			op: after("restore", when(func(_ *call, i polyvisor.Info) bool { return !i.Persistent }))},
		{name: "a paused restore boots afresh", of: "save/paused", says: again,
			op: after("restore", when(func(c *call, _ polyvisor.Info) bool { return c.start.Paused }))},
		{name: "restore of what was undefined boots afresh", of: "save/undefined-meanwhile", says: again,
			op: func(c *call, next func() error) error {
				if c.op == "undefine" {
					c.d.h.note(1, "undefined", c.id())
				}
				return after("restore", when(func(c *call, _ polyvisor.Info) bool {
					return c.d.h.get("undefined", (*c.result).UUID().String()) > 0
				}))(c, next)
			}},
		{name: "the memory that is saved is another", of: "save/persistent", says: "the sum of the restored guest's memory is",
			op: on("save", func(c *call, next func() error) error {
				rwc, err := c.inst.(polyvisor.ConsoleOpener).OpenConsole(c.ctx, polyvisor.ConsoleOptions{Force: true})
				if err != nil {
					return next()
				}
				_, err = io.WriteString(rwc, "fill 4 1\n")
				return errors.Join(err, rwc.Close(), next())
			})},
	}
}

// modeFaults open a disk in another mode than the one that is told.
func modeFaults() []fault {
	var list []fault
	for _, f := range []struct {
		name, says  string
		told, truly polyvisor.DeviceMode
	}{
		{"a disk that is to be read only is written", "the guest finds one to read in place of the disk vdm", polyvisor.DeviceReadOnly, polyvisor.DeviceReadWrite},
		{"a disk that is to be written is read only", "the guest finds one to read and write in place of the disk vdm", polyvisor.DeviceReadWriteForce, polyvisor.DeviceReadOnly},
	} {
		list = append(list, fault{name: f.name, of: "device/modes", says: f.says, op: func(c *call, next func() error) error {
			if c.op == "define" || c.op == "create" {
				for i, d := range c.config.Disks {
					if d.Mode == f.told {
						c.config.Disks[i].Mode = f.truly
						c.d.h.note(1, "changed", c.id(), d.Target)
					}
				}
			}
			err := next()
			if c.op == "config" && err == nil {
				for i, d := range (*c.got).Disks {
					if c.d.h.get("changed", c.id(), d.Target) > 0 {
						(*c.got).Disks[i].Mode = f.told
					}
				}
			}
			return err
		}})
	}
	return list
}

func manyFaults() []fault {
	return []fault{
		{name: "NICs in the wrong order", of: "device/many-nics", says: "the nics are", config: func(c *polyvisor.Config) { slices.Reverse(c.NICs) }},
		{name: "a run takes four NICs", of: "device/many-nics", says: "attach 52:54:00:c0:fe:",
			op: on("attach", func(c *call, next func() error) error {
				if cfg, err := c.inst.Config(c.ctx); err == nil && c.active() && c.ofKind("nic") && len(cfg.NICs) >= 4 {
					return polyvisor.ErrNoResource
				}
				return next()
			})},
		{name: "the fourth disk is in the books only", of: "device/many", says: "among many the guest finds", op: laterInBooks("disk")},
		{name: "the fourth NIC is in the books only", of: "device/many-nics", says: "among many the guest finds", op: laterInBooks("nic")},
	}
}

// laterInBooks keeps the devices of a kind after the third in the books only.
func laterInBooks(kind string) func(*call, func() error) error {
	b := newBooks(kind, "attach", "detach")
	return func(c *call, next func() error) error {
		if c.inst != nil && c.ofKind(kind) {
			cfg, err := c.inst.Config(c.ctx)
			if err != nil {
				return err
			}
			truly := slices.ContainsFunc(cfg.Devices(), func(dev polyvisor.Device) bool { return dev.DeviceID() == (*c.device).DeviceID() })
			if truly || c.op == "attach" && len(cfg.Devices()) < 3 {
				return next()
			}
		}
		return b.op(c, next)
	}
}

// books are what a driver tells of the devices of one kind in runs in place of
// the truth.
type books struct {
	kind string
	idle []string // operations that change nothing else
	mu   sync.Mutex
	runs map[string]map[string]polyvisor.Device // by UUID and by name; nil is none
}

func newBooks(kind string, operations ...string) *books {
	return &books{kind: kind, idle: operations, runs: map[string]map[string]polyvisor.Device{}}
}

func (b *books) note(run, name string, dev polyvisor.Device) {
	if b.runs[run] == nil {
		b.runs[run] = map[string]polyvisor.Device{}
	}
	b.runs[run][name] = dev
}

// has reports whether the books, or else the truth, have the device.
func (b *books) has(c *call, name string) (bool, error) {
	if dev, ok := b.runs[c.id()][name]; ok {
		return dev != nil, nil
	}
	cfg, err := c.inst.Config(c.ctx)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(cfg.Devices(), func(dev polyvisor.Device) bool { return b.mine(dev) && dev.DeviceID() == name }), nil
}

func (b *books) mine(dev polyvisor.Device) bool { return (&call{device: &dev}).ofKind(b.kind) }

func (b *books) op(c *call, next func() error) error {
	switch {
	case c.op == "config":
		return b.config(c, next)
	case c.op == "start" && slices.Contains(b.idle, "start"):
		return b.start(c, next)
	case c.device == nil || !b.mine(*c.device) || !c.active():
		return next() // without the lock: it may take as long as it likes
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	name := (*c.device).DeviceID()
	noted, ok := b.runs[c.id()][name]
	if !slices.Contains(b.idle, c.op) {
		if c.op == "attach" && ok && noted == nil { // it is there already
			delete(b.runs[c.id()], name)
			return nil
		}
		err := next()
		if err == nil {
			delete(b.runs[c.id()], name)
		}
		return err
	}
	has, err := b.has(c, name)
	switch {
	case err != nil:
		return err
	case c.op == "attach" && has:
		return polyvisor.ErrExists
	case c.op != "attach" && !has:
		return polyvisor.ErrNotFound
	case c.op == "detach":
		b.note(c.id(), name, nil)
	default:
		b.note(c.id(), name, *c.device)
	}
	return nil
}

// start takes the devices out of the run that begins.
func (b *books) start(c *call, next func() error) error {
	if err := next(); err != nil {
		return err
	}
	cfg, err := c.inst.Config(c.ctx)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, dev := range cfg.Devices() {
		if b.mine(dev) {
			b.note(c.id(), dev.DeviceID(), dev)
			err = errors.Join(err, c.inst.(polyvisor.DeviceAttacher).DetachDevice(c.ctx, dev))
		}
	}
	return err
}

// config tells what is in the books.
func (b *books) config(c *call, next func() error) error {
	if err := next(); err != nil {
		return err
	}
	active := c.active()
	b.mu.Lock()
	defer b.mu.Unlock()
	if !active {
		delete(b.runs, c.id())
		return nil
	}
	cfg := *c.got
	for name, dev := range b.runs[c.id()] {
		switch b.kind {
		case "disk":
			cfg.Disks = slices.DeleteFunc(cfg.Disks, func(d polyvisor.Disk) bool { return d.Target == name })
		case "nic":
			cfg.NICs = slices.DeleteFunc(cfg.NICs, func(n polyvisor.NIC) bool { return n.DeviceID() == name })
		case "share":
			cfg.Shares = slices.DeleteFunc(cfg.Shares, func(s polyvisor.Share) bool { return s.Tag == name })
		case "rng":
			cfg.RNG = nil
		}
		switch dev := dev.(type) {
		case *polyvisor.Disk:
			cfg.Disks = append(cfg.Disks, *dev)
		case *polyvisor.NIC:
			cfg.NICs = append(cfg.NICs, *dev)
		case *polyvisor.Share:
			cfg.Shares = append(cfg.Shares, *dev)
		case *polyvisor.RNG:
			cfg.RNG = dev
		}
	}
	return nil
}
