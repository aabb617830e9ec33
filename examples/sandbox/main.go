// Command sandbox runs a shell script that nobody trusts in a virtual machine of its own: with a second of time for each line of it,
// 128 MiB of memory, one processor, no network and no file of this host. It needs polyvisor-vmm and a static busybox in PATH.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"time"

	"github.com/polyvisor/polyvisor"
	_ "github.com/polyvisor/polyvisor/drivers/kvm"
	"github.com/polyvisor/polyvisor/drivers/kvm/sandbox"
)

func main() {
	script, err := io.ReadAll(io.LimitReader(os.Stdin, 1<<20))
	check(err)
	conn, err := polyvisor.Open(context.Background(), "kvm:///session?isolation=none")
	check(err)
	defer conn.Close() // with which the machine goes
	config := &polyvisor.Config{Name: fmt.Sprintf("sandbox-%d", os.Getpid()), Memory: 128 * polyvisor.MiB, OnReboot: polyvisor.ActionDestroy}
	check(sandbox.Prepare(config, sandbox.Options{}))
	dom, err := conn.Create(context.Background(), config)
	check(err)
	check(sandbox.Ready(context.Background(), dom))

	limit := time.Duration(1+strings.Count(string(script), "\n")) * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	err = dom.Exec(ctx, polyvisor.Cmd{Args: []string{"sh", "-s"}, User: "nobody", Dir: "/tmp", Stdin: strings.NewReader(string(script)), Stdout: os.Stdout, Stderr: os.Stderr})
	var exit *polyvisor.ExitError
	switch {
	case errors.As(err, &exit):
		fmt.Fprintln(os.Stderr, "sandbox:", exit)
	case errors.Is(err, context.DeadlineExceeded):
		fmt.Fprintln(os.Stderr, "sandbox: ended after", limit)
	default:
		check(err)
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
