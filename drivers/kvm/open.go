package kvm

import (
	"context"

	"github.com/polyvisor/polyvisor"
)

func init() {
	polyvisor.Register("kvm", polyvisor.Registration{
		Params: params,
		Open: func(ctx context.Context, u *polyvisor.URI, o polyvisor.OpenOptions) (polyvisor.Driver, error) {
			opts, err := parseOptions(u, o)
			if err != nil {
				return nil, err
			}
			return openDriver(ctx, opts)
		},
	})
}

// Open opens the driver with typed options; polyvisor.Open does the same with a
// URI. ctx bounds the call.
//
// Errors: ErrNoResource if the host has no KVM, ErrPermission if the device or a
// directory may not be used, ErrUnsupported on other systems than Linux on
// x86-64.
func Open(ctx context.Context, o Options) (*polyvisor.Conn, error) {
	d, err := openDriver(ctx, o)
	if err != nil {
		return nil, &polyvisor.Error{Op: "open", Driver: "kvm", Code: polyvisor.CodeOf(err), Err: err}
	}
	opts := []polyvisor.Option{polyvisor.WithLogger(o.Logger)}
	if o.ReadOnly {
		opts = append(opts, polyvisor.ReadOnly())
	}
	return polyvisor.NewConn(d, o.uri(), opts...), nil
}
