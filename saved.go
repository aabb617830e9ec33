package polyvisor

import (
	"context"
	"path"
	"strings"
	"unicode/utf8"
)

// Save stops the domain and writes its run to a new file, on the host of the
// hypervisor (virDomainSave). Afterwards the domain is inactive, a transient
// one gone; Conn.Restore continues it. If it fails the domain goes on as before
// and there is no file. file is an absolute path; ErrExists if there is one.
func (d *Domain) Save(ctx context.Context, file string) error {
	return change(ctx, d, OpSave, FeatureSave, checkPath(file), func(ctx context.Context, i Saver, _ bool) error {
		return i.Save(ctx, file)
	})
}

// CoreDump writes the guest's memory and processor state to a new file, on the
// host of the hypervisor, for analysis (virDomainCoreDump). The guest is
// stopped meanwhile and then goes on in the state it was in. file is an
// absolute path; ErrExists if there is one.
func (d *Domain) CoreDump(ctx context.Context, file string) error {
	return change(ctx, d, OpCoreDump, FeatureCoreDump, checkPath(file), func(ctx context.Context, i CoreDumper, _ bool) error {
		return i.CoreDump(ctx, file)
	})
}

// Restore continues a domain that Domain.Save wrote to a file, which stays
// (virDomainRestore). A domain that was persistent is so again.
//
// Errors: ErrNotFound, ErrInvalidConfig for a file that is damaged or holds no
// saved domain, ErrExists if its name or UUID is in use.
func (c *Conn) Restore(ctx context.Context, file string, opts ...StartOption) (*Domain, error) {
	o := startOptions(opts)
	return c.made(ctx, "restore", "", func(ctx context.Context) (Instance, error) {
		r, err := offered[Restorer](c, c.driver, FeatureSave)
		if err != nil {
			return nil, err
		}
		if err := c.mayMake(false, o); err != nil {
			return nil, err
		}
		if err := checkPath(file); err != nil {
			return nil, err
		}
		if err := c.mayAdd(); err != nil {
			return nil, err
		}
		return r.Restore(ctx, file, o)
	})
}

// checkPath checks the path of a file on the hypervisor's host, which has
// slashes, whatever this host has.
func checkPath(file string) error {
	switch {
	case file == "":
		return badArg("no path of a file")
	case strings.ContainsRune(file, 0) || !utf8.ValidString(file):
		return badArg("path %q contains a NUL byte or is not UTF-8", file)
	case !path.IsAbs(file):
		return badArg("path %q is relative; the hypervisor needs an absolute one", file)
	}
	return nil
}
