//go:build linux

// Command init is the first process of the nested test machine. It mounts the usual file systems and starts
// itself again as the agent, which loads the kernel modules listed in /etc/nestedvm and runs the commands that
// the host sends; package wire is the protocol. As process 1 it then only reaps orphans, and powers the machine
// off when the agent ends.
package main

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const agentArg = "agent"

func main() {
	if os.Getpid() != 1 {
		if len(os.Args) == 2 && os.Args[1] == agentArg {
			agent()
			return
		}
		fmt.Fprintln(os.Stderr, "init of the nested test machine: to be run as process 1 only")
		os.Exit(2)
	}
	err := mountAll()
	if err == nil {
		err = reapUntilAgentEnds()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "nested init: %v\n", err)
	}
	powerOff()
}

// reapUntilAgentEnds starts the agent and collects every child that ends, until the agent does.
func reapUntilAgentEnds() error {
	p, err := os.StartProcess("/init", []string{"/init", agentArg}, &os.ProcAttr{
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		Env:   []string{"PATH=/bin:/usr/bin"},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return fmt.Errorf("start the agent: %w", err)
	}
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return fmt.Errorf("wait for children: %w", err)
		case pid == p.Pid && ws == 0:
			return nil
		case pid == p.Pid:
			return fmt.Errorf("the agent ended with wait status %#x", uint32(ws))
		}
	}
}

func powerOff() {
	unix.Sync()
	err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	fmt.Fprintf(os.Stderr, "nested init: power off: %v\n", err)
	for {
		time.Sleep(time.Hour)
	}
}
