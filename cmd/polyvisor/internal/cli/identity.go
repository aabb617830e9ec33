package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/polyvisor/polyvisor"
)

// answer prints one value: alone on a line, or as the only field of an object.
func (a *app) answer(f format, field, text string, value any) error {
	if f == formatJSON {
		return a.printJSON(map[string]any{field: value})
	}
	return a.say("%s", text)
}

// factCommand is a command that prints one value that a domain has.
func (a *app) factCommand(c *cobra.Command, print func(ctx context.Context, dom *polyvisor.Domain, f format) error) *cobra.Command {
	var output *format
	c = a.domainCommand(c, "", func(ctx context.Context, dom *polyvisor.Domain) error { return print(ctx, dom, *output) })
	output = outputFlag(c)
	return c
}

func (a *app) domIDCommand() *cobra.Command {
	return a.factCommand(&cobra.Command{
		Use:   "domid NAME",
		Short: "Print a domain's ID",
		Long: `Domid prints the ID that a domain has while it is active; of an inactive one it
prints "-", in JSON -1.`,
		Example: "  polyvisor domid web",
	}, func(ctx context.Context, dom *polyvisor.Domain, f format) error {
		v, err := view(ctx, dom)
		if err != nil {
			return err
		}
		return a.answer(f, "id", v.id(), v.ID)
	})
}

func (a *app) domUUIDCommand() *cobra.Command {
	return a.factCommand(&cobra.Command{
		Use:     "domuuid NAME",
		Short:   "Print a domain's UUID",
		Long:    `Domuuid prints the UUID of a domain, which stays when its name changes.`,
		Example: "  polyvisor domuuid web",
	}, func(_ context.Context, dom *polyvisor.Domain, f format) error {
		id := dom.UUID().String()
		return a.answer(f, "uuid", id, id)
	})
}

func (a *app) domNameCommand() *cobra.Command {
	return a.factCommand(&cobra.Command{
		Use:   "domname NAME",
		Short: "Print the name of the domain with a UUID or an ID",
		Long: `Domname prints the name of a domain, which is of use where the domain is named by
its UUID or its ID.`,
		Example: "  polyvisor domname 1\n  polyvisor domname 1b4e28ba-2fa1-11d2-883f-0016d3cca427",
	}, func(_ context.Context, dom *polyvisor.Domain, f format) error {
		return a.answer(f, "name", dom.Name(), dom.Name())
	})
}

func (a *app) domStateCommand() *cobra.Command {
	return a.factCommand(&cobra.Command{
		Use:   "domstate NAME",
		Short: "Print a domain's state",
		Long: `Domstate prints the state of a domain: running, blocked, paused, in shutdown,
shutoff, crashed, or no state if the hypervisor does not know it. "polyvisor
info" tells why its last run ended.`,
		Example: "  polyvisor domstate web",
	}, func(ctx context.Context, dom *polyvisor.Domain, f format) error {
		s, err := dom.State(ctx)
		if err != nil {
			return err
		}
		return a.answer(f, "state", s.String(), s)
	})
}
