package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/conformance"
)

// Harnesses completes the harness for the hypervisor of a URI, by the scheme of
// the URI. The program that knows the drivers sets it.
var Harnesses = map[string]func(u *polyvisor.URI, h *conformance.Harness){}

// conformanceView is the answer of "polyvisor conformance" in JSON.
type conformanceView struct {
	URI     string            `json:"uri"`
	Cases   []conformanceCase `json:"cases"`
	Passed  int               `json:"passed"`
	Failed  int               `json:"failed"`
	Skipped int               `json:"skipped"`
}

type conformanceCase struct {
	conformance.Result
	Seconds float64 `json:"seconds"`
}

func (a *app) conformanceCommand() *cobra.Command {
	var asJSON bool
	var run, config string
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "conformance URI",
		Short: "Test a hypervisor's driver against the rules for drivers",
		Long: `Conformance runs the cases of the conformance suite against the hypervisor of the
URI and prints a line for each, with the reason of failures and skips. A case is
skipped only if the driver does not declare a feature that it needs.

The suite makes domains whose names begin with ` + conformance.Prefix + ` and removes them; it
does not begin if there are such domains already. It runs the driver's built-in
guest, or the guest of --config.`,
		Example: "  polyvisor conformance fake:///default\n  polyvisor conformance kvm:///session --run '^life/'\n  polyvisor conformance fake:///default --json | jq .failed",
		Args:    wants(1, "the URI of a hypervisor"),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return completeURI(cmd, args, word)
		},
	}
	f := c.Flags()
	f.BoolVar(&asJSON, "json", false, "print JSON; the names of its fields are in docs/cli.md")
	f.StringVar(&run, "run", "", "run the cases whose names match this regular expression")
	f.StringVar(&config, "config", "", "JSON configuration of a small guest that runs until it is stopped")
	f.DurationVar(&timeout, "timeout", conformance.DefaultTimeout, "time limit of a case")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		only, err := regexp.Compile(run)
		if err != nil {
			return usage("--run: %w", err)
		}
		if a.readOnly {
			return usage("the suite makes and changes domains; leave --readonly out")
		}
		if a.early != "" {
			return usage("the suite defines domains; leave --early out")
		}
		if timeout <= 0 {
			return usage("--timeout %s: want more than nothing", timeout)
		}
		a.ran = true
		a.uri = args[0]
		h, err := a.conformanceHarness(cmd.Context(), config)
		if err != nil {
			return err
		}
		h.Timeout = timeout
		err = a.conformance(cmd.Context(), h, only, asJSON)
		if h.Close != nil {
			err = errors.Join(err, h.Close())
		}
		return err
	}
	return c
}

// conformanceHarness is a harness for the URI.
func (a *app) conformanceHarness(ctx context.Context, config string) (conformance.Harness, error) {
	h := conformance.Harness{Open: func(ctx context.Context, opts ...polyvisor.Option) (*polyvisor.Conn, error) {
		return polyvisor.Open(ctx, a.uri, append(opts, polyvisor.WithLogger(a.logger()))...)
	}}
	if config != "" {
		text, err := os.ReadFile(config)
		if err != nil {
			return h, err
		}
		h.Config, err = polyvisor.ParseConfig(text)
		return h, err
	}
	conn, err := h.Open(ctx)
	if err != nil {
		return h, err
	}
	if conn.Capabilities().Has(polyvisor.FeatureBuiltinGuest) {
		h.Guest = conformance.BuiltinGuest()
	}
	u, err := polyvisor.ParseURI(conn.URI())
	if err := errors.Join(err, conn.Close()); err != nil {
		return h, err
	}
	if complete := Harnesses[u.Scheme]; complete != nil {
		complete(u, &h)
	}
	return h, nil
}

func (a *app) conformance(ctx context.Context, h conformance.Harness, only *regexp.Regexp, asJSON bool) error {
	v := conformanceView{URI: a.uri, Cases: []conformanceCase{}}
	var lost error
	conformance.Check(ctx, h,
		conformance.Only(func(c conformance.Case) bool { return only.MatchString(c.Name) }),
		conformance.Progress(func(r conformance.Result) {
			v.Cases = append(v.Cases, conformanceCase{r, r.Time.Seconds()})
			switch r.Status {
			case conformance.Passed:
				v.Passed++
			case conformance.Failed:
				v.Failed++
			case conformance.Skipped:
				v.Skipped++
			}
			if !asJSON && lost == nil {
				lost = a.sayCase(r)
			}
		}))
	switch {
	case lost != nil:
		return lost
	case ctx.Err() != nil:
		return ctx.Err()
	case len(v.Cases) == 0:
		return usage("--run %s: no case has such a name", only)
	}
	if asJSON {
		lost = a.printJSON(v)
	} else {
		lost = a.say("%d cases run on %s: %d passed, %d failed, %d skipped", len(v.Cases), v.URI, v.Passed, v.Failed, v.Skipped)
	}
	if lost == nil && v.Failed > 0 {
		return &exitError{code: exitFailure, err: fmt.Errorf("%d of %d cases failed", v.Failed, len(v.Cases))}
	}
	return lost
}

// sayCase prints a line for a case, and the whole reason of a failure.
func (a *app) sayCase(r conformance.Result) error {
	text := fmt.Sprintf("%-7s  %-32s %8.3fs", r.Status, r.Name, r.Time.Seconds())
	if r.Status == conformance.Skipped {
		text += "  " + oneLine(r.Reason)
	}
	if r.Status == conformance.Failed {
		for line := range strings.SplitSeq(r.Reason, "\n") {
			text += "\n         " + oneLine(strings.ReplaceAll(line, "\t", "  "))
		}
	}
	return a.write([]byte(text + "\n"))
}
