package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/polyvisor/polyvisor"
)

// valueCommand is a command about one domain with further arguments, which
// parse checks before anything is connected to.
func valueCommand[T any](a *app, c *cobra.Command, args int, what string, op polyvisor.Op, parse func(args []string) (T, error),
	f func(ctx context.Context, dom *polyvisor.Domain, v T) error) *cobra.Command {
	c.Args = wants(1+args, "a domain and "+what)
	c.ValidArgsFunction = a.completeDomains(op)
	c.RunE = a.action(func(ctx context.Context, args []string) error {
		v, err := parse(args[1:])
		if err != nil {
			return usage("%s: %w", c.Name(), err)
		}
		return a.withDomain(ctx, args[0], func(dom *polyvisor.Domain) error { return f(ctx, dom, v) })
	})
	return c
}

func parseSize(args []string) (polyvisor.Bytes, error) {
	if args[0] == "0" {
		return 0, nil
	}
	var s size
	err := s.Set(args[0])
	return polyvisor.Bytes(s), err
}

func parseNumber(args []string) (int, error) {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return 0, fmt.Errorf("%q is not a number", args[0])
	}
	return n, nil
}

func (a *app) setMemoryCommand() *cobra.Command {
	return valueCommand(a, &cobra.Command{
		Use:   "setmem NAME SIZE",
		Short: "Change a domain's memory",
		Long: `Setmem changes the memory of a domain, up to its maximum: of an inactive domain
in its definition; the guest of an active one is asked to give memory back or to
take some, and "polyvisor info" shows how far it has come. SIZE has a unit, such
as 512MiB or 4GiB. 0 takes an inactive domain's memory away; it cannot start then.`,
		Example: "  polyvisor setmem web 512MiB",
	}, 1, "a size", "", parseSize, func(ctx context.Context, dom *polyvisor.Domain, n polyvisor.Bytes) error {
		return a.done(dom, "has its memory set to "+n.String(), dom.SetMemory(ctx, n))
	})
}

func (a *app) setMaxMemoryCommand() *cobra.Command {
	return valueCommand(a, &cobra.Command{
		Use:   "setmaxmem NAME SIZE",
		Short: "Change the most memory that a domain can have",
		Long: `Setmaxmem changes the most memory that an inactive domain can be given. Its
memory is lowered to it if it has more. SIZE has a unit, such as 4GiB.`,
		Example: "  polyvisor setmaxmem web 4GiB",
	}, 1, "a size", polyvisor.OpSetMaxMemory, parseSize, func(ctx context.Context, dom *polyvisor.Domain, n polyvisor.Bytes) error {
		return a.done(dom, "has its maximum of memory set to "+n.String(), dom.SetMaxMemory(ctx, n))
	})
}

func (a *app) setVCPUsCommand() *cobra.Command {
	return valueCommand(a, &cobra.Command{
		Use:   "setvcpus NAME COUNT",
		Short: "Change the number of a domain's virtual CPUs",
		Long: `Setvcpus changes the number of virtual CPUs: of an inactive domain in its
definition, of an active one in the running guest, up to the maximum that it was
started with.`,
		Example: "  polyvisor setvcpus web 4",
	}, 1, "a number", "", parseNumber, func(ctx context.Context, dom *polyvisor.Domain, n int) error {
		return a.done(dom, "has its vCPUs set to "+strconv.Itoa(n), dom.SetVCPUs(ctx, n))
	})
}

func (a *app) vcpuInfoCommand() *cobra.Command {
	var output *format
	c := a.domainCommand(&cobra.Command{
		Use:   "vcpuinfo NAME",
		Short: "Show a domain's virtual CPUs",
		Long: `Vcpuinfo shows each virtual CPU of a domain: its state, the time it has used, the
host's CPU that it runs on, and those that it may run on.`,
		Example: "  polyvisor vcpuinfo web\n  polyvisor vcpuinfo web -o json",
	}, "", func(ctx context.Context, dom *polyvisor.Domain) error {
		list, err := dom.VCPUs(ctx)
		if err != nil {
			return err
		}
		if *output == formatJSON {
			return a.printJSON(append([]polyvisor.VCPU{}, list...))
		}
		rows := [][]string{{"VCPU", "STATE", "CPU TIME", "CPU", "AFFINITY"}}
		for _, v := range list {
			cpu, affinity := "-", v.Affinity.String()
			if v.CPU >= 0 {
				cpu = strconv.Itoa(v.CPU)
			}
			if v.Affinity.IsZero() {
				affinity = "all"
			}
			rows = append(rows, []string{strconv.Itoa(v.Number), v.State.String(), v.CPUTime.Round(time.Millisecond).String(), cpu, affinity})
		}
		return a.printTable(rows)
	})
	output = outputFlag(c)
	return c
}

// pin is what vcpupin is asked for.
type pin struct {
	vcpu int
	cpus polyvisor.CPUSet
}

func (a *app) vcpuPinCommand() *cobra.Command {
	return valueCommand(a, &cobra.Command{
		Use:   "vcpupin NAME VCPU CPULIST",
		Short: "Bind a virtual CPU to CPUs of the host",
		Long: `Vcpupin binds a virtual CPU, which is counted from 0, to CPUs of the host: for the
rest of an active domain's run, or in the definition of an inactive one. CPULIST
has numbers and ranges, and with ^ those that are left out, as in 0-3,^2,8.`,
		Example: "  polyvisor vcpupin web 0 2\n  polyvisor vcpupin web 1 0-3,^2",
	}, 2, "the number of a vCPU and a list of CPUs", "", func(args []string) (p pin, err error) {
		if p.vcpu, err = parseNumber(args); err == nil {
			p.cpus, err = polyvisor.ParseCPUSet(args[1])
		}
		return p, err
	}, func(ctx context.Context, dom *polyvisor.Domain, p pin) error {
		return a.done(dom, "has vCPU "+strconv.Itoa(p.vcpu)+" bound to CPUs "+p.cpus.String(), dom.PinVCPU(ctx, p.vcpu, p.cpus))
	})
}

func (a *app) vcpuConfigCommand() *cobra.Command {
	var weight int
	var cpus string
	c := &cobra.Command{
		Use:   "vcpuconfig NAME VCPU",
		Short: "Change the settings of a virtual CPU",
		Long: `Vcpuconfig changes the settings of one virtual CPU, which is counted from 0: for
the rest of an active domain's run, or in the definition of an inactive one. What
no flag names stays as it is.`,
		Example:           "  polyvisor vcpuconfig web 0 --weight 200\n  polyvisor vcpuconfig web 0 --affinity 0-3",
		Args:              wants(2, "a domain and the number of a vCPU"),
		ValidArgsFunction: a.completeDomains(""),
	}
	c.Flags().IntVar(&weight, "weight", 0, "share of the host's CPU time relative to others', 1 to 10000; 0 leaves it to the host")
	c.Flags().StringVar(&cpus, "affinity", "", "CPUs of the host that it may run on, such as 0-3,^2; \"\" means all")
	c.RunE = a.action(func(ctx context.Context, args []string) error {
		number, err := parseNumber(args[1:])
		if err != nil {
			return usage("vcpuconfig: %w", err)
		}
		set, err := polyvisor.ParseCPUSet(cpus)
		if err != nil {
			return usage("--affinity: %w", err)
		}
		if !c.Flags().Changed("weight") && !c.Flags().Changed("affinity") {
			return usage("vcpuconfig: nothing to change; give --weight or --affinity")
		}
		return a.withDomain(ctx, args[0], func(dom *polyvisor.Domain) error {
			config, err := dom.Config(ctx)
			if err != nil {
				return err
			}
			v := polyvisor.VCPUConfig{Number: number}
			if i := slices.IndexFunc(config.VCPU, func(v polyvisor.VCPUConfig) bool { return v.Number == number }); i >= 0 {
				v = config.VCPU[i]
			}
			if c.Flags().Changed("weight") {
				v.Weight = weight
			}
			if c.Flags().Changed("affinity") {
				v.Affinity = set
			}
			return a.done(dom, "has vCPU "+strconv.Itoa(number)+" configured", dom.ConfigureVCPU(ctx, v))
		})
	})
	return c
}
