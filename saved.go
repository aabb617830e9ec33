package polyvisor

import (
	"context"
	"path/filepath"
	"strings"
)

// Save stops the domain and writes its run to a new file at path, on the host
// of the hypervisor (virDomainSave). Afterwards the domain is inactive, a
// transient one gone; Conn.Restore continues it. If it fails the domain goes on
// as before and there is no file. ErrExists if the file exists.
func (d *Domain) Save(ctx context.Context, path string) error {
	return d.operate(ctx, OpSave, FeatureSave, func(ctx context.Context, _ *slot) error {
		i, ok := As[Saver](d.inst)
		if !ok {
			return d.conn.missing(FeatureSave)
		}
		if err := checkPath(path); err != nil {
			return err
		}
		return i.Save(ctx, path)
	})
}

// CoreDump writes the guest's memory and processor state to a new file at path,
// on the host of the hypervisor, for analysis (virDomainCoreDump). The guest is
// stopped meanwhile and then goes on in the state it was in.
func (d *Domain) CoreDump(ctx context.Context, path string) error {
	return d.operate(ctx, OpCoreDump, FeatureCoreDump, func(ctx context.Context, _ *slot) error {
		i, ok := As[CoreDumper](d.inst)
		if !ok {
			return d.conn.missing(FeatureCoreDump)
		}
		if err := checkPath(path); err != nil {
			return err
		}
		return i.CoreDump(ctx, path)
	})
}

// Restore continues a domain that Domain.Save wrote to a file, which stays
// (virDomainRestore). A domain that was persistent is so again.
//
// Errors: ErrNotFound, ErrInvalidConfig for a file that is damaged or holds no
// saved domain, ErrExists if its name or UUID is in use.
func (c *Conn) Restore(ctx context.Context, path string, opts ...StartOption) (*Domain, error) {
	o := startOptions(opts)
	return c.made(ctx, "restore", "", func(ctx context.Context) (Instance, error) {
		if err := c.need(FeatureSave); err != nil {
			return nil, err
		}
		if err := c.mayMake(false, o); err != nil {
			return nil, err
		}
		if err := checkPath(path); err != nil {
			return nil, err
		}
		if err := c.writable(); err != nil {
			return nil, err
		}
		r, ok := As[Restorer](c.driver)
		if !ok {
			return nil, c.missing(FeatureSave)
		}
		return r.Restore(ctx, path, o)
	})
}

func checkPath(path string) error {
	switch {
	case path == "":
		return badArg("no path of a file")
	case strings.ContainsRune(path, 0):
		return badArg("path %q contains a NUL byte", path)
	case !filepath.IsAbs(path):
		return badArg("path %q is relative; the hypervisor needs an absolute one", path)
	}
	return nil
}
