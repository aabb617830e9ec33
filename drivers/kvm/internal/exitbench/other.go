//go:build !(linux && amd64)

// Command exitbench measures what an exit to user space costs, on linux/amd64.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "exitbench: needs KVM on linux/amd64")
	os.Exit(1)
}
