// Command polyvisor-usernet is the network behind one card of a virtual machine.
// The kvm driver starts it; run by hand it only says so.
package main

import (
	"fmt"
	"os"

	_ "github.com/polyvisor/polyvisor/drivers/kvm/usernet" // its init function takes over
)

func main() {
	fmt.Fprintln(os.Stderr, "polyvisor-usernet: the kvm driver starts this program, once for each network card of kind user; try: polyvisor run")
	os.Exit(2)
}
