package cli

import (
	"context"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/polyvisor/polyvisor"
)

func (a *app) uriCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "uri",
		Short: "Print the connection URI that is used",
		Long: `Uri prints the URI of the hypervisor that the other commands connect to, without
connecting: that of --connect, else that of the environment variable
POLYVISOR_URI, else kvm:///system for root and kvm:///session for others.`,
		Example:           "  polyvisor uri\n  POLYVISOR_URI=kvm:///session polyvisor uri",
		Args:              wants(0, "no argument"),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: a.action(func(context.Context, []string) error {
			u, err := polyvisor.ParseURI(a.connectURI())
			if err != nil {
				return err
			}
			return a.say("%s", u)
		}),
	}
}

// versionView is the answer of "polyvisor version" in JSON.
type versionView struct {
	Library    string   `json:"library"`
	Go         string   `json:"go"`
	Platform   string   `json:"platform"`
	Drivers    []string `json:"drivers"`
	URI        string   `json:"uri"`
	Hypervisor string   `json:"hypervisor,omitempty"`
	// Error says why the hypervisor could not be asked.
	Error string `json:"error,omitempty"`
}

func (a *app) versionCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "version",
		Short: "Print the versions of the program and the hypervisor",
		Long: `Version prints the versions of this program and of the hypervisor. That the
hypervisor cannot be asked is printed, too, and is not a failure of the command.`,
		Example:           "  polyvisor version\n  polyvisor version -o json",
		Args:              wants(0, "no argument"),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	output := outputFlag(c)
	c.RunE = a.action(func(ctx context.Context, _ []string) error {
		v := versionView{
			Library: polyvisor.LibraryVersion, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
			Drivers: polyvisor.Drivers(), URI: a.connectURI(),
		}
		if u, err := polyvisor.ParseURI(v.URI); err == nil {
			v.URI = u.String()
		}
		err := a.withConn(ctx, func(conn *polyvisor.Conn) error {
			version, err := conn.Version(ctx)
			v.Hypervisor = version.Hypervisor
			return err
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		hypervisor := v.Hypervisor
		if err != nil {
			v.Error = oneLine(err.Error())
			hypervisor = "cannot be asked: " + v.Error
		}
		if *output == formatJSON {
			return a.printJSON(v)
		}
		return a.printTable([][]string{
			{"polyvisor:", v.Library + " (" + v.Go + ", " + v.Platform + ")"},
			{"connection:", v.URI},
			{"hypervisor:", hypervisor},
		})
	})
	return c
}
