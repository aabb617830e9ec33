//go:build !(linux && amd64)

// Command virtqbench measures what a request costs in a virtqueue, on linux/amd64.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "virtqbench: runs on linux/amd64")
	os.Exit(1)
}
