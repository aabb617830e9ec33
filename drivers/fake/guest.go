package fake

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/polyvisor/polyvisor"
)

// What the guest prints, for those who wait for it.
const (
	Banner = "polyvisor fake guest 1" // first line
	Prompt = "pv> "                   // waits for a command
)

// restartTime is how long a guest takes to start afresh by itself, so that one
// that crashes at once does not do so in a busy loop.
const restartTime = 10 * time.Millisecond

// maxLine is the longest command line of the console; maxPending bounds what
// waits for a guest that does not read.
const (
	maxLine    = 255
	maxPending = 4096
)

// press is what the power button asks for.
type press uint8

const (
	buttonNone press = iota
	buttonOff
	buttonReboot
)

// guest is the simulated guest of a run: a state machine under Hypervisor.mu,
// without a goroutine. It exists once somebody looks.
type guest struct {
	r     *run
	out   output
	owner *console
	ended bool // the run is over

	booted   bool
	boots    int
	bootedAt time.Duration // running time
	hold     bool          // boots when a timer says so
	pumping  bool

	script   []string // commands to run
	prompted bool
	pending  []byte // input that nobody has read
	line     []byte
	lastCR   bool

	stuck   bool // spins or is halted: neither input nor the button is read
	blocked bool
	button  string // what the button does: "", "ignore" or "hold"
	pressed press
	going   press // shutting down
	timers  []*time.Timer

	mem    memory
	nics   map[polyvisor.MAC]*polyvisor.NICStats
	random uint64 // bytes taken since the boot
	exits  map[string]uint64

	sockets sockets
}

// guestLocked gives the guest of the run. It has booted if the run has begun.
func (r *run) guestLocked() *guest {
	if r.guest == nil {
		r.guest = &guest{r: r}
		if r.canRunLocked() {
			r.guest.pumpLocked()
		}
	}
	return r.guest
}

// canRunLocked reports whether guest code may run.
func (r *run) canRunLocked() bool {
	return r.d.run == r && r.ended == nil && !r.fresh && !r.frozen && r.state != polyvisor.Paused
}

// awakeLocked is the state of the domain when its guest may run.
func (r *run) awakeLocked() polyvisor.State {
	switch {
	case r.guest == nil:
	case r.guest.going != buttonNone:
		return polyvisor.ShuttingDown
	case r.guest.blocked:
		return polyvisor.Blocked
	}
	return polyvisor.Running
}

// wakeLocked lets the guest run on, after it could not.
func (r *run) wakeLocked() {
	if r.state == polyvisor.Paused || r.frozen {
		return
	}
	r.fresh = false
	if r.guest != nil {
		r.guest.pumpLocked()
	}
	r.inflateLocked()
}

// later calls f in a while, if the run is then still under way.
func (g *guest) later(d time.Duration, f func()) {
	h, r := g.r.d.h, g.r
	g.timers = append(g.timers, time.AfterFunc(d, func() {
		h.mu.Lock()
		defer h.unlock()
		if r.d.run == r && r.ended == nil {
			f()
		}
	}))
}

func (g *guest) stopTimersLocked() {
	for _, t := range g.timers {
		t.Stop()
	}
	g.timers = nil
}

// endLocked tells the guest that its run is over.
func (g *guest) endLocked() {
	g.ended = true
	g.stopTimersLocked()
	g.sockets.endLocked()
	if g.owner != nil {
		g.owner.wakeLocked()
	}
}

// resetLocked starts the guest afresh. One with a script of its own waits a
// little, as the script may be what ended it.
func (g *guest) resetLocked() {
	g.stopTimersLocked()
	g.sockets.closeAllLocked()
	*g = guest{r: g.r, out: g.out, owner: g.owner, boots: g.boots, pending: g.pending, pumping: g.pumping, nics: g.nics, exits: g.exits,
		sockets: g.sockets}
	if g.auto() != nil {
		g.holdLocked()
	}
	g.pumpLocked()
}

func (g *guest) holdLocked() {
	g.hold = true
	g.later(restartTime, func() {
		g.hold = false
		g.pumpLocked()
	})
}

// inputLocked is what comes in on the serial port.
func (g *guest) inputLocked(p []byte) {
	for len(p) > 0 && !g.ended {
		n := min(len(p), max(maxPending-len(g.pending), 0))
		if n == 0 {
			return // nobody reads: lost, as on any serial line
		}
		g.pending = append(g.pending, p[:n]...)
		p = p[n:]
		g.pumpLocked()
	}
}

func (g *guest) pressLocked(p press) {
	g.pressed = p
	g.pumpLocked()
}

// pumpLocked runs the guest until it has nothing to do or may not run.
func (g *guest) pumpLocked() {
	if g.pumping {
		return
	}
	g.pumping = true
	for g.r.canRunLocked() && !g.hold && g.stepLocked() {
	}
	g.pumping = false
}

// stepLocked does one thing and reports whether there was one to do.
func (g *guest) stepLocked() bool {
	switch {
	case !g.booted:
		g.boot()
	case g.stuck:
		return false
	case len(g.script) > 0:
		command := g.script[0]
		g.script = g.script[1:]
		g.execute(command)
	case !g.prompted:
		g.prompted = true
		g.print(Prompt)
	case g.pressed != buttonNone:
		g.answerButton()
	case len(g.pending) > 0:
		c := g.pending[0]
		g.pending = g.pending[1:]
		if g.blocked {
			g.blocked = false
			g.r.setStateLocked(g.r.awakeLocked())
		}
		g.typed(c)
	default:
		g.pending = nil
		return false
	}
	return true
}

// boot says what there is and takes the commands of the command line.
func (g *guest) boot() {
	g.booted = true
	g.boots++
	if g.boots > 1 {
		g.bootedAt = g.r.runningLocked()
	}
	g.print("\n" + Banner + "\n")
	if f := g.r.files; f != nil {
		for _, b := range f.boot {
			g.printf("%s: %d bytes, crc32 %08x\n", b.what, b.size, b.crc)
		}
	}
	g.showMemory()
	g.showCPUs()
	g.script = append(g.auto(), "\x00hint")
}

// auto gives the commands that follow auto= on the command line, or stand
// between double quotes there.
func (g *guest) auto() []string {
	line := g.r.config.Boot.CommandLine
	at := strings.Index(" "+line, " auto=")
	if at < 0 {
		return nil
	}
	text := line[at+len("auto="):]
	if quoted, ok := strings.CutPrefix(text, `"`); ok {
		text, _, _ = strings.Cut(quoted, `"`)
	}
	return strings.Split(text, ";")
}

// typed takes a character: an editor of one line, with echo.
func (g *guest) typed(c byte) {
	afterCR := g.lastCR
	g.lastCR = c == '\r'
	switch {
	case c == '\n' && afterCR:
	case c == '\r' || c == '\n':
		g.print("\n")
		g.script = strings.Split(string(g.line), ";")
		g.line, g.prompted = g.line[:0], false
	case c == '\b' || c == 0x7f:
		g.rubOut(1)
	case c == 0x15: // ^U
		g.rubOut(len(g.line))
	case c < ' ':
	case len(g.line) >= maxLine:
		g.print("\a")
	default:
		g.line = append(g.line, c)
		g.print(string([]byte{c}))
	}
}

func (g *guest) rubOut(n int) {
	for ; n > 0 && len(g.line) > 0; n-- {
		g.line = g.line[:len(g.line)-1]
		g.print("\b \b")
	}
}

// answerButton powers off, or does what the guest was told instead.
func (g *guest) answerButton() {
	p := g.pressed
	g.pressed = buttonNone
	if g.button == "ignore" {
		return
	}
	g.print("\npower button\n")
	if wait := g.r.d.h.shutdown; g.button == "hold" || wait > 0 {
		g.going, g.blocked = p, false
		g.r.setStateLocked(polyvisor.ShuttingDown)
		if g.button != "hold" {
			g.later(wait, func() { g.off(p) })
		}
		return
	}
	g.off(p)
}

func (g *guest) off(p press) {
	g.print("powering off\n")
	reason := polyvisor.StopShutdown
	if p == buttonReboot {
		reason = polyvisor.StopReboot
	}
	g.r.guestEndLocked(reason, "")
}

func (g *guest) printf(format string, args ...any) { g.print(fmt.Sprintf(format, args...)) }

// print sends text to the console and the files that take it, with CR before LF.
func (g *guest) print(s string) {
	s = strings.ReplaceAll(s, "\n", "\r\n")
	unread := g.out.end()
	if g.owner != nil {
		unread = g.owner.pos
	}
	g.out.write(s, unread)
	if g.owner != nil {
		g.owner.wakeLocked()
	}
	g.count("console")
	if g.r.files != nil {
		for _, f := range g.r.files.out {
			writeNow(f, s)
		}
	}
}

// writeNow writes what the file takes at once: a serial line does not wait, and
// a full disk does not stop the guest.
func writeNow(f *os.File, s string) {
	conn, err := f.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Write(func(fd uintptr) bool {
		writeFD(fd, []byte(s))
		return true
	})
}

// count counts a return from the guest to the hypervisor.
func (g *guest) count(kind string) {
	if g.exits == nil {
		g.exits = make(map[string]uint64)
	}
	g.exits[kind]++
}
