package cli

import (
	"context"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/polyvisor/polyvisor"
)

func (a *app) statsCommand() *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "domstats [NAME]...",
		Short: "Show the counters of domains",
		Long: `Domstats shows what domains have used since the start of their runs: of those that
are named, else of all that are active, or with --all of all. The table sums up;
JSON has each virtual CPU, disk and network interface.`,
		Example:           "  polyvisor domstats\n  polyvisor domstats web -o json",
		ValidArgsFunction: a.completeDomains(""),
	}
	c.Flags().BoolVarP(&all, "all", "a", false, "active and inactive domains")
	words := labelFlag(c)
	output := outputFlag(c)
	c.RunE = a.action(func(ctx context.Context, args []string) error {
		labels, err := wantedLabels(*words)
		if err != nil {
			return err
		}
		if len(args) > 0 && (all || len(labels) > 0) {
			return usage("domstats: --all and --label choose among all domains; leave the names out")
		}
		return a.withConn(ctx, func(conn *polyvisor.Conn) error {
			list, err := stats(ctx, conn, args, polyvisor.DomainFilter{Active: !all, Labels: labels})
			if err != nil {
				return err
			}
			if *output == formatJSON {
				return a.printJSON(append([]polyvisor.Stats{}, list...))
			}
			rows := [][]string{{"NAME", "STATE", "VCPUS", "CPU TIME", "MEMORY", "DISK READ", "DISK WRITTEN", "RECEIVED", "SENT"}}
			for _, s := range list {
				var read, written, received, sent polyvisor.Bytes
				for _, d := range s.Disks {
					read, written = read+d.ReadBytes, written+d.WriteBytes
				}
				for _, n := range s.NICs {
					received, sent = received+n.RXBytes, sent+n.TXBytes
				}
				rows = append(rows, []string{s.Name, s.Info.State.String(), strconv.Itoa(s.Info.VCPUs), s.Info.CPUTime.Round(time.Millisecond).String(),
					s.Info.Memory.String(), read.String(), written.String(), received.String(), sent.String()})
			}
			return a.printTable(rows)
		})
	})
	return c
}

// stats gives the counters of the domains that are named, else of those that
// the filter selects.
func stats(ctx context.Context, conn *polyvisor.Conn, names []string, f polyvisor.DomainFilter) ([]polyvisor.Stats, error) {
	if len(names) == 0 {
		return conn.Stats(ctx, f)
	}
	var list []polyvisor.Stats
	for _, name := range names {
		if err := polyvisor.CheckName(name); err != nil {
			return nil, usage("domain name: %w", err)
		}
		dom, err := find(ctx, conn, name)
		if err != nil {
			return nil, err
		}
		s, err := dom.Stats(ctx)
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}
