package fake

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/polyvisor/polyvisor"
)

// tool is the program that the conformance suite runs.
func tool(ctx context.Context, c *Command) int {
	args := c.Args[1:]
	if len(args) == 0 {
		return complain(c, "no word")
	}
	switch word, args := args[0], args[1:]; word {
	case "exit":
		if code, err := strconv.Atoi(strings.Join(args, " ")); err == nil {
			return code
		}
	case "say":
		if len(args) == 2 {
			fmt.Fprintln(c.Stdout, args[0])
			fmt.Fprintln(c.Stderr, args[1])
			return 0
		}
	case "cat":
		if _, err := io.Copy(c.Stdout, c.Stdin); err != nil {
			return 1
		}
		return 0
	case "args":
		for _, a := range args {
			fmt.Fprintf(c.Stdout, "%q\n", a)
		}
		return 0
	case "env":
		for _, name := range args {
			fmt.Fprintf(c.Stdout, "%s=%s\n", name, c.variable(name))
		}
		return 0
	case "pwd":
		dir := c.Dir
		if dir == "" {
			dir = "/"
		}
		fmt.Fprintln(c.Stdout, dir)
		return 0
	case "id":
		user, group, _ := strings.Cut(c.User, ":")
		fmt.Fprintln(c.Stdout, number(user), number(group))
		return 0
	case "uname":
		fmt.Fprintln(c.Stdout, "fake")
		return 0
	case "await":
		return await(ctx, c)
	case "die":
		c.p.kill(polyvisor.SIGKILL)
		return 0
	case "flood":
		for ctx.Err() == nil {
			if _, err := io.WriteString(c.Stdout, "flood\n"); err != nil {
				return 1
			}
		}
		return 0
	}
	return complain(c, "unknown word "+args[0]+", or wrong arguments")
}

func complain(c *Command, text string) int {
	fmt.Fprintln(c.Stderr, "tool:", text)
	return 1
}

// number gives 0 for root and what is not said.
func number(id string) string {
	if id == "" || id == "root" {
		return "0"
	}
	return id
}

// variable is one of the command's environment.
func (c *Command) variable(name string) string {
	value := map[string]string{"PATH": "/bin", "HOME": "/", "USER": "root", "LOGNAME": "root"}[name]
	for _, e := range c.Env {
		if n, v, _ := strings.Cut(e, "="); n == name {
			value = v
		}
	}
	return value
}

// await waits for signals.
func await(ctx context.Context, c *Command) int {
	signals := make(chan polyvisor.Signal, 16)
	c.Notify(signals, polyvisor.SIGINT, sigWinch)
	fmt.Fprintln(c.Stdout, "ready")
	for {
		select {
		case s := <-signals:
			if s == polyvisor.SIGINT {
				fmt.Fprintln(c.Stdout, "interrupted")
				return 3
			}
			fmt.Fprintln(c.Stdout, c.Size().Cols, c.Size().Rows)
		case <-ctx.Done():
			return 0
		}
	}
}
