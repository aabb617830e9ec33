package cli

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/polyvisor/polyvisor"
)

// hostCommand is a command about the host of the hypervisor.
func (a *app) hostCommand(c *cobra.Command, f func(ctx context.Context, conn *polyvisor.Conn) error) *cobra.Command {
	c.Args = wants(0, "no argument")
	c.ValidArgsFunction = cobra.NoFileCompletions
	c.RunE = a.action(func(ctx context.Context, _ []string) error {
		return a.withConn(ctx, func(conn *polyvisor.Conn) error { return f(ctx, conn) })
	})
	return c
}

func (a *app) nodeInfoCommand() *cobra.Command {
	var output *format
	c := a.hostCommand(&cobra.Command{
		Use:   "nodeinfo",
		Short: "Show the host's processors and memory",
		Long: `Nodeinfo shows the host that the hypervisor runs on: its CPU model, its active
CPUs and their frequency, how they are arranged, and its memory.`,
		Example: "  polyvisor nodeinfo\n  polyvisor nodeinfo -o json | jq .cpus",
	}, func(ctx context.Context, conn *polyvisor.Conn) error {
		n, err := conn.Node(ctx)
		if err != nil {
			return err
		}
		if *output == formatJSON {
			return a.printJSON(n)
		}
		frequency := "-"
		if n.MHz > 0 {
			frequency = strconv.Itoa(n.MHz) + " MHz"
		}
		return a.printTable([][]string{
			{"Hostname:", n.Hostname},
			{"CPU model:", n.Model},
			{"CPUs:", strconv.Itoa(n.CPUs)},
			{"CPU frequency:", frequency},
			{"NUMA cells:", strconv.Itoa(n.NUMANodes)},
			{"Sockets per cell:", strconv.Itoa(n.Sockets)},
			{"Cores per socket:", strconv.Itoa(n.Cores)},
			{"Threads per core:", strconv.Itoa(n.Threads)},
			{"Memory:", n.Memory.String()},
		})
	})
	output = outputFlag(c)
	return c
}

func (a *app) hostnameCommand() *cobra.Command {
	var output *format
	c := a.hostCommand(&cobra.Command{
		Use:     "hostname",
		Short:   "Print the host's name",
		Long:    `Hostname prints the name of the host that the hypervisor runs on.`,
		Example: "  polyvisor hostname\n  polyvisor -c qemu+ssh://root@host/system hostname",
	}, func(ctx context.Context, conn *polyvisor.Conn) error {
		name, err := conn.Hostname(ctx)
		if err != nil {
			return err
		}
		return a.answer(*output, "hostname", name, name)
	})
	output = outputFlag(c)
	return c
}
