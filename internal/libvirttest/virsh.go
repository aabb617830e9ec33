package libvirttest

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// virshLimit bounds one run of virsh; it is no expectation.
const virshLimit = 2 * time.Minute

// Virsh runs libvirt's own client on a hypervisor of the daemon, by its unix socket, and returns what it prints. The
// test fails if virsh does.
func (d *Daemon) Virsh(t testing.TB, hypervisor string, args ...string) string {
	t.Helper()
	out, err := d.TryVirsh(context.WithoutCancel(t.Context()), d.URI(hypervisor, Unix), args...) // also when the test cleans up
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TryVirsh runs virsh with any URI. It sees no configuration of the user.
func (d *Daemon) TryVirsh(ctx context.Context, uri string, args ...string) (string, error) {
	path, err := find("virsh", "libvirt-clients")
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, virshLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, append([]string{"-q", "-c", uri}, args...)...)
	cmd.Env = d.tree.environment()
	cmd.WaitDelay = 10 * time.Second
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("virsh -c %s %s: %w: %s", uri, strings.Join(args, " "), err, bytes.TrimSpace(complaints.Bytes()))
	}
	return out.String(), nil
}
