package dial

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/uri"
)

// idleTime is after how many seconds without a client a session daemon ends, as
// libvirt's own client has it.
const idleTime = "120"

// mayStart reports whether a session daemon may be started, by the rules of
// libvirt's own client: for a user's session, not for root, not for a socket that
// the URI names, and not with LIBVIRT_AUTOSTART=0.
func (d *dialer) mayStart() bool {
	return d.StartDaemon && d.Session() && d.Env.EUID > 0 && d.Socket == "" && d.Env.Getenv("LIBVIRT_AUTOSTART") != "0"
}

// startDaemon starts the session daemon of the user and returns when it is ready.
// It goes to the background and outlives this process: others use it, too.
func (d *dialer) startDaemon(ctx context.Context) error {
	program, err := d.daemonProgram()
	if err != nil {
		return err
	}
	d.enter("starting " + program)
	var said tail
	// With --daemon it returns once its sockets are there, or with an error.
	cmd := exec.CommandContext(ctx, program, "--daemon", "--timeout", idleTime)
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.WaitDelay = orphanWait
	if err := cmd.Run(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return fail(ErrUnreachable, "%s cannot be started: %s: %w", program, said.String(), err)
	}
	return nil
}

// daemonProgram finds the daemon that serves the target.
func (d *dialer) daemonProgram() (string, error) {
	for _, variable := range []string{"VIRTD_PATH", "LIBVIRTD_PATH"} {
		if program := d.Env.Getenv(variable); program != "" {
			return program, nil
		}
	}
	var names []string
	for _, socket := range d.SocketNames(true, false) {
		name := socket[:len(socket)-len("-sock")]
		if name == "libvirt" {
			name = "libvirtd"
		}
		names = append(names, name)
	}
	if d.Mode == "" || d.Mode == uri.ModeAuto {
		slices.Reverse(names) // one for all hypervisors is better if both are there
	}
	dirs := append(filepath.SplitList(d.Env.Getenv("PATH")), "/usr/sbin", "/usr/local/sbin")
	for _, name := range names {
		for _, dir := range dirs {
			if !filepath.IsAbs(dir) {
				continue
			}
			if program, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
				return program, nil
			}
		}
	}
	return "", fail(ErrUnreachable, "no daemon runs for this user, and no program %v to start is found; install libvirt", names)
}
