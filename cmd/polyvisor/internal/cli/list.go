package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
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
	var all, inactive bool
	c := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List domains",
		Long: `List shows the active domains; with --inactive those that are defined and do not
run, with --all both. They are sorted by name. A domain that does not answer is
shown with "no state". With --label only those with the label are shown.`,
		Example:           "  polyvisor list\n  polyvisor list --all -o json",
		Args:              wants(0, "no argument"),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	c.Flags().BoolVarP(&all, "all", "a", false, "active and inactive domains")
	c.Flags().BoolVar(&inactive, "inactive", false, "inactive domains")
	c.MarkFlagsMutuallyExclusive("all", "inactive")
	words := labelFlag(c)
	output := outputFlag(c)
	c.RunE = a.action(func(ctx context.Context, _ []string) error {
		labels, err := wantedLabels(*words)
		if err != nil {
			return err
		}
		return a.withConn(ctx, func(conn *polyvisor.Conn) error {
			answers, err := askAll(ctx, conn, polyvisor.DomainFilter{Labels: labels}, answerTime)
			if err != nil {
				return err
			}
			views := make([]domainView, 0, len(answers)) // JSON shows an empty list, not null
			for _, v := range answers {
				if v.err != nil {
					a.note("domain %q does not tell its state: %v", v.Name, v.err)
				}
				if all || inactive == (v.State == polyvisor.Shutoff || v.State == polyvisor.Crashed) {
					views = append(views, v.domainView)
				}
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

const (
	// answerTime is how long a listing waits for one domain. One that hangs
	// does not keep the others from being listed.
	answerTime = 3 * time.Second
	// askAtOnce is how many domains are asked at the same time.
	askAtOnce = 16
)

// answer is what a domain said; its state is NoState if it said nothing.
type answer struct {
	domainView
	err error
}

// askAll asks the domains that the filter selects, sorted by name. Those that
// vanish meanwhile are left out.
func askAll(ctx context.Context, conn *polyvisor.Conn, f polyvisor.DomainFilter, each time.Duration) ([]answer, error) {
	doms, err := conn.Domains(ctx, f)
	if err != nil {
		return nil, err
	}
	answers := make([]answer, len(doms))
	var wg sync.WaitGroup
	turn := make(chan struct{}, askAtOnce)
	for i, dom := range doms {
		wg.Go(func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			bounded, cancel := context.WithTimeout(ctx, each)
			defer cancel()
			v := &answers[i]
			v.domainView, v.err = view(bounded, dom)
			if v.err != nil {
				v.Info = polyvisor.Info{ID: -1}
			}
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(answers, func(v answer) bool { return errors.Is(v.err, polyvisor.ErrNotFound) }), nil
}

func (a *app) infoCommand() *cobra.Command {
	var output *format
	c := a.domainCommand(&cobra.Command{
		Use:     "info NAME",
		Aliases: []string{"dominfo"},
		Short:   "Show the figures of a domain",
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
