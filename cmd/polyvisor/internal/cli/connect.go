package cli

import (
	"context"
	"errors"
	"os"
	"strconv"

	"github.com/google/uuid"
	"github.com/spf13/pflag"

	"github.com/polyvisor/polyvisor"
)

// defaultURI is the URI when none is given: all machines of the host for
// root, the user's own for everybody else, as libvirt has it.
func defaultURI(uid int) string {
	if uid == 0 {
		return "kvm:///system"
	}
	return "kvm:///session"
}

// connectURI is the URI to connect to.
func (a *app) connectURI() string {
	if a.uri != "" {
		return a.uri
	}
	if env := os.Getenv("POLYVISOR_URI"); env != "" {
		return env
	}
	return defaultURI(os.Getuid())
}

// directory is the value of a flag that names one.
type directory string

var _ pflag.Value = (*directory)(nil)

func (d *directory) String() string { return string(*d) }
func (d *directory) Type() string   { return "DIR" }
func (d *directory) Set(s string) error {
	if s == "" {
		return errors.New("want a directory")
	}
	*d = directory(s)
	return nil
}

func (a *app) open(ctx context.Context) (*polyvisor.Conn, error) {
	return a.openURI(ctx, a.connectURI())
}

func (a *app) openURI(ctx context.Context, uri string) (*polyvisor.Conn, error) {
	opts := []polyvisor.Option{polyvisor.WithLogger(a.logger())}
	switch {
	case a.readOnly && a.early != "":
		return nil, usage("--early defines domains; leave --readonly or --early out")
	case a.readOnly:
		opts = append(opts, polyvisor.ReadOnly())
	case a.early != "" && !a.quiet: // a shell that asks for names defines nothing
		opts = append(opts, polyvisor.Early(string(a.early)))
	}
	conn, err := polyvisor.Open(ctx, uri, opts...)
	if err == nil {
		a.logger().Debug("connected", "uri", conn.URI(), "driver", conn.Type())
	}
	return conn, err
}

// withConn runs f on a connection of its own.
func (a *app) withConn(ctx context.Context, f func(conn *polyvisor.Conn) error) error {
	conn, err := a.open(ctx)
	if err != nil {
		return err
	}
	err = f(conn)
	if cerr := conn.Close(); err == nil {
		err = cerr
	}
	return err
}

// withDomain runs f on the domain that the user's word means.
func (a *app) withDomain(ctx context.Context, word string, f func(dom *polyvisor.Domain) error) error {
	if err := polyvisor.CheckName(word); err != nil {
		return usage("domain name: %w", err)
	}
	return a.withConn(ctx, func(conn *polyvisor.Conn) error {
		dom, err := find(ctx, conn, word)
		if err != nil {
			return err
		}
		return f(dom)
	})
}

// find looks for a domain by name, then by UUID and by ID if the word can be
// one. The name comes first: a domain cannot be hidden by another one's number.
func find(ctx context.Context, conn *polyvisor.Conn, word string) (*polyvisor.Domain, error) {
	dom, err := conn.Domain(ctx, word)
	if err == nil || !errors.Is(err, polyvisor.ErrNotFound) {
		return dom, err
	}
	if id, perr := uuid.Parse(word); perr == nil && id != uuid.Nil {
		return conn.DomainByUUID(ctx, id)
	}
	if id, perr := strconv.Atoi(word); perr == nil && id > 0 {
		return conn.DomainByID(ctx, id)
	}
	return nil, err
}
