// Package cli is the polyvisor command, in a form that a test can run inside
// its own process. Commands are grouped in files by concern; each opens one
// connection, makes a few calls of the root package and prints the result.
package cli

import (
	"bytes"
	"context"
	"io"
	"strings"
	"sync"

	"github.com/spf13/cobra"
)

// Main runs one command line, without the program's name, and returns the
// exit code; docs/cli.md has the table of codes. While it runs it owns the
// process's handling of SIGINT, SIGTERM and SIGHUP.
//
// If stdin is an *os.File, nothing goes on reading it after Main has returned.
// Another reader may be left with one Read under way.
func Main(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, sig := watchSignals(ctx)
	defer sig.stop()
	a := &app{stdin: stdin, stdout: stdout, stderr: &lockedWriter{w: stderr}, signals: sig}
	root := a.root()
	if args == nil {
		args = []string{} // cobra would take the arguments of the process
	}
	root.SetArgs(args)
	return a.exitCode(ctx, root.ExecuteContext(ctx))
}

// app is one invocation of the command.
type app struct {
	stdin   io.Reader
	stdout  io.Writer
	stderr  *lockedWriter
	signals *signals

	uri      string
	readOnly bool
	early    directory
	verbose  bool
	quiet    bool // no warnings either: a shell asks, nobody reads

	// ran tells that a command's own code was reached: an error before that
	// is one of usage.
	ran bool
}

// lockedWriter lets the goroutines of a command write to one writer.
type lockedWriter struct {
	mu  sync.Mutex
	w   io.Writer
	raw bool // the terminal needs a carriage return before each line feed
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.raw {
		return l.w.Write(p)
	}
	if _, err := l.w.Write(bytes.ReplaceAll(p, []byte("\n"), []byte("\r\n"))); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (l *lockedWriter) setRaw(raw bool) {
	l.mu.Lock()
	l.raw = raw
	l.mu.Unlock()
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "polyvisor",
		Short: "Run and manage virtual machines",
		Long: `polyvisor runs and manages virtual machines ("domains").

A domain is transient or persistent: a transient one is gone when it stops, a
persistent one has a definition and can be started again. A domain runs on
when this command ends; "polyvisor list" shows it and "polyvisor console" goes
back to its console.

Which hypervisor is used is said by a URI: the flag --connect, else the
environment variable POLYVISOR_URI, else kvm:///system for root and
kvm:///session for everybody else.

NAME is a domain's name, its UUID or, while it is active, its ID.`,
		Example: `  polyvisor doctor
  polyvisor run --rm
  polyvisor run --name web --kernel auto --initrd initrd.img --memory 512MiB --vcpus 2
  polyvisor list --all`,
		Args:          wants(0, "a command; \"polyvisor help\" lists them"),
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage("%w; see \"%s --help\"", err, cmd.CommandPath())
	})
	f := root.PersistentFlags()
	f.StringVarP(&a.uri, "connect", "c", "", "URI of the hypervisor (default $POLYVISOR_URI, else kvm:///system for root and kvm:///session for others)")
	f.BoolVarP(&a.readOnly, "readonly", "r", false, "connect read-only: whatever would change a domain is refused")
	f.BoolVarP(&a.verbose, "verbose", "v", false, "log what happens to standard error")
	f.Var(&a.early, "early", "connect early: define the domains of the directory's *.xml files, which can then be run and nothing else be changed")
	_ = root.RegisterFlagCompletionFunc("connect", completeURI)
	_ = root.MarkPersistentFlagDirname("early")

	const life, definitions, resources, host = "life", "definitions", "resources", "host"
	root.AddGroup(
		&cobra.Group{ID: life, Title: "Running domains:"},
		&cobra.Group{ID: definitions, Title: "Domains and their definitions:"},
		&cobra.Group{ID: resources, Title: "Memory, CPUs and devices:"},
		&cobra.Group{ID: host, Title: "Host and program:"},
	)
	for _, g := range []struct {
		id   string
		list []*cobra.Command
	}{
		{life, []*cobra.Command{a.runCommand(), a.startCommand(), a.consoleCommand(), a.execCommand(), a.waitCommand(), a.suspendCommand(),
			a.resumeCommand(), a.shutdownCommand(), a.rebootCommand(), a.destroyCommand(), a.createCommand(), a.saveCommand(), a.restoreCommand(), a.dumpCommand(),
			a.eventCommand()}},
		{definitions, []*cobra.Command{a.listCommand(), a.infoCommand(), a.domStateCommand(), a.domIDCommand(), a.domNameCommand(), a.domUUIDCommand(), a.configCommand(), a.dumpXMLCommand(), a.defineCommand(), a.undefineCommand(),
			a.autostartCommand(), a.renameCommand(), a.labelsCommand()}},
		{resources, []*cobra.Command{a.setMemoryCommand(), a.setMaxMemoryCommand(), a.setVCPUsCommand(), a.vcpuInfoCommand(), a.vcpuPinCommand(),
			a.vcpuConfigCommand(), a.attachDeviceCommand(), a.detachDeviceCommand(), a.updateDeviceCommand(), a.statsCommand()}},
		{host, []*cobra.Command{a.imageCommand(), a.doctorCommand(), a.nodeInfoCommand(), a.hostnameCommand(), a.conformanceCommand(), a.uriCommand(), a.versionCommand()}},
	} {
		for _, c := range g.list {
			c.GroupID = g.id
			root.AddCommand(c)
		}
	}
	root.SetHelpCommandGroupID(host)
	root.SetCompletionCommandGroupID(host)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	explainCompletion(root)
	refuseUnknown(root)
	return root
}

// action makes a command's RunE of f and marks that it was reached.
func (a *app) action(f func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		a.ran = true
		return f(cmd.Context(), args)
	}
}

// wants admits exactly n arguments, which what names.
func wants(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < n:
			return usage("%s: want %s; see \"%s --help\"", command(cmd), what, cmd.CommandPath())
		case len(args) > n && !cmd.HasParent():
			return usage("unknown command %q; want %s", args[0], what)
		case len(args) > n:
			return usage("%s: unexpected argument %q; see \"%s --help\"", command(cmd), args[n], cmd.CommandPath())
		}
		return nil
	}
}

// command is what the user called, without the name of the program, which is in
// front of every message.
func command(cmd *cobra.Command) string {
	return strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()+" ")
}
