//go:build !linux

package guest

import "os"

// Main says that there is no agent for this system.
func Main() int {
	_, _ = os.Stderr.WriteString("polyvisor-vmm agent: the agent runs in Linux guests\n")
	return 2
}
