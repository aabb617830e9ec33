package fake

import (
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"math/big"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/polyvisor/polyvisor"
)

// command is one that the guest obeys.
type command struct {
	name, usage, help string
	run               func(g *guest, args string)
}

var commands []command

func init() {
	commands = []command{
		{"help", "help", "this list", (*guest).doHelp},
		{"echo", "echo TEXT", "print TEXT", func(g *guest, args string) { g.print(args + "\n") }},
		{"mem", "mem", "count the MiB that answer", (*guest).doMem},
		{"cpus", "cpus", "count the processors again", func(g *guest, _ string) { g.showCPUs() }},
		{"time", "time", "uptime, time stamp counter", (*guest).doTime},
		{"fill", "fill MIB SEED", "set memory from 2 MiB up", (*guest).doFill},
		{"sum", "sum MIB", "checksum of the same memory", (*guest).doSum},
		{"peek", "peek ADDR", "read 8 bytes of memory", (*guest).doPeek},
		{"poke", "poke ADDR VALUE", "write them", (*guest).doPoke},
		{"disks", "disks", "list the disks", (*guest).doDisks},
		{"read", "read DISK SECTOR", "read a sector", (*guest).doRead},
		{"write", "write DISK SECTOR TEXT", "write one, with zeros behind TEXT", (*guest).doWrite},
		{"flush", "flush DISK", "make writes durable", (*guest).doFlush},
		{"nics", "nics", "list the network interfaces", (*guest).doNICs},
		{"send", "send N", "send N packets on each, which come back", (*guest).doSend},
		{"shares", "shares", "list the shared directories", (*guest).doShares},
		{"ls", "ls SHARE", "list what is in one", (*guest).doLs},
		{"cat", "cat SHARE FILE", "print a file in it", (*guest).doCat},
		{"put", "put SHARE FILE TEXT", "write one", (*guest).doPut},
		{"random", "random N", "take N random bytes", (*guest).doRandom},
		{"size", "size", "columns and rows of the terminal", func(g *guest, _ string) { g.printf("%d %d\n", g.r.cols, g.r.rows) }},
		{"vsock-serve", "vsock-serve PORT", "give a caller back what it sends", (*guest).doServe},
		{"vsock-send", "vsock-send PORT TEXT", "send to the host, print the answer", (*guest).doVsockSend},
		{"facts", "facts", "what else the guest knows about itself", (*guest).doFacts},
		{"button", "button off|ignore|hold", "what the power button does; hold never ends", (*guest).doButton},
		{"block", "block", "wait for a resource until a key is pressed", (*guest).doBlock},
		{"spin", "spin [all]", "busy loop for ever, on all processors", func(g *guest, _ string) { g.print("spinning\n"); g.stuck = true }},
		{"halt", "halt", "halt with interrupts off", func(g *guest, _ string) { g.print("halted\n"); g.stuck = true }},
		{"poweroff", "poweroff", "ACPI S5", func(g *guest, _ string) { g.off(buttonOff) }},
		{"reboot", "reboot", "ACPI reset register", func(g *guest, _ string) { g.doReboot("rebooting\n") }},
		{"kbdreset", "kbdreset", "reset by the keyboard controller", func(g *guest, _ string) { g.doReboot("keyboard reset\n") }},
		{"triple", "triple", "triple fault", func(g *guest, _ string) { g.doCrash("triple fault\n", "triple fault") }},
		{"crash", "crash", "jump to where no memory is", func(g *guest, _ string) { g.doCrash("crashing\n", "internal error: no memory at 0xf0000000") }},
	}
}

// execute runs one command.
func (g *guest) execute(text string) {
	text = strings.TrimLeft(text, " ")
	if text == "" {
		return
	}
	if text == "\x00hint" {
		g.print("type help for the commands\n")
		return
	}
	name, args, _ := strings.Cut(text, " ")
	i := slices.IndexFunc(commands, func(c command) bool { return c.name == name })
	if i < 0 {
		g.print("unknown command: " + text + "; type help\n")
		return
	}
	commands[i].run(g, args)
}

func (g *guest) doHelp(string) {
	for _, c := range commands {
		g.printf("%-23s %s\n", c.usage, c.help)
	}
	g.print("A semicolon parts commands; auto=COMMANDS on the command line runs them first.\n")
}

// showMemory prints the size by the map.
func (g *guest) showMemory() {
	ranges := rangesOf(g.r.config.Memory)
	total, end := uint64(0), uint64(0)
	for _, r := range ranges {
		total += r.size
		end = r.addr + r.size
	}
	g.printf("memory: %d MiB in %d range(s), each answers at its end, nothing beyond 0x%016x\n", (total+0xfffff)>>20, len(ranges), end)
}

func (g *guest) doMem(string) {
	g.showMemory()
	n := freeMiB(g.r.config.Memory)
	g.printf("mem: %d of %d MiB above 2 MiB answer\n", n, n)
}

func (g *guest) showCPUs() {
	g.printf("cpus: %d came up, %d stated\n", g.r.config.VCPUs, g.r.config.VCPUs)
}

func (g *guest) doTime(string) {
	up := g.r.runningLocked() - g.bootedAt
	tsc := new(big.Int).Mul(big.NewInt(int64(up)), big.NewInt(int64(g.r.d.h.node.MHz)))
	g.printf("time: uptime_ns=%d kvmclock_ns=%d tsc=%d\n", up, g.r.runningLocked(), tsc.Div(tsc, big.NewInt(1000)))
}

// numbers reads as many decimal or hexadecimal numbers as there are pointers.
func (g *guest) numbers(args string, list ...*uint64) bool {
	fields := strings.Fields(args)
	for i, p := range list {
		if i >= len(fields) {
			g.print("a number is missing; type help\n")
			return false
		}
		n, err := strconv.ParseUint(fields[i], 0, 64)
		if err != nil {
			g.printf("not a number: %s\n", fields[i])
			return false
		}
		*p = n
	}
	return true
}

func (g *guest) doFill(args string) {
	var n, seed uint64
	if fields := strings.Fields(args); len(fields) == 1 {
		args += " 0"
	}
	if g.numbers(args, &n, &seed) {
		n = min(n, freeMiB(g.r.config.Memory))
		g.mem.fill(n, seed)
		g.printf("fill: %d MiB\n", n)
	}
}

func (g *guest) doSum(args string) {
	var n uint64
	if g.numbers(args, &n) {
		n = min(n, freeMiB(g.r.config.Memory))
		g.printf("sum: %d MiB 0x%016x\n", n, g.mem.sum(n))
	}
}

// backing finds the file that is the memory at an address.
func (g *guest) backing(addr uint64) (f *os.File, off int64) {
	if g.r.files != nil {
		for _, b := range g.r.files.back {
			if addr >= b.start && addr < b.end {
				return b.file, int64(addr - b.start)
			}
		}
	}
	return nil, 0
}

func (g *guest) doPeek(args string) {
	var addr uint64
	if !g.numbers(args, &addr) {
		return
	}
	addr &^= 7
	v := ^uint64(0) // nobody there
	if f, off := g.backing(addr); f != nil {
		var p [8]byte
		if _, err := f.ReadAt(p[:], off); err != nil {
			g.fail("peek", err)
			return
		}
		v = le.Uint64(p[:])
	} else if inRAM(g.r.config.Memory, addr) {
		v = g.mem.word(addr)
	}
	g.printf("peek: 0x%x 0x%016x\n", addr, v)
}

func (g *guest) doPoke(args string) {
	var addr, v uint64
	if !g.numbers(args, &addr, &v) {
		return
	}
	addr &^= 7
	if f, off := g.backing(addr); f != nil {
		var p [8]byte
		le.PutUint64(p[:], v)
		if _, err := f.WriteAt(p[:], off); err != nil {
			g.fail("poke", err)
			return
		}
	} else if inRAM(g.r.config.Memory, addr) && !g.mem.setWord(addr, v) {
		g.print("poke: the fake guest keeps no more single words\n")
		return
	}
	g.printf("poke: 0x%x\n", addr)
}

// fail prints an error without what only the host knows: paths.
func (g *guest) fail(what string, err error) {
	for {
		switch e := err.(type) {
		case *os.PathError:
			err = e.Err
		case syscall.Errno:
			g.printf("%s: I/O error: %v\n", what, e)
			return
		default:
			g.printf("%s: I/O error: %v\n", what, err)
			return
		}
	}
}

// disk finds a disk by its target.
func (g *guest) disk(args string) (img *image, rest string) {
	name, rest, _ := strings.Cut(strings.TrimSpace(args), " ")
	if g.r.files != nil {
		for _, img := range g.r.files.disks {
			if img.target == name {
				return img, rest
			}
		}
	}
	g.printf("no disk: %s\n", name)
	return nil, ""
}

func (g *guest) doDisks(string) {
	g.printf("disks: %d\n", len(g.r.config.Disks))
	for _, d := range g.r.config.Disks {
		if img, _ := g.r.imageOf(d.Target); img != nil {
			mode := "ro"
			if img.write {
				mode = "rw"
			}
			g.printf("disk: %s %d bytes %s %s serial=%s\n", d.Target, img.size, d.Format, mode, d.Serial)
		}
	}
}

func (g *guest) doRead(args string) {
	img, rest := g.disk(args)
	var sector uint64
	if img == nil || !g.numbers(rest, &sector) {
		return
	}
	g.count("disk")
	p := make([]byte, sectorSize)
	if err := img.readSector(sector, p); err != nil {
		g.fail("read", err)
		return
	}
	text := strings.TrimRight(string(p), "\x00")
	g.printf("read: %s %d crc32 %08x %q\n", img.target, sector, crc32.ChecksumIEEE(p), text)
}

func (g *guest) doWrite(args string) {
	img, rest := g.disk(args)
	var sector uint64
	if img == nil || !g.numbers(rest, &sector) {
		return
	}
	_, text, _ := strings.Cut(strings.TrimLeft(rest, " "), " ")
	g.count("disk")
	p := make([]byte, sectorSize)
	copy(p, text)
	if err := img.writeSector(sector, p); err != nil {
		g.fail("write", err)
		return
	}
	g.printf("write: %s %d\n", img.target, sector)
}

func (g *guest) doFlush(args string) {
	img, _ := g.disk(args)
	if img == nil {
		return
	}
	g.count("disk")
	if err := img.flush(); err != nil {
		g.fail("flush", err)
		return
	}
	g.printf("flush: %s\n", img.target)
}

func (g *guest) doNICs(string) {
	g.printf("nics: %d\n", len(g.r.config.NICs))
	for _, n := range g.r.config.NICs {
		g.printf("nic: %s %s mtu %d\n", n.MAC, n.Network, n.MTU)
	}
}

// packetSize is that of the smallest Ethernet frame.
const packetSize = 60

func (g *guest) doSend(args string) {
	var n uint64
	if !g.numbers(args, &n) {
		return
	}
	if g.nics == nil {
		g.nics = make(map[polyvisor.MAC]*polyvisor.NICStats)
	}
	for _, nic := range g.r.config.NICs {
		s := g.nics[nic.MAC]
		if s == nil {
			s = &polyvisor.NICStats{MAC: nic.MAC}
			g.nics[nic.MAC] = s
		}
		s.TXPackets, s.TXBytes = s.TXPackets+n, s.TXBytes+polyvisor.Bytes(n*packetSize)
		s.RXPackets, s.RXBytes = s.RXPackets+n, s.RXBytes+polyvisor.Bytes(n*packetSize)
	}
	g.count("network")
	g.printf("send: %d packets on %d interfaces\n", n, len(g.r.config.NICs))
}

func (g *guest) doRandom(args string) {
	var n uint64
	if !g.numbers(args, &n) {
		return
	}
	rng := g.r.config.RNG
	if rng == nil {
		g.print("no random number generator\n")
		return
	}
	n = min(n, 64)
	if limit := uint64(rng.BytesPerSecond); limit > 0 {
		// What is not taken in a second is there for the next, up to a second's.
		elapsed := uint64((g.r.runningLocked() - g.bootedAt).Seconds()) + 1
		total, over := limit*elapsed, limit > 0 && elapsed > (1<<63)/limit
		if !over {
			g.random = max(g.random, total-limit)
			n = min(n, total-g.random)
		}
		g.random += n
	}
	p, err := readSome(rngSource(rng), int(n))
	if err != nil {
		g.fail("random", err)
		return
	}
	g.count("random")
	g.printf("random: %d %s\n", len(p), hex.EncodeToString(p))
}

func rngSource(r *polyvisor.RNG) string {
	if r.Source == "" {
		return "/dev/urandom"
	}
	return r.Source
}

func readSome(path string, n int) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p := make([]byte, n)
	n, err = f.Read(p)
	if err != nil && err != io.EOF {
		return nil, err
	}
	return p[:max(n, 0)], nil
}

func (g *guest) doFacts(string) {
	c := g.r.config
	fact := func(name string, value any) { g.printf("fact: %s=%v\n", name, value) }
	fact("uuid", c.UUID)
	fact("boots", g.boots)
	fact("cmdline", c.Boot.CommandLine)
	if f := g.r.files; f != nil {
		for _, b := range f.boot {
			fact(b.what, fmt.Sprintf("%08x", b.crc))
		}
	}
	fact("max-vcpus", c.MaxVCPUs)
	if t := c.Topology; !t.IsZero() {
		fact("topology", fmt.Sprintf("%d,%d,%d", t.Sockets, t.Cores, t.Threads))
	}
	if !c.InstanceID.IsZero() {
		fact("instance-id", hex.EncodeToString(c.InstanceID[:]))
	}
	if c.Vsock != nil {
		fact("cid", c.Vsock.CID)
	}
	fact("rng", c.RNG != nil)
	fact("balloon", c.Balloon)
	fact("protected", c.Protected)
	fact("hypervisor-auth", c.HypervisorAuth)
}

func (g *guest) doButton(args string) {
	switch args {
	case "off":
		g.button = ""
	case "ignore", "hold":
		g.button = args
	default:
		g.print("button off, ignore or hold\n")
		return
	}
	g.printf("button: %s\n", args)
}

func (g *guest) doBlock(string) {
	g.print("blocked\n")
	if g.going == buttonNone {
		g.blocked = true
		g.r.setStateLocked(polyvisor.Blocked)
	}
}

func (g *guest) doReboot(say string) {
	g.print(say)
	g.r.guestEndLocked(polyvisor.StopReboot, "")
}

func (g *guest) doCrash(say, detail string) {
	g.print(say)
	g.r.guestEndLocked(polyvisor.StopCrash, detail)
}
