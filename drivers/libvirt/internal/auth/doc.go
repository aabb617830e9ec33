// Package auth authenticates a new connection to a libvirt daemon: it asks which
// authentication the daemon wants (AUTH_LIST), and does polkit's (AUTH_POLKIT) or
// SASL's (AUTH_SASL_INIT, _START, _STEP) part of a client, as
// src/remote/remote_protocol.x and docs/auth.rst of libvirt describe them. It
// must be done before CONNECT_OPEN.
//
// The SASL mechanisms are SCRAM (RFC 5802, RFC 7677) and PLAIN (RFC 4616), the
// latter only where nobody can read along. Security layers, which encrypt what
// follows, are not negotiated: that is the transport's task.
package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/classed"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/rpc"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/uri"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/xdr"
)

// What an error of Authenticate is about. Errors of the Caller itself, such as
// those of a lost connection or an ended context, match none of them.
var (
	// ErrDenied: the daemon does not accept us, or it is not the one it claims to be.
	ErrDenied = errors.New("authentication failed")
	// ErrUnsupported: the daemon wants what this package cannot do.
	ErrUnsupported = errors.New("authentication is not supported")
	// ErrConfig: credentials are missing, or auth.conf is wrong.
	ErrConfig = errors.New("authentication is not configured")
)

// fail makes an error of one of the kinds above.
func fail(kind error, format string, args ...any) error {
	return classed.Errorf(kind, format, args...)
}

// Caller makes calls to the daemon, as rpc.Client does.
type Caller interface {
	Call(ctx context.Context, program, procedure uint32, args func(*xdr.Writer), ret func(*xdr.Reader)) error
}

// CredentialSASL is the kind that Options.Credentials is asked for.
const CredentialSASL = "sasl"

// Options say who we are and how we are connected.
type Options struct {
	// Target is where the connection leads; it must be set.
	Target *uri.Target
	// Env is the environment; its zero value stands for uri.HostEnv().
	Env uri.Env
	// Credentials, if set, is asked for what neither the URI nor auth.conf has.
	// about is user@host, or the host alone if no user is known; the user it
	// gives may be empty then only if one is known. It must end with ctx.
	Credentials func(ctx context.Context, kind, about string) (user, password string, err error)
}

// Program and procedures for authentication of src/remote/remote_protocol.x.
const (
	program       = rpc.ProgramRemote
	procAuthList  = 66
	procSASLInit  = 67
	procSASLStart = 68
	procSASLStep  = 69
	procPolkit    = 70
)

// Authentication types (remote_auth_type).
const (
	typeNone   = 0
	typeSASL   = 1
	typePolkit = 2
)

// maxTypes is REMOTE_AUTH_TYPE_LIST_MAX.
const maxTypes = 20

var typeNames = map[int32]string{typeNone: "none", typeSASL: "sasl", typePolkit: "polkit"}

func typeName(t int32) string {
	if name := typeNames[t]; name != "" {
		return name
	}
	return fmt.Sprintf("number %d", t)
}

// Authenticate does what the daemon wants of a new connection, which may be
// nothing. No error holds a password.
func Authenticate(ctx context.Context, c Caller, o Options) error {
	if o.Env.Getenv == nil {
		o.Env = uri.HostEnv()
	}
	var types []int32
	err := c.Call(ctx, program, procAuthList, nil, func(r *xdr.Reader) {
		types = make([]int32, r.Count(maxTypes, 4))
		for i := range types {
			types[i] = r.Int32()
		}
	})
	if err != nil {
		return fmt.Errorf("ask for the authentication: %w", err)
	}
	a := &authenticator{Caller: c, Options: o}
	if len(types) == 0 {
		types = []int32{typeNone}
	}
	wanted, mechanism, _ := strings.Cut(o.Target.Auth, ".")
	for _, t := range types {
		if wanted != "" && typeNames[t] != wanted {
			continue
		}
		switch t {
		case typeNone:
			return nil
		case typePolkit:
			return a.polkit(ctx)
		case typeSASL:
			return a.sasl(ctx, mechanism)
		}
	}
	names := make([]string, len(types))
	for i, t := range types {
		names[i] = typeName(t)
	}
	offered := strings.Join(names, ", ")
	if wanted != "" && !slices.Contains(names, wanted) {
		return fail(ErrUnsupported, "the daemon offers no authentication by %s, as auth= of the URI wants it, but by %s", wanted, offered)
	}
	return fail(ErrUnsupported, "the daemon wants authentication by %s; known here are none, polkit and sasl", offered)
}

type authenticator struct {
	Caller
	Options
}

// polkit has the daemon ask polkit about this process.
func (a *authenticator) polkit(ctx context.Context) error {
	var complete int32
	err := a.Call(ctx, program, procPolkit, nil, func(r *xdr.Reader) { complete = r.Int32() })
	const advice = "polkit must allow org.libvirt.unix.manage (or org.libvirt.unix.monitor for a read-only connection): become a member of the group libvirt, add a rule to /etc/polkit-1/rules.d, or have an agent such as pkttyagent run in this session"
	if err != nil {
		return a.refused(err, "polkit: %w; %s", err, advice)
	}
	if complete == 0 {
		return fail(ErrDenied, "polkit: the daemon is not content; %s", advice)
	}
	return nil
}

// refused makes ErrDenied of an error that the daemon replied with, and leaves
// others, of the connection or the context, as they are.
func (a *authenticator) refused(err error, format string, args ...any) error {
	var reply *rpc.Error
	if errors.As(err, &reply) {
		return fail(ErrDenied, format, args...)
	}
	return err
}
