//go:build !(linux && amd64)

// Command bench measures polyvisor's kvm engine, on linux/amd64.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "bench: the kvm engine runs on linux/amd64")
	os.Exit(1)
}
