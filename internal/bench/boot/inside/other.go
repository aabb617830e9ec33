//go:build !linux

// Command inside runs in the nested machine, which is Linux.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "inside: runs on Linux only")
	os.Exit(1)
}
