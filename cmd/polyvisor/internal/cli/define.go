package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/polyvisor/polyvisor"
)

// maxConfig bounds a Config file in bytes, so that a wrong file (a disk, an
// endless device) is refused instead of being read into memory.
const maxConfig = 1 << 20

func (a *app) defineCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "define FILE.json|-",
		Short: "Store the definition of a domain",
		Long: `Define stores a domain without starting it. FILE holds its configuration in JSON,
as "polyvisor config" prints it; "-" is standard input. Only the name is
required: a domain that says no more runs the built-in guest. A field that is
not known is an error. Relative paths in the file count from its directory, or
from the working directory for standard input.

If a domain with the same name and UUID exists its definition is replaced,
which it notices at its next start.`,
		Example:           "  polyvisor define web.json\n  echo '{\"name\": \"tiny\"}' | polyvisor define -",
		Args:              wants(1, "a file with a configuration in JSON, or - for standard input"),
		ValidArgsFunction: completeFile("json"),
		RunE: a.action(func(ctx context.Context, args []string) error {
			config, err := a.readConfig(args[0])
			if err != nil {
				return err
			}
			return a.withConn(ctx, func(conn *polyvisor.Conn) error {
				dom, err := conn.Define(ctx, config)
				if err != nil {
					return err
				}
				return a.say("domain %q defined", dom.Name())
			})
		}),
	}
}

// readConfig reads a Config from a file or, for "-", from standard input.
func (a *app) readConfig(name string) (*polyvisor.Config, error) {
	in, dir := a.stdin, "."
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("configuration: %w", err)
		}
		defer f.Close()
		in, dir = f, filepath.Dir(name)
	}
	data, err := io.ReadAll(io.LimitReader(in, maxConfig+1))
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w", name, err)
	}
	if len(data) > maxConfig {
		return nil, fmt.Errorf("configuration %s: more than %s; is it the right file?", name, polyvisor.Bytes(maxConfig))
	}
	config, err := polyvisor.ParseConfig(data)
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w", name, err)
	}
	if err := absolute(config, dir); err != nil {
		return nil, fmt.Errorf("configuration %s: %w", name, err)
	}
	return config, nil
}

// absolute makes the paths of a configuration independent of the working
// directory, which a domain does not keep: relative ones count from dir.
func absolute(c *polyvisor.Config, dir string) error {
	for _, p := range []*string{&c.Boot.Kernel.Path, &c.Boot.Initrd.Path, &c.Console.Log} {
		if *p == "" || filepath.IsAbs(*p) {
			continue
		}
		abs, err := filepath.Abs(filepath.Join(dir, *p))
		if err != nil {
			return err
		}
		*p = abs
	}
	return nil
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
