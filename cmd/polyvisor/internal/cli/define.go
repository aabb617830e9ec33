package cli

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/polyvisor/polyvisor"
)

func (a *app) defineCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "define FILE|-",
		Short: "Store the definition of a domain",
		Long: `Define stores a domain without starting it. FILE holds its configuration in JSON,
as "polyvisor config" prints it, or libvirt domain XML, as "polyvisor dumpxml"
prints it; "-" is standard input. Only the name is required: a domain that says
no more runs the built-in guest. In JSON a field that is not known or is given
twice is an error, and relative paths count from the directory of the file, or
from the working directory for standard input. XML is passed on as it is, and
names files by absolute paths.

If a domain with the same name and UUID exists its definition is replaced,
which it notices at its next start.`,
		Example:           "  polyvisor define web.json\n  polyvisor define web.xml\n  echo '{\"name\": \"tiny\"}' | polyvisor define -",
		Args:              wants(1, "a file with a configuration in JSON or XML, or - for standard input"),
		ValidArgsFunction: completeFile("json", "xml"),
		RunE: a.action(func(ctx context.Context, args []string) error {
			in, err := a.readInput(args[0])
			if err != nil {
				return err
			}
			if in.isXML() {
				return a.withConn(ctx, func(conn *polyvisor.Conn) error {
					dom, err := conn.DefineXML(ctx, in.text)
					return a.made(dom, "defined", err)
				})
			}
			config, err := in.config()
			if err != nil {
				return err
			}
			return a.withConn(ctx, func(conn *polyvisor.Conn) error {
				dom, err := conn.Define(ctx, config)
				return a.made(dom, "defined", err)
			})
		}),
	}
}

func (a *app) createCommand() *cobra.Command {
	var paused bool
	c := &cobra.Command{
		Use:   "create FILE|-",
		Short: "Start a transient domain from a file",
		Long: `Create starts a domain that is gone when it stops. FILE holds its configuration
in JSON or libvirt domain XML, as for "polyvisor define"; "-" is standard input.
With --paused its virtual CPUs do not execute anything until "polyvisor resume".

"polyvisor run" takes settings as flags and attaches to the console, too.`,
		Example:           "  polyvisor create web.xml\n  echo '{\"name\": \"tiny\"}' | polyvisor create --paused -",
		Args:              wants(1, "a file with a configuration in JSON or XML, or - for standard input"),
		ValidArgsFunction: completeFile("json", "xml"),
	}
	c.Flags().BoolVar(&paused, "paused", false, "leave it paused before its first instruction")
	c.RunE = a.action(func(ctx context.Context, args []string) error {
		in, err := a.readInput(args[0])
		if err != nil {
			return err
		}
		opts := startOptions(paused)
		if in.isXML() {
			return a.withConn(ctx, func(conn *polyvisor.Conn) error {
				dom, err := conn.CreateXML(ctx, in.text, opts...)
				return a.made(dom, "created", err)
			})
		}
		config, err := in.config()
		if err != nil {
			return err
		}
		return a.withConn(ctx, func(conn *polyvisor.Conn) error {
			dom, err := conn.Create(ctx, config, opts...)
			return a.made(dom, "created", err)
		})
	})
	return c
}

// startOptions are those of a flag --paused.
func startOptions(paused bool) []polyvisor.StartOption {
	if !paused {
		return nil
	}
	return []polyvisor.StartOption{polyvisor.StartPaused()}
}

// made says which domain was made, if one was.
func (a *app) made(dom *polyvisor.Domain, what string, err error) error {
	if err != nil {
		return err
	}
	return a.done(dom, what, nil)
}

func (a *app) undefineCommand() *cobra.Command {
	var destroy bool
	c := a.domainCommand(&cobra.Command{
		Use:   "undefine NAME",
		Short: "Remove the definition of a domain",
		Long: `Undefine removes a domain's definition. A domain that runs goes on and is gone
when it stops; with --destroy it is stopped first, like pulling the plug.`,
		Example: "  polyvisor undefine web\n  polyvisor undefine --destroy web",
	}, polyvisor.OpUndefine, func(ctx context.Context, dom *polyvisor.Domain) error {
		if destroy {
			err := dom.Remove(ctx)
			if errors.Is(err, polyvisor.ErrNotFound) {
				err = nil // a transient domain is gone with its run
			}
			return a.done(dom, "removed", err)
		}
		return a.done(dom, "undefined", dom.Undefine(ctx))
	})
	c.Flags().BoolVar(&destroy, "destroy", false, "stop the domain first if it is active")
	return c
}

func (a *app) dumpXMLCommand() *cobra.Command {
	return a.domainCommand(&cobra.Command{
		Use:   "dumpxml NAME",
		Short: "Print a domain in libvirt domain XML",
		Long: `Dumpxml prints a domain in libvirt domain XML, in the form that "polyvisor define"
and "polyvisor create" read. Of an active domain it is the one that it runs with.
What libvirt has no element for stands in its metadata.`,
		Example: "  polyvisor dumpxml web > web.xml",
	}, "", func(ctx context.Context, dom *polyvisor.Domain) error {
		text, err := dom.XML(ctx)
		if err != nil {
			return err
		}
		if !strings.HasSuffix(text, "\n") {
			text += "\n"
		}
		return a.write([]byte(text))
	})
}

func (a *app) configCommand() *cobra.Command {
	return a.domainCommand(&cobra.Command{
		Use:     "config NAME",
		Aliases: []string{"dumpconfig"},
		Short:   "Print the configuration of a domain",
		Long: `Config prints a domain's configuration in JSON, with all defaults filled in, in
the form that "polyvisor define" reads. Of an active domain it is the one that
it runs with.`,
		Example: "  polyvisor config web > web.json",
	}, "", func(ctx context.Context, dom *polyvisor.Domain) error {
		config, err := dom.Config(ctx)
		if err != nil {
			return err
		}
		return a.printJSON(config)
	})
}
