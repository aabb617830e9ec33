// Command boot runs a Linux kernel in a virtual machine, shows what it prints
// on its console, and says why it stopped. Without arguments it runs the small
// guest that is built into the library.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/polyvisor/polyvisor"
	_ "github.com/polyvisor/polyvisor/drivers/kvm"
)

func main() {
	ctx := context.Background()
	conn := must(polyvisor.Open(ctx, "kvm:///session"))
	defer conn.Close()
	config := &polyvisor.Config{Name: "boot-example", Memory: 256 * polyvisor.MiB, VCPUs: 2, OnReboot: polyvisor.ActionDestroy}
	config.Boot.CommandLine = "auto=mem;cpus;poweroff" // commands for the built-in guest
	if len(os.Args) > 1 {
		config.Boot = polyvisor.Boot{Kernel: polyvisor.Path(os.Args[1]), CommandLine: "console=ttyS0 panic=-1"}
	}
	if len(os.Args) > 2 {
		config.Boot.Initrd = polyvisor.Path(os.Args[2])
	}
	dom := must(conn.Create(ctx, config))
	console := must(dom.Console(ctx, polyvisor.ConsoleOptions{}))
	must(io.Copy(os.Stdout, console))
	fmt.Println("\nstopped:", must(dom.Wait(ctx)))
}

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}
