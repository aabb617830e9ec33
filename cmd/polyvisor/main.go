// Command polyvisor runs and manages virtual machines. docs/cli.md describes
// its commands, output formats and exit codes.
package main

import (
	"context"
	"os"

	"github.com/polyvisor/polyvisor/cmd/polyvisor/internal/cli"
)

func main() {
	os.Exit(cli.Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
