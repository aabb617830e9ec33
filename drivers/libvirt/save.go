package libvirt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/digitalocean/go-libvirt"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/classed"
)

// savedNamespace marks the run of a persistent domain that is being saved, so that
// Restore makes it persistent again: libvirt does not note it in the file.
const (
	savedNamespace = "https://polyvisor.dev/xmlns/saved/1"
	savedPrefix    = "pvsaved"
)

// Save writes the run to a file on the hypervisor's host.
func (i *instance) Save(ctx context.Context, path string) error {
	return i.write(ctx, path, func(ctx context.Context, s *session) error {
		persistent, err := s.IsPersistent(ctx, &i.dom)
		if err != nil {
			return err
		}
		marked := persistent && i.d.caps.Has(polyvisor.FeatureLabels)
		if marked {
			if err := s.SetMetadata(ctx, &i.dom, "<persistent/>", savedPrefix, savedNamespace, libvirt.DomainAffectLive); err != nil {
				return err
			}
		}
		err = s.Save(ctx, &i.dom, path)
		if err != nil && marked {
			_ = s.unmark(context.WithoutCancel(ctx), &i.dom)
		}
		return err
	})
}

// unmark removes the mark of a run that is not being saved any more.
func (s *session) unmark(ctx context.Context, d *libvirt.Domain) error {
	ctx, cancel := context.WithTimeout(ctx, settlePatience)
	defer cancel()
	return s.SetMetadata(ctx, d, "", savedPrefix, savedNamespace, libvirt.DomainAffectLive)
}

// CoreDump writes an ELF core file on the hypervisor's host, where that can.
func (i *instance) CoreDump(ctx context.Context, path string) error {
	return i.write(ctx, path, func(ctx context.Context, s *session) error {
		err := s.CoreDump(ctx, &i.dom, path, libvirt.DumpMemoryOnly)
		if n := number(err); n == libvirt.ErrInvalidArg || n == libvirt.ErrArgumentUnsupported {
			err = s.CoreDump(ctx, &i.dom, path, 0)
		}
		return err
	})
}

// write makes a call that writes a new file. When it fails the file is removed where
// that can be done from here, as libvirt does by itself for most failures.
func (i *instance) write(ctx context.Context, path string, call func(ctx context.Context, s *session) error) error {
	s, err := i.d.link.session()
	if err != nil {
		return err
	}
	if err := i.d.newFile(path); err != nil {
		return err
	}
	abort := func(ctx context.Context) error { return s.AbortJob(ctx, &i.dom) }
	ended := false
	err = s.settleWithin(ctx, writePatience, abort, func(ctx context.Context) error {
		err := call(ctx, s)
		ended = ctx.Err() == nil
		return err
	})
	switch {
	case err == nil:
		return nil
	case !ended:
		// The file may yet become all that is left of the run.
		return fmt.Errorf("%w; libvirt may still be writing %s, look at the domain's state before it is used or removed", s.failed(err), path)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settlePatience)
	defer cancel()
	state, _, serr := s.State(ctx, &i.dom)
	if serr == nil && active(state) {
		i.d.removeNew(path)
	}
	return s.failed(err)
}

// Restore continues the domain in a file of the hypervisor's host.
func (d *driver) Restore(ctx context.Context, path string, o polyvisor.StartOptions) (polyvisor.Instance, error) {
	s, err := d.link.session()
	if err != nil {
		return nil, err
	}
	if d.here() {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: %s", polyvisor.ErrNotFound, path)
		}
	}
	xml, err := s.SavedXML(ctx, path)
	id := identity{}
	switch n := number(err); {
	case err == nil:
		id = identityOf(xml)
	case n == libvirt.ErrNoSupport:
		// the domain can be known only when it runs
	case n == 0:
		return nil, s.failed(err)
	default:
		return nil, d.damaged(s, path, err)
	}
	was, err := d.restorable(ctx, s, id)
	if err != nil {
		return nil, err
	}
	flags := libvirt.DomainSaveRunning
	if o.Paused {
		flags = libvirt.DomainSavePaused
	}
	restore := func(ctx context.Context) error {
		err := s.Restore(ctx, path, flags)
		n := number(err)
		if n != libvirt.ErrNoSupport && n != libvirt.ErrInvalidArg && n != libvirt.ErrArgumentUnsupported || o.Paused && !d.host.noGuests() {
			return err
		}
		if err = s.RestorePlain(ctx, path); err == nil && o.Paused {
			err = s.Suspend(ctx, &libvirt.Domain{Name: id.name, UUID: id.uuid, ID: -1})
		}
		return err
	}
	// What follows belongs to the restore: a context that ends behind it must not
	// leave a domain that runs, and is transient though it was not.
	var dom libvirt.Domain
	restored := false
	err = s.settleWithin(ctx, writePatience, nil, func(ctx context.Context) (err error) {
		if err = restore(ctx); err != nil {
			return err
		}
		restored = true
		if dom, err = s.LookupByUUID(ctx, id.uuid); err != nil {
			return s.failed(err)
		}
		if strings.Contains(xml, savedNamespace) {
			err = d.again(ctx, s, &dom, was)
		}
		if err != nil {
			err = s.failed(err)
		}
		return err
	})
	switch {
	case err == nil:
		return d.instance(dom), nil
	case restored:
		return nil, err
	default:
		if errors.Is(d.active(ctx, s, id), polyvisor.ErrExists) {
			return nil, classed.As(polyvisor.ErrExists, err)
		}
		return nil, d.damaged(s, path, err)
	}
}

// again makes a restored domain persistent that was so when it was saved, if its
// definition is gone by now.
func (d *driver) again(ctx context.Context, s *session, dom *libvirt.Domain, defined bool) error {
	return s.settleWithin(ctx, writePatience, nil, func(ctx context.Context) error {
		if err := s.unmark(ctx, dom); err != nil || defined {
			return err
		}
		xml, err := s.XML(ctx, dom, libvirt.DomainXMLInactive)
		if err != nil {
			return err
		}
		_, err = s.Define(ctx, xml)
		return err
	})
}

// damaged classes the error of reading a saved domain: libvirt tells a file that is not
// one as a failed operation or an internal error.
func (d *driver) damaged(s *session, path string, err error) error {
	err = s.failed(err)
	switch polyvisor.CodeOf(err) {
	case polyvisor.CodeUnknown:
	case polyvisor.CodeNotFound, polyvisor.CodeBusy:
		// Of a file that is cut short libvirt tells whatever system error came last.
		if _, serr := os.Stat(path); number(err) != libvirt.ErrSystemError || !d.here() || serr != nil {
			return err
		}
	default:
		return err
	}
	return classed.As(polyvisor.ErrInvalidConfig, err)
}

// restorable gives ErrExists if the domain in a file is active, or defined with the
// other of name and UUID. It says whether the domain is defined.
func (d *driver) restorable(ctx context.Context, s *session, id identity) (defined bool, err error) {
	if id.name == "" {
		return false, nil
	}
	if err := d.active(ctx, s, id); err != nil {
		return false, err
	}
	dom, err := s.LookupByName(ctx, id.name)
	switch {
	case number(err) == libvirt.ErrNoDomain:
	case err != nil:
		return false, s.failed(err)
	case dom.UUID != id.uuid:
		return false, fmt.Errorf("%w: another domain has the name %q", polyvisor.ErrExists, id.name)
	}
	dom, err = s.LookupByUUID(ctx, id.uuid)
	switch {
	case number(err) == libvirt.ErrNoDomain:
		return false, nil
	case err != nil:
		return false, s.failed(err)
	case dom.Name != id.name:
		return false, fmt.Errorf("%w: the domain is named %q by now", polyvisor.ErrExists, dom.Name)
	}
	return true, nil
}

// active gives ErrExists if the domain is active.
func (d *driver) active(ctx context.Context, s *session, id identity) error {
	state, _, err := s.State(ctx, &libvirt.Domain{Name: id.name, UUID: id.uuid, ID: -1})
	switch {
	case number(err) == libvirt.ErrNoDomain:
		return nil
	case err != nil:
		return s.failed(err)
	case active(state):
		return fmt.Errorf("%w: the domain is active", polyvisor.ErrExists)
	}
	return nil
}

var (
	_ polyvisor.Saver      = (*instance)(nil)
	_ polyvisor.CoreDumper = (*instance)(nil)
	_ polyvisor.Restorer   = (*driver)(nil)
)
