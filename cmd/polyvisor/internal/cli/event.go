package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/polyvisor/polyvisor"
)

func (a *app) eventCommand() *cobra.Command {
	var count int
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "event [NAME]",
		Short: "Follow what happens to domains",
		Long: `Event prints a line for everything that happens from now on to a domain, or to all
of them, until it is interrupted. With --count it ends after so many events. Once
it follows it says so on standard error: nothing that happens later is missed. If
events come faster than they are read, a line with "gap" says that some were
lost. With -o json each line is one JSON object.`,
		Example: "  polyvisor event\n  polyvisor event web --count 1 --timeout 1m -o json",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return wants(1, "at most one domain")(cmd, args)
			}
			return nil
		},
		ValidArgsFunction: a.completeDomains(""),
	}
	c.Flags().IntVar(&count, "count", 0, "end after this many events; no limit if 0")
	c.Flags().DurationVar(&timeout, "timeout", 0, "with the exit code 124 give up after this time, such as 30s; no limit if 0")
	output := outputFlag(c)
	c.RunE = a.action(func(ctx context.Context, args []string) error {
		if count < 0 || timeout < 0 {
			return usage("event: --count and --timeout must not be negative")
		}
		return a.withConn(ctx, func(conn *polyvisor.Conn) error {
			var o polyvisor.SubscribeOptions
			if len(args) > 0 {
				if err := polyvisor.CheckName(args[0]); err != nil {
					return usage("domain name: %w", err)
				}
				dom, err := find(ctx, conn, args[0])
				if err != nil {
					return err
				}
				o.Domain = dom
			}
			sub, err := conn.Subscribe(ctx, o)
			if err != nil {
				return err
			}
			defer sub.Close()
			a.note("following events")
			return a.followEvents(ctx, sub, *output, count, timeout)
		})
	})
	return c
}

func (a *app) followEvents(ctx context.Context, sub *polyvisor.Subscription, f format, count int, timeout time.Duration) error {
	bounded := ctx
	if timeout > 0 {
		var cancel context.CancelFunc
		bounded, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	for n := 0; count == 0 || n < count; n++ {
		e, err := sub.Next(bounded)
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			return &exitError{exitTimeout, fmt.Errorf("%d events within %s", n, timeout)}
		}
		if err == nil {
			err = a.printEvent(e, f)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *app) printEvent(e polyvisor.Event, f format) error {
	if f == formatJSON {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(e); err != nil {
			return err
		}
		return a.write(b.Bytes())
	}
	line := e.Time.Local().Format(time.RFC3339) + " " + string(e.Type)
	if e.Name != "" {
		line += fmt.Sprintf(" %q %s", e.Name, e.State)
	}
	switch {
	case e.Stop != nil:
		line += ": " + e.Stop.String()
	case e.Device != "":
		line += ": " + e.Device
	case e.Lost > 0:
		line += fmt.Sprintf(": %d lost", e.Lost)
	}
	return a.say("%s", line)
}
