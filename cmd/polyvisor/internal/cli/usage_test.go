package cli_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/cmd/polyvisor/internal/cli"
)

func TestUsageErrors(t *testing.T) {
	h, uri := host(t)
	h.noConsole = true
	for _, tc := range []struct {
		args string
		want string
	}{
		{"frobnicate", "unknown command \"frobnicate\""},
		{"lst", "unknown command \"lst\""},
		{"list --al", "unknown flag: --al; see \"polyvisor list --help\""},
		{"list -z", "unknown shorthand flag: 'z' in -z; see \"polyvisor list --help\""},
		{"--bad", "unknown flag: --bad; see \"polyvisor --help\""},
		{"help nosuch", "unknown command \"nosuch\"; \"polyvisor help\" lists the commands"},
		{"help list nosuch", "unknown command \"list nosuch\""},
		{"completion tcsh", "unknown shell \"tcsh\"; want bash, fish, powershell, zsh"},
		{"completion bash more", "unexpected argument \"more\""},
		{"list extra", "unexpected argument \"extra\""},
		{"list --all --inactive", "[all inactive]"},
		{"list -o yaml", "want table or json"},
		{"info", "want the name, the UUID or the ID of one domain"},
		{"domstate", "want the name, the UUID or the ID of one domain"},
		{"domid a b", "unexpected argument \"b\""},
		{"nodeinfo x", "unexpected argument \"x\""},
		{"hostname -o yaml", "want table or json"},
		{"--early= list", "want a directory"},
		{"-r --early /d list", "leave --readonly or --early out"},
		{"info a b", "unexpected argument \"b\""},
		{"info ../x", "slash"},
		{"define", "want a file"},
		{"start", "want the name"},
		{"run a.json b.json", "unexpected argument \"b.json\""},
		{"run --file a.json b.json", "both --file a.json and b.json"},
		{"run --", "want a command after --"},
		{"run a.json b.json -- true", "unexpected argument \"b.json\""},
		{"run -- true", "a command after -- runs on this host's KVM; the connection is memtest:///"},
		{"run --detach -- true", "--detach is not for a command after --"},
		{"run --timeout 1s", "--timeout and --tty are for a command after --"},
		{"run --memory 512", "512 alone means bytes; for MiB write 512MiB"},
		{"run --memory many", "want a number and a unit"},
		{"run --memory 1048577", "not a multiple of 4KiB"},
		{"run --vcpus 0", "--vcpus: a domain cannot run without a vCPU; give 1 or more"},
		{"run -m 0MiB", "--memory: a domain cannot run without memory; give a size"},
		{"run -m 0KiB --vcpus 2", "--memory: a domain cannot run without memory; give a size"},
		{"run --vcpus -2", "vcpus: -2 is negative"},
		{"run --uuid x", "--uuid \"x\": invalid UUID"},
		{"run --name=", "every domain needs a name"},
		{"run --initrd i", "needs boot.kernel"},
		{"run --on-reboot never", "\"never\" is not an action"},
		{"run", "has no console; give --detach"},
		{"start --console --paused x", "[console paused]"},
		{"setmem x", "want a domain and a size"},
		{"setmem x 512", "512 alone means bytes"},
		{"setmaxmem x much", "want a number and a unit"},
		{"setvcpus x many", "setvcpus: \"many\" is not a number"},
		{"vcpupin x 0 a", "\"a\" is not a CPU"},
		{"vcpupin x 0", "want a domain and the number of a vCPU and a list of CPUs"},
		{"vcpuconfig x 0", "nothing to change"},
		{"vcpuconfig x y --weight 1", "\"y\" is not a number"},
		{"domrename x a/b", "slash"},
		{"labels x tier", "want KEY=VALUE"},
		{"labels", "want the name"},
		{"list --label tier", "want KEY=VALUE"},
		{"domstats --all x", "leave the names out"},
		{"domstats a/b", "slash"},
		{"event a b", "unexpected argument"},
		{"event --count -1", "must not be negative"},
		{"save x", "want a domain and a file"},
		{"restore", "want a file"},
		{"create", "want a file"},
		{"attach-device x", "want a domain and a file"},
		{"wait --timeout soon x", "invalid argument \"soon\""},
	} {
		t.Run(tc.args, func(t *testing.T) {
			code, out, err := invoke(t, "", append([]string{"-c", uri}, strings.Fields(tc.args)...)...)
			require.Equal(t, 2, code, err)
			require.Empty(t, out)
			require.Contains(t, err, tc.want)
			require.True(t, strings.HasPrefix(err, "polyvisor: "), err)
			require.False(t, strings.HasPrefix(err, "polyvisor: polyvisor "), err)
			require.Equal(t, 1, strings.Count(err, "\n"), "one line: %q", err)
		})
	}
	require.Empty(t, h.domains)
}

func TestFailures(t *testing.T) {
	_, uri := host(t)
	defineAll(t, uri, "web", "on")
	must(t, "-c", uri, "start", "on")
	for _, tc := range []struct{ args, want string }{
		{"-c " + uri + " suspend web", "domain is shutoff, suspend needs it running or blocked; start it first"},
		{"-c " + uri + " console web", "start it first"},
		{"-c " + uri + " -r start web", "connection is read-only; leave --readonly out"},
		{"-c nosuch:///x list", "no driver for nosuch:// is linked into this program (known: "},
		{"-c memtest:///x?colour=red list", "unknown parameter colour"},
		{"-c memtest:/// list", "not found: no host"},
		{"-c memtest list", "no driver; want DRIVER:///PATH"},
		{"-c :: list", "missing protocol scheme; want DRIVER:///PATH, such as kvm:///session"},
		{"-c " + uri + " start on", "start needs it shutoff or crashed; shut it down or destroy it first"},
		{"-c memtest:///x info 77", "lookup \"ID 77\": not found"},
		{"-c memtest:///x info 2a2e1b5c-0000-4000-8000-000000000000", "lookup \"2a2e1b5c-0000-4000-8000-000000000000\": not found"},
	} {
		t.Run(tc.args, func(t *testing.T) {
			code, out, err := invoke(t, "", strings.Fields(tc.args)...)
			require.Equal(t, 1, code, err)
			require.Empty(t, out)
			require.Contains(t, err, tc.want)
			require.Equal(t, 1, strings.Count(err, "\n"), "one line: %q", err)
		})
	}
}

func TestURI(t *testing.T) {
	require.Equal(t, "memtest:///a?b=c\n", must(t, "-c", "memtest:///a?b=c", "uri"))
	t.Setenv("POLYVISOR_URI", "memtest:///env")
	require.Equal(t, "memtest:///env\n", must(t, "uri"))
	require.Equal(t, "memtest:///flag\n", must(t, "uri", "--connect", "memtest:///flag"))
	t.Setenv("POLYVISOR_URI", "")
	want := "kvm:///session\n"
	if os.Getuid() == 0 {
		want = "kvm:///system\n"
	}
	require.Equal(t, want, must(t, "uri"))
	require.Equal(t, "kvm:///session", cli.DefaultURI(1000))
	require.Equal(t, "kvm:///system", cli.DefaultURI(0))
	code, _, err := invoke(t, "", "-c", "memtest://user:secret@host/", "uri")
	require.Equal(t, 1, code)
	require.NotContains(t, err, "secret")
}

func TestVersion(t *testing.T) {
	_, uri := host(t)
	out := must(t, "-c", uri, "version")
	require.Contains(t, out, "polyvisor:    "+polyvisor.LibraryVersion+" (go")
	require.Contains(t, out, "hypervisor:   memtest 1\n")
	out = must(t, "-c", "nosuch:///x", "version", "-o", "json")
	require.Contains(t, out, `"error": "nosuch: open: unsupported operation: no driver`)
}

func TestVerbose(t *testing.T) {
	_, uri := host(t)
	code, _, err := invoke(t, "", "-v", "-c", uri, "list")
	require.Zero(t, code)
	require.Contains(t, err, "level=DEBUG msg=connected uri="+uri)
}

// Every command explains itself.
func TestHelp(t *testing.T) {
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		t.Run(c.CommandPath(), func(t *testing.T) {
			require.NotEmpty(t, c.Short)
			require.NotEmpty(t, c.Long)
			require.Contains(t, c.Example, "polyvisor")
			require.False(t, strings.HasSuffix(c.Short, "."), c.Short)
			for _, line := range strings.Split(c.Long, "\n") {
				require.LessOrEqual(t, len(line), 82, line)
			}
		})
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(cli.Root())
	require.Contains(t, must(t), "Running domains:")
	require.Contains(t, must(t, "help", "run"), "--on-reboot")
	require.Contains(t, must(t, "help", "completion", "bash"), "autocompletion script for the bash shell")
	require.Contains(t, must(t, "help"), "Running domains:")
	require.Contains(t, must(t, "completion"), "Available Commands:")
	require.Contains(t, must(t, "completion", "bash"), "polyvisor")
}

// docs/cli.md has every command and every flag.
func TestDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../../../docs/cli.md")
	require.NoError(t, err)
	for _, c := range cli.Root().Commands() {
		require.Contains(t, string(doc), "polyvisor "+c.Name(), "command")
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Name != "help" {
				require.Contains(t, string(doc), "--"+f.Name, "flag of %s", c.Name())
			}
		})
	}
	for _, r := range polyvisor.StopReasons() {
		require.Contains(t, string(doc), fmt.Sprintf("| %d | %s |", cli.StopCode(r), r))
	}
}

func TestCompletion(t *testing.T) {
	h, uri := host(t)
	defineAll(t, uri, "ant", "bee", "cow")
	must(t, "-c", uri, "start", "bee")
	must(t, "-c", uri, "start", "cow")
	must(t, "-c", uri, "suspend", "cow")
	for _, tc := range []struct {
		args string
		want []string
	}{
		{"info", []string{"ant\tshutoff", "bee\trunning", "cow\tpaused"}},
		{"start", []string{"ant\tshutoff"}},
		{"suspend", []string{"bee\trunning"}},
		{"resume", []string{"cow\tpaused"}},
		{"destroy", []string{"bee\trunning", "cow\tpaused"}},
		{"info ant", nil},
		{"domstate", []string{"ant\tshutoff", "bee\trunning", "cow\tpaused"}},
		{"domid ant", nil},
		{"nodeinfo -o", []string{"table", "json"}},
		{"hostname", nil},
		{"list -o", []string{"table", "json"}},
		{"run --on-reboot", []string{"destroy", "restart", "preserve", "rename-restart"}},
		{"dumpxml", []string{"ant\tshutoff", "bee\trunning", "cow\tpaused"}},
		{"save", []string{"bee\trunning", "cow\tpaused"}},
		{"domrename", []string{"ant\tshutoff"}},
		{"setmem ant", nil},
		{"event -o", []string{"table", "json"}},
	} {
		t.Run(tc.args, func(t *testing.T) {
			words := append([]string{"__complete", "-c", uri, "-v"}, strings.Fields(tc.args)...)
			code, out, _ := invoke(t, "", append(words, "")...)
			require.Zero(t, code)
			lines := strings.Split(strings.TrimSpace(out), "\n")
			require.Equal(t, ":4", lines[len(lines)-1], "no file names")
			require.ElementsMatch(t, tc.want, lines[:len(lines)-1])
		})
	}
	_, out, _ := invoke(t, "", "__complete", "define", "")
	require.Equal(t, "json\nxml\n:8\n", out)
	_, out, _ = invoke(t, "", "__complete", "-c", uri, "attach-device", "ant", "")
	require.Equal(t, "json\nxml\n:8\n", out)
	_, out, _ = invoke(t, "", "__complete", "-c", uri, "save", "ant", "")
	require.Equal(t, ":0\n", out, "any file")
	_, out, _ = invoke(t, "", "__complete", "-c", "mem")
	require.Contains(t, out, "memtest:///session")

	// A hypervisor that is absent or hangs gives nothing, and no error.
	code, out, _ := invoke(t, "", "__complete", "-c", "nosuch:///x", "info", "")
	require.Zero(t, code)
	require.Equal(t, ":4\n", out)
	h.slow = patience
	code, out, _ = invoke(t, "", "__complete", "-c", uri, "info", "")
	require.Zero(t, code)
	require.Equal(t, ":4\n", out)
}

type brokenWriter struct{ err error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.err }

func TestBrokenOutput(t *testing.T) {
	_, uri := host(t)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	r.Close()
	defer w.Close()
	var msg bytes.Buffer
	require.Equal(t, 141, cli.Main(context.Background(), []string{"-c", uri, "list"}, strings.NewReader(""), w, &msg))
	require.Empty(t, msg.String(), "a closed pipe is no news")
	require.Equal(t, 1, cli.Main(context.Background(), []string{"-c", uri, "list"}, strings.NewReader(""), brokenWriter{errors.New("disk full")}, &msg))
	require.Equal(t, "polyvisor: standard output: disk full\n", msg.String())
}

func TestContext(t *testing.T) {
	_, uri := host(t)
	defineAll(t, uri, "web")
	must(t, "-c", uri, "start", "web")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var out, msg bytes.Buffer
	require.Equal(t, 1, cli.Main(ctx, []string{"-c", uri, "wait", "web"}, strings.NewReader(""), &out, &msg))
	require.Contains(t, msg.String(), "context canceled")
}

func TestDoctor(t *testing.T) {
	_, uri := host(t)
	out := must(t, "-c", uri, "doctor")
	require.Contains(t, out, "driver  ok       memtest, memtest 1, amd64 guests, up to 8 vCPUs\n")
	require.Contains(t, out, "virtual machines can run here\n")

	dir := t.TempDir()
	cli.KVMDirectories = func(u *polyvisor.URI) (string, string, error) {
		return dir + u.Path + "/state", dir + u.Path + "/run", nil
	}
	t.Cleanup(func() { cli.KVMDirectories = nil })
	code, out, err := invoke(t, "", "-c", "kvm:///session?device=/nonexistent", "doctor", "-o", "json")
	require.Equal(t, 1, code)
	require.Empty(t, err)
	require.Contains(t, out, `"usable": false`)
	require.Contains(t, out, "/nonexistent does not exist")
	for _, name := range []string{"driver", "platform", "kvm device", "kvm kind", "nested", "tun", "vhost-net", "vhost-vsock",
		"huge pages", "transparent huge pages", "memory", "state directory", "run directory", "kernel"} {
		require.Contains(t, out, fmt.Sprintf(`"name": %q`, name))
	}
	require.Contains(t, out, dir+"/session/run")
}

// The advice fits what is wrong, and none is given twice.
func TestAdvice(t *testing.T) {
	h, uri := host(t)
	for _, tc := range []struct {
		fault error
		want  string
	}{
		{fmt.Errorf("kernel: %w", polyvisor.ErrNotFound), "not found; mend the path, or take \"run --kernel auto\" for the newest kernel of this host\n"},
		{fmt.Errorf("initrd: %w", polyvisor.ErrNotFound), "not found; mend the path or make what it names\n"},
		{fmt.Errorf("console log: %w", polyvisor.ErrNotFound), "not found; mend the path or make what it names\n"},
		{fmt.Errorf("kernel: %w", polyvisor.ErrPermission), "denied; mend the permissions of the file and of the directories above it\n"},
		{polyvisor.ErrPermission, "denied; \"polyvisor doctor\" shows what this host lacks\n"},
		{fmt.Errorf("%w; choose another name", polyvisor.ErrExists), "choose another name; \"polyvisor undefine --destroy web\" removes the domain\n"},
		{polyvisor.ErrExists, "exists already; choose another name, or remove the domain with \"polyvisor undefine --destroy web\"\n"},
		{errors.Join(errors.New("one"), errors.New("two")), "one; two\n"},
	} {
		h.failStart = tc.fault
		code, _, err := invoke(t, "", "-c", uri, "run", "--rm", "--name", "web")
		require.Equal(t, 1, code)
		require.True(t, strings.HasSuffix(err, tc.want), err)
	}
}

func TestWarnings(t *testing.T) {
	var b bytes.Buffer
	log := cli.Logger(&b)
	log.Info("not this")
	log.With("driver", "kvm").WithGroup("domain").With("name", "web").Warn("slow", "seconds", 3)
	log.Error("broken")
	require.Equal(t, "polyvisor: warning: slow, driver: kvm, domain.name: web, domain.seconds: 3\npolyvisor: warning: broken\n", b.String())
}

// A stock kernel hardly boots on a KVM in software, which the user is told before
// the run goes on as before: to its failure here, where no kvm driver is linked.
func TestAutoKernelOnSoftwareKVM(t *testing.T) {
	_, uri := host(t)
	for _, tc := range []struct {
		title, module, uri, kernel string
		warned                     bool
	}{
		{"software", "kvm_pvm", "kvm:///session", "auto", true},
		{"the CPU's", "kvm_amd", "kvm:///session", "auto", false},
		{"a kernel of the user's", "kvm_pvm", "kvm:///session", "/boot/vmlinuz-6", false},
		{"another driver", "kvm_pvm", uri, "auto", false},
		{"another host", "kvm_pvm", "kvm+ssh://far/session", "auto", false},
	} {
		t.Run(tc.title, func(t *testing.T) {
			root := t.TempDir()
			require.NoError(t, os.MkdirAll(filepath.Join(root, "sys/module", tc.module), 0o700))
			require.NoError(t, os.Mkdir(filepath.Join(root, "boot"), 0o700))
			kernel := filepath.Join(root, "boot/vmlinuz-6")
			require.NoError(t, os.WriteFile(kernel, nil, 0o600))
			t.Cleanup(cli.SetHostRoot(root))
			code, _, err := invoke(t, "", "-c", tc.uri, "run", "--detach", "--rm", "--kernel", tc.kernel)
			want := ""
			if tc.warned {
				want = "polyvisor: warning: KVM is of the kind PVM here, which virtualizes in software: " + kernel +
					" is unlikely to boot; \"polyvisor doctor\" tells more\n"
			}
			if tc.uri != uri {
				require.Equal(t, 1, code)
				require.Contains(t, err, "no driver")
				require.Equal(t, want, err[:strings.LastIndex(strings.TrimSuffix(err, "\n"), "\n")+1])
				return
			}
			require.Zero(t, code, err)
			require.Empty(t, err)
		})
	}
}
