//go:build linux

package main

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// onVsock runs the commands about sockets to the host.
func onVsock(cmd, arg string) bool {
	var err error
	port, rest, _ := strings.Cut(arg, " ")
	n, bad := strconv.ParseUint(port, 10, 32)
	switch {
	case cmd != "vsock-serve" && cmd != "vsock-send":
		return false
	case bad != nil:
		err = bad
	case cmd == "vsock-serve":
		err = serveVsock(uint32(n))
	default:
		err = sendVsock(uint32(n), rest)
	}
	if err != nil {
		say(prefix + "error=" + cmd + " " + arg + ": " + err.Error())
	}
	return true
}

// serveVsock takes one connection on a port and gives back all that it is sent.
func serveVsock(port uint32) error {
	ln, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	fd, err := acceptOne(ln, port)
	unix.Close(ln) // before anything is said: nothing listens any more
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	total, err := giveBack(fd)
	if err == nil {
		say("echoed " + strconv.Itoa(total))
	}
	return err
}

func acceptOne(ln int, port uint32) (int, error) {
	if err := unix.Bind(ln, &unix.SockaddrVM{CID: unix.VMADDR_CID_ANY, Port: port}); err != nil {
		return -1, err
	}
	if err := unix.Listen(ln, 1); err != nil {
		return -1, err
	}
	say("listening")
	fd, _, err := unix.Accept(ln)
	return fd, err
}

// sendVsock sends a text to a port of the host, and prints what it answers.
func sendVsock(port uint32, text string) error {
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrVM{CID: unix.VMADDR_CID_HOST, Port: port}); err != nil {
		return err
	}
	if _, err := unix.Write(fd, []byte(text)); err != nil {
		return err
	}
	if err := unix.Shutdown(fd, unix.SHUT_WR); err != nil {
		return err
	}
	var answer []byte
	buf := make([]byte, 4096)
	for {
		n, err := unix.Read(fd, buf)
		if err != nil {
			return err
		}
		if n == 0 {
			say("answered " + string(answer))
			return nil
		}
		answer = append(answer, buf[:n]...)
	}
}
