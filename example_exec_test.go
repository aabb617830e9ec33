package polyvisor_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"strings"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/fake"
)

func ExampleDomain_Exec() {
	ctx := context.Background()
	hypervisor := fake.New(fake.Options{}) // whose guests have the programs that are given to it
	defer hypervisor.Close()
	hypervisor.SetProgram("greet", func(_ context.Context, c *fake.Command) int {
		name, err := io.ReadAll(c.Stdin)
		if err != nil || len(name) == 0 {
			fmt.Fprintln(c.Stderr, "whom?")
			return 7
		}
		fmt.Fprintf(c.Stdout, "%s %s\n", c.Args[1], name)
		return 0
	})
	conn := hypervisor.Conn()
	defer conn.Close()
	dom, err := conn.Create(ctx, &polyvisor.Config{Name: "web", Vsock: &polyvisor.VsockConfig{}})
	if err != nil {
		log.Fatal(err)
	}
	if err := dom.WaitReady(ctx); err != nil {
		log.Fatal(err)
	}

	out, err := dom.ExecOutput(ctx, polyvisor.Cmd{Args: []string{"greet", "hello"}, Stdin: strings.NewReader("world")})
	fmt.Printf("%s%v\n", out, err)
	_, err = dom.ExecOutput(ctx, polyvisor.Cmd{Args: []string{"greet", "hello"}})
	var exit *polyvisor.ExitError
	if errors.As(err, &exit) {
		fmt.Printf("%d %s", exit.Code, exit.Stderr)
	}
	fmt.Println(errors.Is(dom.Exec(ctx, polyvisor.Cmd{Args: []string{"other"}}), polyvisor.ErrNotFound))
	// Output:
	// hello world
	// <nil>
	// 7 whom?
	// true
}
