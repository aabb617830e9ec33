//go:build linux

// Command tool is what the tests of commands in guests run there: a program whose every
// word does one thing.
//
//	exit CODE      ends with the code
//	say OUT ERR    prints the words to the outputs
//	cat            copies its input to its output
//	args ARG...    prints each argument on a line, quoted
//	env NAME...    prints each variable as NAME=VALUE
//	pwd            prints the working directory
//	id             prints the numbers of user and group
//	uname          prints the kernel's release
//	procs          prints the number of other processes that are programs
//	await          prints "ready"; then the size of its terminal, as COLUMNS ROWS, when
//	               that changes; at SIGINT prints "interrupted" and ends with 3
//	die            ends by SIGKILL
//	flood          runs processes that print without end, each in a session of its own
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "tool: no word")
		os.Exit(2)
	}
	code, err := run(os.Args[1], os.Args[2:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "tool:", err)
		os.Exit(1)
	}
	os.Exit(code)
}

func run(word string, args []string) (code int, err error) {
	switch word {
	case "exit":
		if len(args) == 1 {
			return strconv.Atoi(args[0])
		}
	case "say":
		if len(args) == 2 {
			_, err := fmt.Println(args[0])
			fmt.Fprintln(os.Stderr, args[1])
			return 0, err
		}
	case "cat":
		_, err := io.Copy(os.Stdout, os.Stdin)
		return 0, err
	case "args":
		for _, a := range args {
			fmt.Printf("%q\n", a)
		}
		return 0, nil
	case "env":
		for _, name := range args {
			fmt.Printf("%s=%s\n", name, os.Getenv(name))
		}
		return 0, nil
	case "pwd":
		dir, err := os.Getwd()
		fmt.Println(dir)
		return 0, err
	case "id":
		fmt.Println(os.Getuid(), os.Getgid())
		return 0, nil
	case "uname":
		var u unix.Utsname
		err := unix.Uname(&u)
		fmt.Println(string(u.Release[:max(bytes.IndexByte(u.Release[:], 0), 0)]))
		return 0, err
	case "procs":
		n, err := procs()
		fmt.Println(n)
		return 0, err
	case "await":
		return await()
	case "die":
		return 0, unix.Kill(os.Getpid(), unix.SIGKILL)
	case "flood":
		return 0, flood(args)
	}
	return 0, fmt.Errorf("unknown word %q, or wrong arguments", word)
}

// procs counts the processes that have a command line, which the kernel's have not.
func procs() (n int, err error) {
	list, err := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range list {
		b, err := os.ReadFile(path)
		if err == nil && len(b) > 0 && path != fmt.Sprintf("/proc/%d/cmdline", os.Getpid()) {
			n++
		}
	}
	return n, err
}

func await() (int, error) {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGWINCH)
	fmt.Println("ready")
	for s := range signals {
		if s == syscall.SIGINT {
			break
		}
		size, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
		if err != nil {
			return 0, err
		}
		fmt.Println(size.Col, size.Row)
	}
	fmt.Println("interrupted")
	return 3, nil
}

// flood begins the processes, or is one of them.
func flood(args []string) error {
	if len(args) == 0 {
		for range 8 {
			p, err := os.StartProcess("/proc/self/exe", []string{os.Args[0], "flood", "more"},
				&os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}, Sys: &syscall.SysProcAttr{Setsid: true}})
			if err != nil {
				return err
			}
			if err := p.Release(); err != nil {
				return err
			}
		}
	}
	w := bufio.NewWriter(os.Stdout)
	for {
		if _, err := w.WriteString("flood\n"); err != nil {
			return err
		}
	}
}
