package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/polyvisor/polyvisor"
)

// domainView is a domain as JSON shows it. The fields of polyvisor.Info stand
// beside the others.
type domainView struct {
	Name string `json:"name"`
	UUID string `json:"uuid"`
	polyvisor.Info
}

func view(ctx context.Context, dom *polyvisor.Domain) (domainView, error) {
	info, err := dom.Info(ctx)
	return domainView{dom.Name(), dom.UUID().String(), info}, err
}

// id is the ID of an active domain, else "-".
func (v domainView) id() string {
	if v.ID <= 0 {
		return "-"
	}
	return strconv.Itoa(v.ID)
}

func (a *app) listCommand() *cobra.Command {
	var filter polyvisor.DomainFilter
	var all, inactive bool
	c := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List domains",
		Long: `List shows the active domains; with --inactive those that are defined and do not
run, with --all both. They are sorted by name.`,
		Example:           "  polyvisor list\n  polyvisor list --all -o json",
		Args:              wants(0, "no argument"),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	c.Flags().BoolVarP(&all, "all", "a", false, "active and inactive domains")
	c.Flags().BoolVar(&inactive, "inactive", false, "inactive domains")
	c.MarkFlagsMutuallyExclusive("all", "inactive")
	output := outputFlag(c)
	c.RunE = a.action(func(ctx context.Context, _ []string) error {
		filter = polyvisor.DomainFilter{Active: !inactive, Inactive: all || inactive}
		return a.withConn(ctx, func(conn *polyvisor.Conn) error {
			views, err := listViews(ctx, conn, filter)
			if err != nil {
				return err
			}
			if *output == formatJSON {
				return a.printJSON(views)
			}
			rows := [][]string{{"NAME", "ID", "STATE", "VCPUS", "MEMORY"}}
			for _, v := range views {
				rows = append(rows, []string{v.Name, v.id(), v.State.String(), strconv.Itoa(v.VCPUs), v.Memory.String()})
			}
			return a.printTable(rows)
		})
	})
	return c
}

// listViews is never nil, so that JSON shows an empty list. Domains that
// vanish meanwhile are left out.
func listViews(ctx context.Context, conn *polyvisor.Conn, filter polyvisor.DomainFilter) ([]domainView, error) {
	doms, err := conn.Domains(ctx, filter)
	if err != nil {
		return nil, err
	}
	views := make([]domainView, 0, len(doms))
	for _, dom := range doms {
		v, err := view(ctx, dom)
		if errors.Is(err, polyvisor.ErrNotFound) {
			continue
		} else if err != nil {
			return nil, err
		}
		views = append(views, v)
	}
	return views, nil
}

func (a *app) infoCommand() *cobra.Command {
	var output *format
	c := a.domainCommand(&cobra.Command{
		Use:   "info NAME",
		Short: "Show the figures of a domain",
		Long: `Info shows a domain's state, memory, virtual CPUs, the time it has used on the
host's CPUs, and why its last run ended.`,
		Example: "  polyvisor info web\n  polyvisor info web -o json | jq -r .state",
	}, "", func(ctx context.Context, dom *polyvisor.Domain) error {
		v, err := view(ctx, dom)
		if err != nil {
			return err
		}
		if *output == formatJSON {
			return a.printJSON(v)
		}
		rows := [][]string{
			{"Name:", v.Name},
			{"UUID:", v.UUID},
			{"ID:", v.id()},
			{"State:", v.State.String()},
			{"Persistent:", yesNo(v.Persistent)},
			{"vCPUs:", strconv.Itoa(v.VCPUs)},
			{"Memory:", v.Memory.String()},
			{"Max memory:", v.MaxMemory.String()},
			{"CPU time:", v.CPUTime.Round(time.Millisecond).String()},
		}
		if v.LastStop != nil {
			last := v.LastStop.String()
			if t := v.LastStop.Time; !t.IsZero() {
				last += fmt.Sprintf(" (%s)", t.Local().Format(time.RFC3339))
			}
			rows = append(rows, []string{"Last stop:", last})
		}
		return a.printTable(rows)
	})
	output = outputFlag(c)
	return c
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
