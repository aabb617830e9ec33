// Command polyvisor-vmm is the process of one virtual machine. The kvm driver
// starts it; run by hand it only says so.
package main

import (
	"fmt"
	"os"

	"github.com/polyvisor/polyvisor/drivers/kvm/vmmain"
)

func main() {
	vmmain.MaybeMain()
	fmt.Fprintln(os.Stderr, "polyvisor-vmm: the kvm driver starts this program, once for each virtual machine; try: polyvisor run")
	os.Exit(2)
}
