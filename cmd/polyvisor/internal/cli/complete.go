package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/polyvisor/polyvisor"
)

// completeTime is how long a shell may be kept waiting for the names.
const completeTime = 700 * time.Millisecond

// completeDomains completes the names of the domains on which op is legal at
// the moment; of all domains if op is empty. It is silent about errors: the
// user gets no completion.
func (a *app) completeDomains(op polyvisor.Op) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx := cmd.Context()
		if ctx == nil {
			ctx = context.Background()
		}
		ctx, cancel := context.WithTimeout(ctx, completeTime)
		defer cancel()
		a.quiet = true
		var names []cobra.Completion
		_ = a.withConn(ctx, func(conn *polyvisor.Conn) error {
			answers, err := askAll(ctx, conn, polyvisor.DomainFilter{}, completeTime/2)
			for _, v := range answers {
				if op == "" || v.State.Allowed(op) {
					names = append(names, cobra.CompletionWithDesc(v.Name, v.State.String()))
				}
			}
			return err
		})
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

func completeURI(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var uris []cobra.Completion
	for _, scheme := range polyvisor.Drivers() {
		uris = append(uris, scheme+":///session", scheme+":///system")
	}
	return uris, cobra.ShellCompDirectiveNoFileComp
}

// completeFile completes one file with one of the given endings.
func completeFile(endings ...string) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return endings, cobra.ShellCompDirectiveFilterFileExt
	}
}

// completeDomainAndFile completes a domain and then a file, with any ending if
// none is given.
func (a *app) completeDomainAndFile(op polyvisor.Op, endings ...string) cobra.CompletionFunc {
	domain := a.completeDomains(op)
	return func(cmd *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
		switch {
		case len(args) != 1:
			return domain(cmd, args, word)
		case len(endings) == 0:
			return nil, cobra.ShellCompDirectiveDefault
		}
		return endings, cobra.ShellCompDirectiveFilterFileExt
	}
}

// explainCompletion gives the commands that cobra makes the examples that it
// leaves out.
func explainCompletion(root *cobra.Command) {
	for _, c := range root.Commands() {
		switch c.Name() {
		case "help":
			c.Example = "  polyvisor help run"
		case "completion":
			c.Example = "  polyvisor completion bash > /etc/bash_completion.d/polyvisor"
			for _, shell := range c.Commands() {
				shell.Example = "  polyvisor completion " + shell.Name()
			}
		}
	}
}

// refuseUnknown makes words that the commands that cobra makes do not know
// errors of usage; cobra shows its help for them and ends well.
func refuseUnknown(root *cobra.Command) {
	for _, c := range root.Commands() {
		switch c.Name() {
		case "help":
			c.Args = func(cmd *cobra.Command, args []string) error {
				if _, rest, err := root.Find(args); err != nil || len(rest) > 0 {
					return usage("help: unknown command %q; \"%s help\" lists the commands", strings.Join(args, " "), root.Name())
				}
				return nil
			}
		case "completion":
			c.Args = func(cmd *cobra.Command, args []string) error {
				if len(args) > 0 {
					return usage("completion: unknown shell %q; want %s", args[0], strings.Join(shells(cmd), ", "))
				}
				return nil
			}
			// cobra looks at Args of commands that run only.
			c.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
			for _, shell := range c.Commands() {
				shell.Args = wants(0, "no argument")
			}
		}
	}
}

func shells(completion *cobra.Command) []string {
	var names []string
	for _, c := range completion.Commands() {
		names = append(names, c.Name())
	}
	return names
}
