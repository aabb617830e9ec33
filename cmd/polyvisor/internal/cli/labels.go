package cli

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/polyvisor/polyvisor"
)

func (a *app) autostartCommand() *cobra.Command {
	var disable bool
	c := a.domainCommand(&cobra.Command{
		Use:   "autostart NAME",
		Short: "Have a domain started with the host",
		Long: `Autostart marks a domain that is defined to be started with the host; with
--disable it takes the mark away.`,
		Example: "  polyvisor autostart web\n  polyvisor autostart --disable web",
	}, "", func(ctx context.Context, dom *polyvisor.Domain) error {
		what := "is started with the host"
		if disable {
			what = "is not started with the host"
		}
		return a.done(dom, what, dom.SetAutostart(ctx, !disable))
	})
	c.Flags().BoolVar(&disable, "disable", false, "do not start it with the host")
	return c
}

func (a *app) renameCommand() *cobra.Command {
	return valueCommand(a, &cobra.Command{
		Use:     "domrename NAME NEW",
		Aliases: []string{"rename"},
		Short:   "Give a domain another name",
		Long:    `Domrename gives an inactive domain another name; its UUID stays.`,
		Example: "  polyvisor domrename web www",
	}, 1, "its new name", polyvisor.OpRename, func(args []string) (string, error) {
		return args[0], polyvisor.CheckName(args[0])
	}, func(ctx context.Context, dom *polyvisor.Domain, name string) error {
		old := dom.Name()
		if err := dom.Rename(ctx, name); err != nil {
			return err
		}
		return a.say("domain %q renamed to %q", old, name)
	})
}

func (a *app) labelsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "labels NAME [KEY=VALUE|KEY-]...",
		Short: "Show or change a domain's labels",
		Long: `Labels shows the labels of a domain. With KEY=VALUE it sets a label and with KEY-
it removes one; the others stay as they are. "polyvisor list --label" and
"polyvisor domstats --label" choose domains by labels.`,
		Example: "  polyvisor labels web\n  polyvisor labels web tier=front owner-",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return wants(1, oneDomain)(cmd, args)
			}
			return nil
		},
		ValidArgsFunction: a.completeDomains(""),
	}
	output := outputFlag(c)
	c.RunE = a.action(func(ctx context.Context, args []string) error {
		set, removed := map[string]string{}, []string{}
		for _, word := range args[1:] {
			key, value, ok := strings.Cut(word, "=")
			switch {
			case ok && key != "":
				set[key] = value
			case !ok && len(word) > 1 && strings.HasSuffix(word, "-"):
				removed = append(removed, strings.TrimSuffix(word, "-"))
			default:
				return usage("labels: %q; want KEY=VALUE, or KEY- to remove a label", word)
			}
		}
		return a.withDomain(ctx, args[0], func(dom *polyvisor.Domain) error {
			labels, err := dom.Labels(ctx)
			if err != nil {
				return err
			}
			if len(args) > 1 {
				labels = maps.Clone(labels)
				if labels == nil {
					labels = make(map[string]string)
				}
				maps.Copy(labels, set)
				for _, key := range removed {
					delete(labels, key)
				}
				return a.done(dom, "labelled", dom.SetLabels(ctx, labels))
			}
			if *output == formatJSON {
				if labels == nil {
					labels = map[string]string{} // {} and not null
				}
				return a.printJSON(labels)
			}
			rows := [][]string{{"LABEL", "VALUE"}}
			for _, key := range slices.Sorted(maps.Keys(labels)) {
				rows = append(rows, []string{key, labels[key]})
			}
			return a.printTable(rows)
		})
	})
	return c
}

// labelFlag gives a command the flag --label, which may be given several times.
func labelFlag(c *cobra.Command) *[]string {
	labels := &[]string{}
	c.Flags().StringArrayVar(labels, "label", nil, "only domains with this label, KEY=VALUE; may be repeated")
	return labels
}

// wantedLabels reads the values of --label.
func wantedLabels(words []string) (map[string]string, error) {
	labels := make(map[string]string)
	for _, word := range words {
		key, value, ok := strings.Cut(word, "=")
		if !ok || key == "" {
			return nil, usage("--label %q; want KEY=VALUE", word)
		}
		labels[key] = value
	}
	return labels, nil
}
