//go:build linux

package nestedvm

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"
)

// monitor is QEMU's human monitor, by which a machine that hangs is asked where its processors are.
type monitor struct{ f *os.File }

const monitorPrompt = "(qemu) "

// registers asks for the registers of all processors three times, so that one that spins is told from one that stands,
// and once for the state of their interrupt controllers. A QEMU that does not answer ends the list.
func (m *monitor) registers(cpus int) string {
	var b strings.Builder
	if err := m.f.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return fmt.Sprintf("(no registers: %v)", err)
	}
	commands := []string{"info registers -a", "info registers -a", "info registers -a"}
	for i := range cpus {
		commands = append(commands, fmt.Sprintf("info lapic %d", i))
	}
	if _, err := m.answer(); err != nil { // the greeting
		return fmt.Sprintf("(no registers: %v)", err)
	}
	for i, c := range commands {
		if _, err := fmt.Fprintln(m.f, c); err != nil {
			fmt.Fprintf(&b, "(%s: %v)\n", c, err)
			break
		}
		said, err := m.answer()
		fmt.Fprintf(&b, "%s\n%s", c, interesting(said))
		if err != nil {
			fmt.Fprintf(&b, "(%s: %v)\n", c, err)
			break
		}
		if i < 2 {
			time.Sleep(200 * time.Millisecond)
		}
	}
	return strings.TrimSpace(b.String())
}

// answer reads up to the next prompt.
func (m *monitor) answer() (string, error) {
	var said []byte
	buf := make([]byte, 16<<10)
	for !bytes.HasSuffix(said, []byte(monitorPrompt)) {
		n, err := m.f.Read(buf)
		said = append(said, buf[:n]...)
		if err != nil {
			return string(said), err
		}
		if len(said) > 1<<20 {
			return "", errors.New("more than a MiB without a prompt")
		}
	}
	return string(said), nil
}

// Lines of the monitor that say where a processor is and what it waits for.
var tellingLine = regexp.MustCompile(`^(CPU#|R[A-Z0-9 ]{2}=|GS =|CS =|CR0=|EFER=|Timer|ISR|IRR|ICR)`)

func interesting(said string) string {
	var b strings.Builder
	for line := range strings.Lines(strings.ReplaceAll(said, "\r", "")) {
		if tellingLine.MatchString(line) {
			b.WriteString("  " + line)
		}
	}
	return b.String()
}
