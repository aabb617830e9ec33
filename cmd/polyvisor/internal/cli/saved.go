package cli

import (
	"context"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/polyvisor/polyvisor"
)

// domainFileCommand is a command about one domain and one file, whose path it
// gives as an absolute one: the hypervisor has another working directory.
func (a *app) domainFileCommand(c *cobra.Command, op polyvisor.Op, f func(ctx context.Context, dom *polyvisor.Domain, path string) error) *cobra.Command {
	c.Args = wants(2, "a domain and a file")
	c.ValidArgsFunction = a.completeDomainAndFile(op)
	c.RunE = a.action(func(ctx context.Context, args []string) error {
		path, err := filepath.Abs(args[1])
		if err != nil {
			return err
		}
		return a.withDomain(ctx, args[0], func(dom *polyvisor.Domain) error { return f(ctx, dom, path) })
	})
	return c
}

func (a *app) saveCommand() *cobra.Command {
	return a.domainFileCommand(&cobra.Command{
		Use:   "save NAME FILE",
		Short: "Stop a domain and write its run to a file",
		Long: `Save stops an active domain and writes its memory and the state of its devices to
a new file, on the host of the hypervisor. "polyvisor restore" continues it from
there. If it fails the domain goes on as before.`,
		Example: "  polyvisor save web /var/tmp/web.saved",
	}, polyvisor.OpSave, func(ctx context.Context, dom *polyvisor.Domain, path string) error {
		return a.done(dom, "saved to "+path, dom.Save(ctx, path))
	})
}

func (a *app) restoreCommand() *cobra.Command {
	var paused bool
	c := &cobra.Command{
		Use:   "restore FILE",
		Short: "Continue a domain that was saved",
		Long: `Restore continues a domain that "polyvisor save" wrote to a file, with its name
and UUID. The file stays. With --paused its virtual CPUs do not go on until
"polyvisor resume".`,
		Example: "  polyvisor restore /var/tmp/web.saved",
		Args:    wants(1, "a file that \"polyvisor save\" wrote"),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveDefault
		},
	}
	c.Flags().BoolVar(&paused, "paused", false, "leave it paused where it was saved")
	c.RunE = a.action(func(ctx context.Context, args []string) error {
		path, err := filepath.Abs(args[0])
		if err != nil {
			return err
		}
		return a.withConn(ctx, func(conn *polyvisor.Conn) error {
			dom, err := conn.Restore(ctx, path, startOptions(paused)...)
			return a.made(dom, "restored", err)
		})
	})
	return c
}

func (a *app) dumpCommand() *cobra.Command {
	return a.domainFileCommand(&cobra.Command{
		Use:   "dump NAME FILE",
		Short: "Write a domain's memory to a file for analysis",
		Long: `Dump writes the memory and the processor state of an active domain to a new file,
on the host of the hypervisor, for debuggers. The guest is stopped meanwhile and
goes on afterwards.`,
		Example: "  polyvisor dump web /var/tmp/web.core",
	}, polyvisor.OpCoreDump, func(ctx context.Context, dom *polyvisor.Domain, path string) error {
		return a.done(dom, "dumped to "+path, dom.CoreDump(ctx, path))
	})
}
