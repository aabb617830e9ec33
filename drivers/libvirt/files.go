package libvirt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/digitalocean/go-libvirt"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/classed"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/uri"
)

// here reports whether the hypervisor's files are this host's, so that they can be
// looked at.
func (d *driver) here() bool {
	return d.target.Local && d.target.Transport == uri.Unix
}

// vsockDevice is what QEMU's vsock needs of its host. libvirt does not tell whether it is
// there.
const vsockDevice = "/dev/vhost-vsock"

// lacksVsock says why there is no vsock, nothing if there is or that is not known.
func (d *driver) lacksVsock() string {
	if d.host.noGuests() || !d.here() {
		return ""
	}
	f, err := os.OpenFile(vsockDevice, os.O_RDWR, 0)
	if err == nil {
		_ = f.Close()
		return ""
	}
	if errors.Is(err, fs.ErrPermission) {
		return "" // the daemon may be allowed to
	}
	return fmt.Sprintf("%v; load the module vhost_vsock", err)
}

// diagnose finds out why a domain of the configuration does not start where libvirt's
// number does not say it: most of what goes wrong is told as an internal error or a
// failed operation, with the hypervisor's own text.
func (d *driver) diagnose(c *polyvisor.Config, err error) error {
	switch number(err) {
	case libvirt.ErrInternalError, libvirt.ErrOperationFailed, libvirt.ErrSystemError, libvirt.ErrOpenFailed:
	default:
		return err
	}
	if !d.here() {
		return err
	}
	for _, f := range c.Files() {
		_, serr := os.Stat(f.File.Path)
		switch {
		case errors.Is(serr, fs.ErrNotExist):
			return classed.As(polyvisor.ErrNotFound, fmt.Errorf("%s: %s does not exist: %w", f.Field, f.File.Path, err))
		case errors.Is(serr, fs.ErrPermission):
			return classed.As(polyvisor.ErrPermission, err)
		}
	}
	return err
}

// diagnose is driver.diagnose with the domain's own configuration.
func (i *instance) diagnose(ctx context.Context, s *session, err error) error {
	if polyvisor.CodeOf(err) != polyvisor.CodeUnknown {
		return err
	}
	c, _, cerr := i.read(ctx, s, 0)
	if cerr != nil {
		return err
	}
	if i.d.locked(c, err) {
		return classed.As(polyvisor.ErrBusy, err)
	}
	if err := i.d.diagnose(c, err); polyvisor.CodeOf(err) != polyvisor.CodeUnknown {
		return err
	}
	if n := number(err); n == libvirt.ErrOperationFailed || n == libvirt.ErrInternalError {
		// A start that failed by itself leaves another reason.
		state, reason, serr := s.State(ctx, &i.dom)
		if serr == nil && (active(state) || reason == int32(libvirt.DomainShutoffDestroyed)) {
			return classed.As(polyvisor.ErrInvalidState, fmt.Errorf("someone else has started or destroyed the domain meanwhile: %w", err))
		}
	}
	return err
}

// newFile checks that a file which the hypervisor is to make is not there yet, and that
// it can be, as far as this host knows: libvirt overwrites what is in the way.
func (d *driver) newFile(path string) error {
	if !d.here() {
		return nil
	}
	f, err := os.Lstat(path)
	switch {
	case err == nil:
		return fmt.Errorf("%w: %s is there already, %d bytes", polyvisor.ErrExists, path, f.Size())
	case errors.Is(err, fs.ErrNotExist):
	default:
		return nil // the hypervisor may see more
	}
	if _, err := os.Stat(parent(path)); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: the directory %s", polyvisor.ErrNotFound, parent(path))
	}
	return nil
}

// parent is the directory of an absolute path of the hypervisor's host.
func parent(path string) string {
	for i := len(path) - 1; i > 0; i-- {
		if path[i] == '/' {
			return path[:i]
		}
	}
	return "/"
}

// removeNew removes what is left of a file that could not be finished.
func (d *driver) removeNew(path string) {
	if !d.here() {
		return
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.log.Warn("a file that could not be finished cannot be removed", "file", path, "error", err)
	}
}

// printed gives the end of the console's log, if there is one that can be read here:
// libvirt keeps nothing else of what nobody has read.
func (i *instance) printed(ctx context.Context, s *session) []byte {
	if !i.d.here() {
		return nil
	}
	c, _, err := i.read(ctx, s, 0)
	if err != nil || c.Console.Log == "" {
		return nil
	}
	f, err := os.Open(c.Console.Log)
	if err != nil {
		i.d.log.Debug("the log of a console cannot be replayed", "domain", i.Name(), "error", err)
		return nil
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() {
		return nil
	}
	from := max(0, st.Size()-maxReplay)
	b, err := io.ReadAll(io.NewSectionReader(f, from, st.Size()-from))
	if err != nil {
		return nil
	}
	return b
}

// locked says whether a writable disk image of the domain is held by another process,
// by the locks that QEMU takes.
func (d *driver) locked(c *polyvisor.Config, err error) bool {
	if number(err) != libvirt.ErrInternalError || !d.here() {
		return false
	}
	for _, disk := range c.Disks {
		if disk.Mode == polyvisor.DeviceReadWriteForce || disk.Source.Path == "" {
			continue
		}
		if imageLocked(disk.Source.Path) {
			return true
		}
	}
	return false
}
