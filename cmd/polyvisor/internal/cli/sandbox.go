package cli

import (
	"context"
	"errors"
	"net/url"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/kvm/sandbox"
)

// runSandbox runs a command in a machine of its own, which lives in this process: whatever ends it, nothing is left.
func (a *app) runSandbox(ctx context.Context, config *polyvisor.Config, f *runFlags, command []string) (err error) {
	if f.detach {
		return usage("run: --detach is not for a command after --")
	}
	u, err := polyvisor.ParseURI(a.connectURI())
	if err != nil {
		return usage("%w", err)
	}
	if u.Scheme != "kvm" || u.Remote() {
		return usage("run: a command after -- runs on this host's KVM; the connection is %s", u)
	}
	if u.Query == nil {
		u.Query = url.Values{}
	}
	u.Query.Set("isolation", "none")
	if err := sandbox.Prepare(config, sandbox.Options{}); err != nil {
		return err
	}
	a.warnSoftware(config.Boot.Kernel.Path)
	conn, err := a.openURI(ctx, u.String())
	if err != nil {
		return errors.Join(err, config.Boot.Initrd.Open.Close())
	}
	defer func() { err = errors.Join(err, conn.Close()) }() // with which the machine goes
	limited := ctx
	if f.timeout > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, f.timeout)
		defer cancel()
	}
	dom, err := conn.Create(limited, config)
	if err == nil {
		err = sandbox.Ready(limited, dom)
	}
	if err == nil {
		err = a.exec(limited, dom, polyvisor.Cmd{Args: command}, f.tty)
	}
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return &exitError{exitTimeout, advise(err, "--timeout %s was the limit", f.timeout)}
	}
	return err
}
