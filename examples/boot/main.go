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
	// Without OnReboot a guest that panics starts again, for ever.
	config := &polyvisor.Config{Name: "hello", Memory: 256 * polyvisor.MiB, VCPUs: 2, OnReboot: polyvisor.ActionDestroy}
	config.Boot.CommandLine = "auto=mem;cpus;poweroff" // commands for the built-in guest
	if files := append(os.Args[1:], "", ""); files[0] != "" {
		config.Boot = polyvisor.Boot{Kernel: polyvisor.Path(files[0]), Initrd: polyvisor.Path(files[1]), CommandLine: "console=ttyS0 panic=-1"}
	}
	dom := must(conn.Create(ctx, config))
	must(io.Copy(os.Stdout, must(dom.Console(ctx, polyvisor.ConsoleOptions{}))))
	fmt.Println("\nstopped:", must(dom.Wait(ctx)))
}

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}
