// Command polyvisor-vmm is the process of one virtual machine, which the kvm driver
// starts. As "polyvisor-vmm agent", and as the first process of a guest, it is the agent
// that runs commands in a guest for its host.
package main

import (
	"fmt"
	"os"

	"github.com/polyvisor/polyvisor/drivers/kvm/vmmain"
	"github.com/polyvisor/polyvisor/internal/agent/guest"
)

func main() {
	vmmain.MaybeMain()
	if os.Getpid() == 1 || len(os.Args) == 2 && os.Args[1] == "agent" {
		os.Exit(guest.Main())
	}
	fmt.Fprintln(os.Stderr, "polyvisor-vmm: the kvm driver starts this program, once for each virtual machine; try: polyvisor run\nIn a guest, \"polyvisor-vmm agent\" runs commands for the host.")
	os.Exit(2)
}
