package libvirt

import (
	"context"
	"fmt"

	"github.com/digitalocean/go-libvirt"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/domainxml"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/classed"
)

// metadataPrefix is the prefix of our namespace in the XML of domains.
const metadataPrefix = "polyvisor"

// SetLabels replaces the labels, in the definition and in the run.
func (i *instance) SetLabels(ctx context.Context, labels map[string]string) error {
	return i.change(ctx, func(ctx context.Context, s *session) error {
		persistent, err := s.IsPersistent(ctx, &i.dom)
		if err != nil {
			return err
		}
		on, err := i.isActive(ctx, s)
		if err != nil {
			return err
		}
		set := func(c *polyvisor.Config) bool {
			c.Labels = labels
			return true
		}
		var impact libvirt.DomainModificationImpact
		if on {
			impact = libvirt.DomainAffectLive
		}
		if persistent {
			impact |= libvirt.DomainAffectConfig
		}
		return i.editElement(ctx, s, 0, impact, set)
	})
}

// editMetadata changes our element of an active domain's run, or of an inactive one's
// definition, if edit says that there is a change.
func (i *instance) editMetadata(ctx context.Context, s *session, edit func(c *polyvisor.Config) bool) error {
	on, err := i.isActive(ctx, s)
	if err != nil {
		return err
	}
	impact := libvirt.DomainAffectConfig
	if on {
		impact = libvirt.DomainAffectLive
	}
	return i.editElement(ctx, s, 0, impact, edit)
}

// editElement reads our element and writes it.
func (i *instance) editElement(ctx context.Context, s *session, from libvirt.DomainXMLFlags, impact libvirt.DomainModificationImpact, edit func(c *polyvisor.Config) bool) error {
	c, _, err := i.read(ctx, s, from)
	if err != nil {
		return err
	}
	if !edit(c) {
		return nil
	}
	element, err := domainxml.Metadata(c)
	if err != nil {
		return err
	}
	return s.SetMetadata(ctx, &i.dom, element, metadataPrefix, domainxml.Namespace, impact)
}

// SetAutostart says whether the domain is started with the host.
func (i *instance) SetAutostart(ctx context.Context, on bool) error {
	err := i.change(ctx, func(ctx context.Context, s *session) error {
		persistent, err := s.IsPersistent(ctx, &i.dom)
		if err != nil {
			return err
		}
		if !persistent {
			return fmt.Errorf("%w: the domain is transient", polyvisor.ErrInvalidState)
		}
		return s.SetAutostart(ctx, &i.dom, on)
	})
	if err == nil {
		i.d.hub.tell(i, polyvisor.EventLabels, "")
	}
	return err
}

// Rename gives the domain another name.
func (i *instance) Rename(ctx context.Context, name string) error {
	err := i.change(ctx, func(ctx context.Context, s *session) error {
		if name == i.Name() {
			return nil
		}
		err := s.Rename(ctx, &i.dom, name)
		if err == nil {
			return nil
		}
		if dom, lerr := s.LookupByName(ctx, name); lerr == nil && dom.UUID != i.dom.UUID {
			return classed.As(polyvisor.ErrExists, err)
		}
		return err
	})
	if err == nil {
		i.renamed.Store(&name)
	}
	return err
}

var (
	_ polyvisor.Labeler     = (*instance)(nil)
	_ polyvisor.Autostarter = (*instance)(nil)
	_ polyvisor.Renamer     = (*instance)(nil)
)
