//go:build linux

// Command inside runs in the nested machine: it carries out the plan whose file is its argument and prints each result as
// a line of JSON.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/polyvisor/polyvisor/internal/bench/boot"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "inside:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("one argument is wanted, the file with the plan; %d were given", len(args))
	}
	b, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	var p boot.Plan
	if err := json.Unmarshal(b, &p); err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	return boot.Run(context.Background(), p, func(r boot.Result) error { return boot.Emit(os.Stdout, r) })
}
