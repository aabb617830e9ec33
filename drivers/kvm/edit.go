//go:build linux && amd64

package kvm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/store"
)

// editing says what a change is about.
type editing struct {
	event store.EventType
	// inactive changes are refused while the domain is active: a run does not
	// follow its definition.
	inactive bool
	// run changes are made in the run as well.
	run bool
	// persistent changes need a definition.
	persistent bool
}

// edit changes the domain's configuration while no other process works on the
// domain. change is called for the definition and for the run, as there are.
func (i *instance) edit(ctx context.Context, e editing, change func(c *polyvisor.Config)) error {
	lock, err := i.d.store.LockDomain(ctx, i.uuid)
	if err != nil {
		return ended(ctx, classify(err))
	}
	defer lock.Unlock()
	return ended(ctx, classify(i.editLocked(ctx, e, change)))
}

func (i *instance) editLocked(ctx context.Context, e editing, change func(c *polyvisor.Config)) error {
	def, err := i.d.store.Definition(i.uuid)
	defined := err == nil
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	run, err := i.d.store.ActiveByUUID(i.uuid)
	active := err == nil
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	switch {
	case !defined && !active:
		return fmt.Errorf("domain %q is gone: %w", i.Name(), polyvisor.ErrNotFound)
	case e.inactive && active:
		return fmt.Errorf("%w: the domain has just been started", polyvisor.ErrInvalidState)
	case e.persistent && !defined:
		return fmt.Errorf("%w: the domain is transient and has no definition", polyvisor.ErrInvalidState)
	}
	told := false
	if defined {
		text, name, err := changed(def.Config, change)
		if err != nil {
			return err
		}
		def.Config, def.Name = text, name
		if err := i.d.store.Amend(ctx, def, e.event); err != nil {
			return err
		}
		told = true
	}
	if !active || !e.run {
		return nil
	}
	text, _, err := changed(run.Config, change)
	if err != nil {
		return err
	}
	event := e.event
	if told {
		event = ""
	}
	err = i.d.store.AmendRun(ctx, i.uuid, text, event)
	if errors.Is(err, store.ErrNotFound) && defined {
		return nil // it has just stopped, and the definition is changed
	}
	return err
}

// changed gives a stored configuration with a change.
func changed(text json.RawMessage, change func(*polyvisor.Config)) (json.RawMessage, string, error) {
	c, err := parseConfig(text)
	if err != nil {
		return nil, "", err
	}
	change(c)
	text, err = json.Marshal(c)
	return text, c.Name, err
}

// SetMemory changes the definition. An active domain keeps what it has: it has no
// balloon.
func (i *instance) SetMemory(ctx context.Context, n polyvisor.Bytes) error {
	return i.edit(ctx, editing{event: store.EventMemory, inactive: true}, func(c *polyvisor.Config) {
		c.MaxMemory = max(c.MaxMemory, c.Memory, n)
		c.Memory = n
	})
}

// SetMaxMemory changes the definition.
func (i *instance) SetMaxMemory(ctx context.Context, n polyvisor.Bytes) error {
	return i.edit(ctx, editing{event: store.EventMemory, inactive: true}, func(c *polyvisor.Config) {
		c.MaxMemory = n
		c.Memory = min(c.Memory, n)
	})
}

// SetVCPUs changes the definition. Settings of virtual CPUs that are no more go
// with them.
func (i *instance) SetVCPUs(ctx context.Context, n int) error {
	return i.edit(ctx, editing{event: store.EventDefined, inactive: true}, func(c *polyvisor.Config) {
		c.VCPUs, c.MaxVCPUs = n, n
		c.VCPU = slices.DeleteFunc(c.VCPU, func(v polyvisor.VCPUConfig) bool { return v.Number >= n })
	})
}

// SetLabels changes the definition and the run.
func (i *instance) SetLabels(ctx context.Context, labels map[string]string) error {
	return i.edit(ctx, editing{event: store.EventLabels, run: true}, func(c *polyvisor.Config) { c.Labels = labels })
}

// SetAutostart marks the domain, in the definition and in what the run tells.
func (i *instance) SetAutostart(ctx context.Context, on bool) error {
	return i.edit(ctx, editing{event: store.EventLabels, run: true, persistent: true}, func(c *polyvisor.Config) { c.Autostart = on })
}

// Rename changes the name in the definition.
func (i *instance) Rename(ctx context.Context, name string) error {
	err := i.edit(ctx, editing{event: store.EventRenamed, inactive: true, persistent: true}, func(c *polyvisor.Config) { c.Name = name })
	if err == nil {
		i.renamed.Store(&name)
	}
	return err
}

var (
	_ polyvisor.MemorySetter = (*instance)(nil)
	_ polyvisor.VCPUSetter   = (*instance)(nil)
	_ polyvisor.Labeler      = (*instance)(nil)
	_ polyvisor.Autostarter  = (*instance)(nil)
	_ polyvisor.Renamer      = (*instance)(nil)
)
