package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/polyvisor/polyvisor"
)

// progress is a line on a terminal that says how far a command is. Elsewhere there is none.
type progress struct {
	a     *app
	what  string
	shown bool
	next  time.Time
}

func (a *app) newProgress(what string) *progress {
	p := &progress{what: what}
	if isTerminal(a.stderr.w) {
		p.a = a
	}
	return p
}

const barWidth = 30

// bar is the line without its end.
func bar(what string, done, total int64) string {
	part := float64(done) / float64(max(total, 1))
	full := int(part * barWidth)
	return fmt.Sprintf("%s [%s%s] %3d%% of %s", what, strings.Repeat("#", full), strings.Repeat(".", barWidth-full), int(part*100), polyvisor.Bytes(total))
}

func (p *progress) update(done, total int64) {
	if p.a == nil || done < total && time.Now().Before(p.next) {
		return
	}
	p.next = time.Now().Add(100 * time.Millisecond)
	p.shown = true
	// What cannot be shown is not missed.
	_, _ = fmt.Fprintf(p.a.stderr, "\r%s\x1b[K", bar(p.what, done, total))
}

// end leaves the line.
func (p *progress) end() {
	if p.shown {
		_, _ = fmt.Fprintln(p.a.stderr)
	}
}
