package cli

import (
	"context"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
)

// What the tests look at from outside.
var (
	DefaultURI = defaultURI
	StopCode   = stopCode
)

const SameSignal = sameSignal

// Root is the tree of commands.
func Root() *cobra.Command { return (&app{stderr: &lockedWriter{}}).root() }

// Logger is that of a command line without --verbose.
func Logger(w io.Writer) *slog.Logger { return (&app{stderr: &lockedWriter{w: w}}).logger() }

// SetHostRoot makes another directory hold the files of the host.
func SetHostRoot(dir string) (back func()) {
	before := hostRoot
	hostRoot = dir
	return func() { hostRoot = before }
}

type panickingConsole struct{ io.ReadWriteCloser }

func (panickingConsole) Read([]byte) (int, error) { panic("a fault in the console") }
func (panickingConsole) Close() error             { return nil }

// AttachPanicking attaches the terminal to a console whose Read panics.
func AttachPanicking(tty *os.File) {
	ctx, sig := watchSignals(context.Background())
	defer sig.stop()
	a := &app{stdin: tty, stdout: tty, stderr: &lockedWriter{w: io.Discard}, signals: sig}
	_, _ = a.attach(ctx, panickingConsole{}, nil, nil)
}
