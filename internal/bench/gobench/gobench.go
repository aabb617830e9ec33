// Package gobench runs benchmarks of this module and collects what they report: those that know the insides of a package are beside
// it, and what they say is for internal/bench to judge.
package gobench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// Plan is which benchmarks to run.
type Plan struct {
	Package string
	Bench   string // regular expression
	Count   int    // results of each
	Time    string // of one result, as for -benchtime
}

// Results are the values by benchmark, without the suffix for the number of processors, and unit.
type Results map[string]map[string][]float64

// ErrNothing says that a plan had no result.
var ErrNothing = errors.New("no benchmark ran")

// Run runs a plan with the go command, in the module of the working directory.
func Run(ctx context.Context, p Plan) (Results, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", p.Bench, "-count", strconv.Itoa(p.Count), "-benchtime", p.Time, p.Package)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("go test -bench %s %s: %w: %s", p.Bench, p.Package, err, tail(out.String()+errs.String()))
	}
	r := parse(out.String())
	if len(r) == 0 {
		return nil, fmt.Errorf("%s in %s: %w: %s", p.Bench, p.Package, ErrNothing, tail(out.String()))
	}
	return r, nil
}

func tail(s string) string {
	const most = 2000
	return strings.TrimSpace(s[max(0, len(s)-most):])
}

// parse reads lines such as "BenchmarkX/y-2  100  12.5 ns/op  3 things": a name, the number of turns, and values with units.
func parse(out string) Results {
	r := Results{}
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) < 4 || len(f)%2 != 0 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		name := f[0]
		if i := strings.LastIndexByte(name, '-'); i > 0 {
			if _, err := strconv.Atoi(name[i+1:]); err == nil {
				name = name[:i]
			}
		}
		if r[name] == nil {
			r[name] = map[string][]float64{}
		}
		for i := 2; i < len(f); i += 2 {
			if v, err := strconv.ParseFloat(f[i], 64); err == nil {
				r[name][f[i+1]] = append(r[name][f[i+1]], v)
			}
		}
	}
	return r
}
