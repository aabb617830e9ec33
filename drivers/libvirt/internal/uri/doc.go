// Package uri reads libvirt's connection URIs,
//
//	driver[+transport]://[user@][host][:port]/[path][?parameters]
//
// and says where to dial, how, and which name to give the daemon when the
// connection is opened. The rules are those of libvirt's docs/uri.rst and
// docs/remote.rst; the names sent were compared with what libvirt's own client
// sends for the same URIs. It also reads the client configuration libvirt.conf
// (aliases, the default URI, remote_mode, remote_proxy).
//
// The package opens nothing but libvirt.conf; package dial does the rest.
package uri

import (
	"errors"
	"fmt"
)

// ErrInvalid is matched by every error that a URI or libvirt.conf causes. No
// error repeats a password.
var ErrInvalid = errors.New("invalid libvirt URI")

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrInvalid, fmt.Errorf(format, args...))
}
