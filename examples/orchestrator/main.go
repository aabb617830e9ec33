// Command orchestrator keeps the domains of a specification running: it starts
// them, starts the crashed again with growing pauses, and on SIGTERM or SIGINT
// shuts them down and waits for them.
//
//	orchestrator -connect kvm:///session spec.json
//
// where spec.json is {"domains": [{"name": "a"}, {"name": "b"}], "restart": "crash"}.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/polyvisor/polyvisor"
	_ "github.com/polyvisor/polyvisor/drivers/kvm"
	_ "github.com/polyvisor/polyvisor/drivers/libvirt"
)

func main() {
	connect := flag.String("connect", "kvm:///session", "connection `URI`")
	backoff := flag.Duration("backoff", time.Second, "pause before the first restart in a row")
	drain := flag.Duration("drain", 30*time.Second, "time that guests get to shut down")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *connect, flag.Args(), *backoff, *drain); err != nil {
		fmt.Fprintln(os.Stderr, "orchestrator:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, connect string, args []string, backoff, drain time.Duration) error {
	if len(args) != 1 {
		return fmt.Errorf("want the file of a specification, got %d arguments", len(args))
	}
	spec, err := ReadSpec(args[0])
	if err != nil {
		return err
	}
	conn, err := polyvisor.Open(ctx, connect)
	if err != nil {
		return err
	}
	defer conn.Close()
	o := &Orchestrator{Conn: conn, Spec: spec, Log: slog.Default(), Backoff: backoff, Drain: drain}
	return o.Run(ctx)
}
