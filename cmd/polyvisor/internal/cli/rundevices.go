package cli

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/polyvisor/polyvisor"
)

// deviceFlags are the flags of "run" that give the domain devices.
type deviceFlags struct {
	disks, nets, ports []string
	firmware           string
	rng                bool
}

func (f *deviceFlags) register(c *cobra.Command) {
	fl := c.Flags()
	fl.StringArrayVar(&f.disks, "disk", nil, "disk image: PATH[,format=raw|qcow2][,mode=ro|rw|rw-force][,target=NAME][,serial=TEXT][,cache=MODE][,queues=N]; may be given again")
	fl.StringArrayVar(&f.nets, "net", nil, "network interface: user, tap=NAME, bridge=NAME or network=NAME, with [,mac=ADDRESS][,mtu=BYTES][,queues=N][,host-loopback]; may be given again")
	fl.StringArrayVarP(&f.ports, "publish", "p", nil, "port of the host that leads to one of the guest: [ADDRESS:]HOSTPORT[:GUESTPORT][/udp]; needs --net user, which it stands for; may be given again")
	fl.StringVar(&f.firmware, "firmware", "", "firmware image that boots the domain's disks, in place of a kernel")
	fl.BoolVar(&f.rng, "rng", false, "give the guest random numbers of the host")
	_ = c.RegisterFlagCompletionFunc("net", cobra.FixedCompletions([]string{"user", "tap=", "bridge=", "network="}, cobra.ShellCompDirectiveNoSpace|cobra.ShellCompDirectiveNoFileComp))
}

// config gives what the flags say, as a configuration with nothing else in it.
func (f *deviceFlags) config() (*polyvisor.Config, error) {
	c := &polyvisor.Config{}
	for _, text := range f.disks {
		d, err := parseDisk(text)
		if err != nil {
			return nil, err
		}
		c.Disks = append(c.Disks, d)
	}
	for _, text := range f.nets {
		n, err := parseNet(text)
		if err != nil {
			return nil, err
		}
		c.NICs = append(c.NICs, n)
	}
	if err := f.publish(c); err != nil {
		return nil, err
	}
	c.Boot.Firmware.Path = f.firmware
	if f.rng {
		c.RNG = &polyvisor.RNG{}
	}
	return c, nil
}

// parseDisk reads PATH[,KEY=VALUE]... A comma in a path is written twice.
func parseDisk(text string) (polyvisor.Disk, error) {
	var d polyvisor.Disk
	path, options := splitOptions(text)
	if path == "" {
		return d, usage("--disk %q: no path; write --disk PATH,format=qcow2", text)
	}
	d.Source.Path = path
	for _, o := range options {
		key, value, _ := strings.Cut(o, "=")
		var err error
		switch key {
		case "format":
			d.Format = polyvisor.DiskFormat(value)
		case "mode":
			err = d.Mode.UnmarshalText([]byte(value))
		case "target":
			d.Target = value
		case "serial":
			d.Serial = value
		case "cache":
			d.Cache = polyvisor.CacheMode(value)
		case "queues":
			d.Queues, err = strconv.Atoi(value)
		default:
			err = usage("unknown option %q; there are format, mode, target, serial, cache and queues, and a comma in a path is written twice", key)
		}
		if err != nil {
			return d, usage("--disk %q: %w", text, err)
		}
	}
	if strings.HasSuffix(path, ".qcow2") && d.Format == "" {
		return d, usage("--disk %q: the format is not guessed; add ,format=qcow2 (or ,format=raw if it is that)", text)
	}
	return d, nil
}

// splitOptions cuts a text at its commas; two of them stand for one.
func splitOptions(text string) (first string, rest []string) {
	parts := strings.Split(strings.ReplaceAll(text, ",,", "\x00"), ",")
	for i := range parts {
		parts[i] = strings.ReplaceAll(parts[i], "\x00", ",")
	}
	return parts[0], parts[1:]
}

// parseNet reads KIND[=SOURCE][,KEY=VALUE]...
func parseNet(text string) (polyvisor.NIC, error) {
	var n polyvisor.NIC
	first, options := splitOptions(text)
	kind, source, _ := strings.Cut(first, "=")
	n.Network, n.Source = polyvisor.NetworkKind(kind), source
	if kind == "" {
		return n, usage("--net %q: which network? write user, tap=NAME, bridge=NAME or network=NAME", text)
	}
	for _, o := range options {
		key, value, valued := strings.Cut(o, "=")
		var err error
		switch key {
		case "host-loopback":
			if valued {
				err = usage("%q takes no value", key)
			}
			n.HostLoopback = true
		case "mac":
			n.MAC, err = polyvisor.ParseMAC(value)
		case "mtu":
			n.MTU, err = strconv.Atoi(value)
		case "queues":
			n.Queues, err = strconv.Atoi(value)
		default:
			err = usage("unknown option %q; there are mac, mtu, queues and host-loopback", key)
		}
		if err != nil {
			return n, usage("--net %q: %w", text, err)
		}
	}
	return n, nil
}

// publish gives the published ports to the first interface of network user, which is
// made if there is none.
func (f *deviceFlags) publish(c *polyvisor.Config) error {
	if len(f.ports) == 0 {
		return nil
	}
	at := slices.IndexFunc(c.NICs, func(n polyvisor.NIC) bool { return n.Network == polyvisor.NetworkUser })
	if at < 0 {
		if len(c.NICs) > 0 {
			return usage("--publish: needs an interface of --net user; the guest of another network is reached there")
		}
		at, c.NICs = 0, []polyvisor.NIC{{Network: polyvisor.NetworkUser}}
	}
	for _, text := range f.ports {
		p, err := parsePort(text)
		if err != nil {
			return usage("--publish %q: %w; write [ADDRESS:]HOSTPORT[:GUESTPORT][/udp], such as 8080:80", text, err)
		}
		c.NICs[at].Forwards = append(c.NICs[at].Forwards, p)
	}
	return nil
}

// parsePort reads [ADDRESS:]HOSTPORT[:GUESTPORT][/PROTOCOL]. An address of IPv6 is in
// brackets.
func parsePort(text string) (p polyvisor.PortForward, err error) {
	rest, protocol, given := strings.Cut(text, "/")
	if given {
		p.Protocol = protocol
	}
	if strings.HasPrefix(rest, "[") {
		address, ports, ok := strings.Cut(rest[1:], "]:")
		if !ok {
			return p, errors.New("the address has no end, or no port")
		}
		p.HostIP, rest = address, ports
	} else if strings.Count(rest, ":") == 2 || strings.Contains(rest, ".") {
		p.HostIP, rest, _ = strings.Cut(rest, ":")
	}
	host, guest, both := strings.Cut(rest, ":")
	if p.HostPort, err = parsePortNumber(host); err == nil && both {
		p.GuestPort, err = parsePortNumber(guest)
	}
	return p, err
}

func parsePortNumber(text string) (uint16, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is no port", text)
	}
	return uint16(n), nil
}
