//go:build linux

package main

import (
	"encoding/binary"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// onNetwork runs the commands about the network.
func onNetwork(cmd, arg string) bool {
	var err error
	switch cmd {
	case "address":
		err = setAddress(arg)
	case "echo-server":
		err = echoServer(arg)
	case "echo-client":
		err = echoClient(arg)
	default:
		return false
	}
	if err != nil {
		say(prefix + "error=" + cmd + " " + arg + ": " + err.Error())
	}
	return true
}

func parseIPv4(text string) (ip [4]byte, err error) {
	for i, part := range strings.SplitN(text, ".", 4) {
		n, err := strconv.ParseUint(part, 10, 8)
		if err != nil {
			return ip, err
		}
		ip[i] = byte(n)
	}
	return ip, nil
}

// setAddress gives an interface, the first if none is named, an address, A.B.C.D/BITS, and
// switches it on.
func setAddress(arg string) error {
	arg, wanted, _ := strings.Cut(arg, " ")
	text, bits, _ := strings.Cut(arg, "/")
	prefixLen, err := strconv.ParseUint(bits, 10, 6)
	if err != nil {
		return err
	}
	ip, err := parseIPv4(text)
	if err != nil {
		return err
	}
	index := uint32(0)
	for _, name := range names("/sys/class/net") {
		if name != "lo" && index == 0 && (wanted == "" || wanted == name) {
			n, _ := strconv.Atoi(strings.TrimSpace(read("/sys/class/net/" + name + "/ifindex")))
			index = uint32(n)
		}
	}
	if index == 0 {
		return unix.ENODEV
	}
	le := binary.LittleEndian
	// struct ifinfomsg: up, and nothing else changed.
	link := make([]byte, unix.SizeofIfInfomsg)
	le.PutUint32(link[4:], index)
	le.PutUint32(link[8:], unix.IFF_UP)
	le.PutUint32(link[12:], unix.IFF_UP)
	if err := netlink(unix.RTM_NEWLINK, 0, link); err != nil {
		return err
	}
	// struct ifaddrmsg with one attribute.
	addr := []byte{unix.AF_INET, byte(prefixLen), 0, unix.RT_SCOPE_UNIVERSE}
	addr = le.AppendUint32(addr, index)
	addr = le.AppendUint16(addr, 8)
	addr = le.AppendUint16(addr, unix.IFA_LOCAL)
	addr = append(addr, ip[:]...)
	if err := netlink(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, addr); err != nil {
		return err
	}
	say("address set")
	return nil
}

// netlink makes one request of rtnetlink(7) and waits for the answer.
func netlink(kind, flags uint16, body []byte) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	le := binary.LittleEndian
	msg := le.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	msg = le.AppendUint16(msg, kind)
	msg = le.AppendUint16(msg, flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	msg = append(msg, 1, 0, 0, 0, 0, 0, 0, 0) // sequence number, port
	if err := unix.Sendto(fd, append(msg, body...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return err
	}
	if n < unix.SizeofNlMsghdr+4 || le.Uint16(answer[4:]) != unix.NLMSG_ERROR {
		return unix.EPROTO
	}
	if code := int32(le.Uint32(answer[unix.SizeofNlMsghdr:])); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}

// echoServer takes one connection on a port and gives back all that it is sent.
func echoServer(arg string) error {
	port, err := strconv.ParseUint(strings.TrimSpace(arg), 10, 16)
	if err != nil {
		return err
	}
	ln, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(ln)
	if err := unix.Bind(ln, &unix.SockaddrInet4{Port: int(port)}); err != nil {
		return err
	}
	if err := unix.Listen(ln, 1); err != nil {
		return err
	}
	say("listening")
	fd, _, err := unix.Accept(ln)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return echo(fd)
}

// echoClient connects to ADDRESS PORT and gives back all that it is sent.
func echoClient(arg string) error {
	text, number, _ := strings.Cut(arg, " ")
	ip, err := parseIPv4(text)
	if err != nil {
		return err
	}
	port, err := strconv.ParseUint(number, 10, 16)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: ip, Port: int(port)}); err != nil {
		return err
	}
	return echo(fd)
}

// echo is giveBack, and says how much it was.
func echo(fd int) error {
	total, err := giveBack(fd)
	if err == nil {
		say("echoed " + strconv.Itoa(total))
	}
	return err
}

// giveBack writes to a connection all that comes from it until its end.
func giveBack(fd int) (total int, err error) {
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Read(fd, buf)
		if err != nil || n == 0 {
			return total, err
		}
		total += n
		for out := buf[:n]; len(out) > 0; {
			w, err := unix.Write(fd, out)
			if err != nil {
				return total, err
			}
			out = out[w:]
		}
	}
}
