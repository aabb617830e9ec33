package conformance

import (
	"io"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/polyvisor/polyvisor"
)

// talk is a dialogue with a guest.
type talk struct {
	c   *C
	of  *polyvisor.Domain
	rwc io.ReadWriteCloser

	mu      sync.Mutex
	text    strings.Builder
	seen    int // how much of the text has been waited for
	err     error
	changed chan struct{}
	over    chan struct{} // closed when reading has ended
}

// console opens the console of a domain and reads it from then on.
func (c *C) console(d *polyvisor.Domain, o polyvisor.ConsoleOptions) *talk {
	rwc, err := d.Console(c.ctx, o)
	c.ok(err, "open the console of %s", d.Name())
	t := &talk{c: c, of: d, rwc: rwc, changed: make(chan struct{}, 1), over: make(chan struct{})}
	go t.read()
	c.cleanup("closing a console", t.close)
	return t
}

// talk opens the console and waits for the guest's first prompt.
func (c *C) talk(d *polyvisor.Domain) *talk {
	t := c.console(d, polyvisor.ConsoleOptions{})
	t.await(c.h.Guest.Prompt)
	return t
}

func (t *talk) read() {
	defer close(t.over)
	buf := make([]byte, 4096)
	for {
		n, err := t.rwc.Read(buf)
		t.mu.Lock()
		t.text.WriteString(strings.ReplaceAll(string(buf[:n]), "\r", ""))
		t.err = err
		t.mu.Unlock()
		select {
		case t.changed <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

func (t *talk) close() {
	_ = t.rwc.Close()
	<-t.over
}

// ended waits for the end of the stream and gives its error.
func (t *talk) ended() error {
	select {
	case <-t.over:
	case <-t.c.ctx.Done():
		t.c.Fatalf("the console does not end")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// all gives everything that was read so far.
func (t *talk) all() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String()
}

// await waits for a text that was not waited for yet and gives what came
// before it.
func (t *talk) await(want string) string {
	for {
		t.mu.Lock()
		fresh, err := t.text.String()[t.seen:], t.err
		if before, _, ok := strings.Cut(fresh, want); ok {
			t.seen += len(before) + len(want)
			t.mu.Unlock()
			return before
		}
		t.mu.Unlock()
		if err != nil {
			t.c.Fatalf("the console ended (%v) before the guest printed %q; it printed %q; %s", err, want, tail(fresh), t.fate())
		}
		select {
		case <-t.changed:
		case <-t.c.ctx.Done():
			t.c.Fatalf("the guest does not print %q; it printed %q", want, tail(fresh))
		}
	}
}

// fate says what became of the domain, which tells a guest that crashed from a console that did not hold.
func (t *talk) fate() string {
	i, err := t.of.Info(t.c.ctx)
	switch {
	case err != nil:
		return "the state of the domain: " + err.Error()
	case i.LastStop != nil && !i.State.Active():
		return "the domain is " + i.State.String() + " because of " + i.LastStop.String()
	}
	return "the domain is " + i.State.String()
}

// awaits waits for a text, wherever it is in what the guest prints; what says
// what it stands for.
func (t *talk) awaits(what, want string) {
	for !strings.Contains(t.all(), want) {
		select {
		case <-t.changed:
			continue
		case <-t.over:
		case <-t.c.ctx.Done():
		}
		if said := t.all(); !strings.Contains(said, want) {
			t.c.Fatalf("the guest does not print %s, %q; it printed %q", what, want, tail(said))
		}
	}
}

func tail(s string) string {
	const keep = 500
	if len(s) > keep {
		return "..." + s[len(s)-keep:]
	}
	return s
}

// send types a line.
func (t *talk) send(line string) {
	if _, err := io.WriteString(t.rwc, line+"\n"); err != nil {
		t.c.Fatalf("typing %q on the console: %v", line, err)
	}
}

// ask types a command and gives its answer: what comes between the line and
// the next prompt.
func (t *talk) ask(command string) string {
	if command == "" {
		t.c.Fatalf("the harness's Guest has no word for what this case needs")
	}
	t.send(command)
	answer := t.await(t.c.h.Guest.Prompt)
	_, answer, _ = strings.Cut(answer, "\n")
	return answer
}

var firstNumber = regexp.MustCompile(`[0-9]+`)

// number asks for a number.
func (t *talk) number(command string) int {
	answer := t.ask(command)
	n, err := strconv.Atoi(firstNumber.FindString(answer))
	if err != nil {
		t.c.Fatalf("the guest answers %q to %q; want a number in it", answer, command)
	}
	return n
}

// cpus is how many processors the guest runs on.
func (t *talk) cpus() int { return t.number(t.c.h.Guest.CPUs) }

// memory is how much memory the guest has.
func (t *talk) memory() polyvisor.Bytes {
	return polyvisor.Bytes(t.number(t.c.h.Guest.Memory)) * polyvisor.MiB
}
