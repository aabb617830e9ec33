package libvirt

import (
	"context"
	"log/slog"
	"time"
)

// Options of Open.
type Options struct {
	// URI is a connection URI as libvirt writes them, or an alias of libvirt.conf. If
	// it is empty, LIBVIRT_DEFAULT_URI and then libvirt.conf's uri_default is taken.
	URI string
	// ReadOnly connects with libvirt's read-only privilege.
	ReadOnly bool
	// DomainType is the type of domain that a Config becomes, such as "kvm" or
	// "qemu". If it is empty, or the host does not have it, the host's best is taken.
	DomainType string
	// KeepAlive is how often a daemon that is silent is asked whether it is there, and
	// KeepAliveCount how many times in a row it may fail to answer: a peer that is gone is
	// noticed after KeepAlive*(KeepAliveCount+1). 5 seconds and 5 if zero; a negative
	// KeepAlive asks never.
	KeepAlive      time.Duration
	KeepAliveCount int
	// Credentials is asked for secrets that are in no file: kind is "sasl" for the user and
	// password of the daemon, "ssh-password" or "ssh-key"; about says whose, such as
	// user@host or the name of a key's file. It must end with ctx. nil: none are known.
	// It is asked again when the connection was lost.
	Credentials func(ctx context.Context, kind, about string) (user, password string, err error)
	// Logger takes the log; nil for none.
	Logger *slog.Logger
}

const (
	defaultKeepAlive      = 5 * time.Second
	defaultKeepAliveCount = 5
)

// complete fills in the defaults.
func (o Options) complete() Options {
	if o.KeepAlive == 0 {
		o.KeepAlive = defaultKeepAlive
	}
	o.KeepAlive = max(o.KeepAlive, 0)
	if o.KeepAliveCount == 0 {
		o.KeepAliveCount = defaultKeepAliveCount
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}
