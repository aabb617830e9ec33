package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/internal/doctor"
)

func (a *app) doctorCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Show what this host can do, and how to mend what it cannot",
		Long: `Doctor looks at what virtual machines need on this host: the KVM device, its kind
and who may use it, the devices for networks and sockets, huge pages, memory,
the directories for state, and a kernel to boot. Each line is ok, warn (it works
with limits) or missing; what is not ok comes with the way to mend it.

The exit code is 1 if nothing can run, that is if the hypervisor cannot be
opened, and 0 otherwise: whatever else is missing limits some machines only.`,
		Example:           "  polyvisor doctor\n  polyvisor doctor -o json | jq '.checks[] | select(.status != \"ok\")'",
		Args:              wants(0, "no argument"),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	output := outputFlag(c)
	c.RunE = a.action(func(ctx context.Context, _ []string) error {
		report, err := a.examine(ctx)
		if err != nil {
			return err
		}
		if *output == formatJSON {
			err = a.printJSON(report)
		} else {
			err = a.printReport(report)
		}
		if err == nil && !report.Usable {
			err = &exitError{code: exitFailure}
		}
		return err
	})
	return c
}

// KVMDirectories tells the state and run directories of a kvm URI. The program
// that links the driver sets it; without it doctor does not look at them.
var KVMDirectories func(*polyvisor.URI) (state, run string, err error)

// doctorReport is the answer of "polyvisor doctor" in JSON.
type doctorReport struct {
	URI string `json:"uri"`
	// Usable tells that the hypervisor could be opened.
	Usable bool `json:"usable"`
	// Capabilities is what the driver says; absent if it could not be opened.
	Capabilities *polyvisor.Capabilities `json:"capabilities,omitempty"`
	Checks       []doctor.Check          `json:"checks"`
}

func (a *app) examine(ctx context.Context) (*doctorReport, error) {
	u, err := polyvisor.ParseURI(a.connectURI())
	if err != nil {
		return nil, err
	}
	r := &doctorReport{URI: u.String()}
	driver := doctor.Check{Name: "driver", Status: doctor.OK}
	err = a.withConn(ctx, func(conn *polyvisor.Conn) error {
		version, err := conn.Version(ctx)
		if err != nil {
			return err
		}
		caps := conn.Capabilities()
		r.Usable, r.Capabilities = true, &caps
		driver.Detail = fmt.Sprintf("%s, %s, %s guests", conn.Type(), version.Hypervisor, caps.Arch)
		if caps.MaxVCPUs > 0 {
			driver.Detail += fmt.Sprintf(", up to %d vCPUs", caps.MaxVCPUs)
		}
		return nil
	})
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		driver.Status, driver.Detail = doctor.Missing, oneLine(err.Error())
		driver.Fix = "mend what is missing below, or choose another hypervisor with --connect"
	}
	r.Checks = []doctor.Check{driver}
	if u.Scheme == "kvm" && !u.Remote() {
		host := doctor.Host{Device: u.Param("device")}
		if KVMDirectories != nil {
			// What is wrong with them has kept the driver from being opened.
			host.State, host.Run, _ = KVMDirectories(u)
		}
		r.Checks = append(r.Checks, host.Checks()...)
	}
	return r, nil
}

func (a *app) printReport(r *doctorReport) error {
	width := 0
	for _, c := range r.Checks {
		width = max(width, len(c.Name))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", oneLine(r.URI))
	for _, c := range r.Checks {
		fmt.Fprintf(&b, "  %-*s  %-7s  %s\n", width, c.Name, c.Status, oneLine(c.Detail))
		if c.Fix != "" {
			fmt.Fprintf(&b, "  %-*s  %-7s  fix: %s\n", width, "", "", oneLine(c.Fix))
		}
	}
	if r.Usable {
		b.WriteString("virtual machines can run here\n")
	} else {
		b.WriteString("no virtual machine can run here\n")
	}
	return a.write([]byte(b.String()))
}
