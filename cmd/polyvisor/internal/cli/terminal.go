package cli

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

// terminal is standard input in raw mode: keys go to the guest as they are,
// Ctrl-C among them.
type terminal struct {
	fd     int
	before *term.State
	out    *os.File // standard output if it is a terminal too
}

// isTerminal reports whether r is a terminal.
func isTerminal(r any) bool {
	f, ok := r.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// rawTerminal puts standard input into raw mode if it is a terminal; else it
// gives nil. The caller calls restore.
func rawTerminal(in io.Reader, out io.Writer) (*terminal, error) {
	if !isTerminal(in) {
		return nil, nil
	}
	t := &terminal{fd: int(in.(*os.File).Fd())}
	if isTerminal(out) {
		t.out = out.(*os.File)
	}
	var err error
	if t.before, err = term.MakeRaw(t.fd); err != nil {
		return nil, fmt.Errorf("terminal: cannot be put into raw mode: %w", err)
	}
	return t, nil
}

// restore gives the terminal back as it was. A guest may have left colours on or
// the cursor hidden; the next prompt begins on a line of its own.
func (t *terminal) restore() {
	if t.out != nil {
		sane := "\r\n"
		if name := os.Getenv("TERM"); name != "" && name != "dumb" {
			sane = "\x1b[0m\x1b[?25h\r\n"
		}
		_, _ = t.out.WriteString(sane)
	}
	// It fails when the terminal is gone, and then nothing is left to restore.
	_ = term.Restore(t.fd, t.before)
}
