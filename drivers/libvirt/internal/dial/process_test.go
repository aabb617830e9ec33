package dial

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/uri"
)

func script(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "program")
	require.NoError(t, os.WriteFile(file, []byte("#!/bin/sh\n"+text+"\n"), 0o755))
	return file
}

func TestExt(t *testing.T) {
	conn, err := dialURI(within(t), t, "qemu+ext:///system?command="+script(t, "exec cat"), Options{})
	mustEcho(t, conn, err)
	conn, err = dialURI(within(t), t, "qemu+ext:///system?command="+script(t, "echo oops >&2; exit 3"), Options{})
	require.NoError(t, err)
	_, err = io.ReadAll(conn)
	mustFail(t, conn, err, ErrUnreachable, "ended with exit status 3: oops")
	conn, err = dialURI(within(t), t, "qemu+ext:///system?command=/nowhere/program", Options{})
	mustFail(t, conn, err, ErrConfig, "command=/nowhere/program cannot be started")

	// A program that ignores its end, and whose child keeps its files.
	conn, err = dialURI(within(t), t, "qemu+ext:///system?command="+script(t, "trap '' TERM HUP PIPE INT; sleep 3 & echo ready; while :; do sleep 1; done"), Options{})
	require.NoError(t, err)
	_, err = conn.Read(make([]byte, 6))
	require.NoError(t, err)
	require.NoError(t, conn.Close())
}

func TestSSHProgramArguments(t *testing.T) {
	dir := t.TempDir()
	fake := script(t, `for a in "$@"; do printf '%s\n' "$a"; done > `+dir+`/args; exec cat`)
	for _, c := range []struct {
		uri      string
		readOnly bool
		want     []string
	}{
		// The first are what libvirt 9.0 starts for the same URIs.
		{"qemu+ssh://joe@h.example:2222/system?keyfile=/k+1&no_verify=1&no_tty=1", true,
			[]string{"-p", "2222", "-l", "joe", "-i", "/k+1", "-T", "-e", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "--", "h.example"}},
		{"qemu+ssh://h/session?proxy=native", true, []string{"-T", "-e", "none", "--", "h"}},
		{"qemu+ssh:///system?known_hosts=/a%20b&known_hosts_verify=auto", false,
			[]string{"-T", "-e", "none", "-o", "StrictHostKeyChecking=accept-new", "-o", `UserKnownHostsFile="/a b"`, "--", "localhost"}},
	} {
		conn, err := dialURI(within(t), t, c.uri+sep(c.uri)+"command="+fake, Options{ReadOnly: c.readOnly})
		mustEcho(t, conn, err)
		text, err := os.ReadFile(filepath.Join(dir, "args"))
		require.NoError(t, err)
		got := strings.Split(strings.TrimSpace(string(text)), "\n")
		require.Len(t, got, len(c.want)+1)
		assert.Equal(t, c.want, got[:len(c.want)], c.uri)
		assert.True(t, strings.HasPrefix(got[len(c.want)], "sh -c '"), got[len(c.want)])
	}
}

func sep(s string) string {
	if strings.Contains(s, "?") {
		return "&"
	}
	return "?"
}

// The far side's script, run by this host's shells with programs of our own.
func TestRemoteCommand(t *testing.T) {
	sock := func(t *testing.T, path string) { serveUnix(t, path, echo) }
	for _, c := range []struct {
		name, uri string
		readOnly  bool
		programs  []string // besides test, grep, id
		sockets   []string // in $DIR
		want      string
		status    int
	}{
		{"the helper", "qemu+ssh://h/session", false, []string{"virt-ssh-helper", "nc"}, nil, "virt-ssh-helper [qemu:///session]", 0},
		{"the helper, read-only", "qemu+ssh://h/system", true, []string{"virt-ssh-helper"}, nil, "virt-ssh-helper [-r][qemu:///system]", 0},
		{"a socket needs none", "qemu+ssh://h/system?socket=$DIR/s%20s", false, []string{"virt-ssh-helper", "nc"}, []string{"s s"}, "nc [-U][$DIR/s s]", 0},
		{"an nc that stays", "qemu+ssh://h/system?socket=$DIR/s", false, []string{"ncq"}, []string{"s"}, "nc [-q0][-U][$DIR/s]", 0},
		{"netcat=", "qemu+ssh://h/system?socket=$DIR/s&netcat=my+cat", false, []string{"my+cat", "nc"}, []string{"s"}, "my+cat [-U][$DIR/s]", 0},
		{"no netcat= there", "qemu+ssh://h/system?socket=$DIR/s&netcat=my+cat", false, []string{"nc", "socat"}, []string{"s"}, "no my+cat on this host", 127},
		{"only socat", "qemu+ssh://h/system?socket=$DIR/s", false, []string{"socat"}, []string{"s"}, "socat [-][UNIX-CONNECT:$DIR/s]", 0},
		{"nothing", "qemu+ssh://h/system?socket=$DIR/s", false, nil, []string{"s"}, "no nc on this host: install netcat-openbsd", 127},
		{"no socket", "qemu+ssh://h/system?socket=$DIR/s", false, []string{"nc"}, nil, "no libvirt daemon here: looked for $DIR/s", 1},
		{"a user's own", "qemu+ssh://h/session", false, []string{"nc"}, []string{"run/libvirt/libvirt-sock"}, "nc [-U][$DIR/run/libvirt/libvirt-sock]", 0},
		{"a user's own, modular", "qemu+ssh://h/session", true, []string{"nc"}, []string{"run/libvirt/libvirt-sock", "run/libvirt/virtqemud-sock"}, "nc [-U][$DIR/run/libvirt/virtqemud-sock]", 0},
		{"a user's own, in the cache", "qemu+ssh://h/session?mode=legacy", false, []string{"virt-ssh-helper", "nc"}, []string{"home/.cache/libvirt/libvirt-sock"}, "nc [-U][$DIR/home/.cache/libvirt/libvirt-sock]", 0},
		{"proxy=netcat", "qemu+ssh://h/session?proxy=netcat", false, []string{"virt-ssh-helper", "nc"}, []string{"run/libvirt/virtqemud-sock"}, "nc [-U][$DIR/run/libvirt/virtqemud-sock]", 0},
		{"proxy=native", "qemu+ssh://h/system?proxy=native", false, []string{"nc"}, nil, "virt-ssh-helper: not found", 127},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "r") // short, for the sockets
			require.NoError(t, err)
			defer os.RemoveAll(dir)
			for _, s := range c.sockets {
				sock(t, filepath.Join(dir, s))
			}
			bin := filepath.Join(dir, "bin")
			require.NoError(t, os.Mkdir(bin, 0o755))
			put := func(name, text string) {
				require.NoError(t, os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755))
			}
			put("id", "echo 1000")
			for _, tool := range []string{"grep", "sh"} {
				path, err := exec.LookPath(tool)
				require.NoError(t, err)
				require.NoError(t, os.Symlink(path, filepath.Join(bin, tool)))
			}
			for _, p := range c.programs {
				text := `if [ "$1" = -q ]; then echo "invalid option -- 'q'" >&2; exit 1; fi; `
				if p == "ncq" {
					p, text = "nc", `if [ "$1" = -q ]; then echo "nc: option requires an argument -- 'q'" >&2; exit 1; fi; `
				}
				put(p, text+`printf '`+p+` '; printf '[%s]' "$@"`)
			}
			target, err := uri.Parse(strings.ReplaceAll(c.uri, "$DIR", dir))
			require.NoError(t, err)
			d := &dialer{Target: target, Options: Options{ReadOnly: c.readOnly}}
			for _, shell := range []string{"sh", "bash"} {
				path, err := exec.LookPath(shell)
				if err != nil {
					continue
				}
				cmd := exec.Command(path, "-c", d.remoteCommand())
				cmd.Env = []string{"PATH=" + bin, "HOME=" + dir + "/home", "XDG_RUNTIME_DIR=" + dir + "/run"}
				out, _ := cmd.CombinedOutput()
				assert.Contains(t, string(out), strings.ReplaceAll(c.want, "$DIR", dir), shell)
				assert.Equal(t, c.status, cmd.ProcessState.ExitCode(), shell)
			}
		})
	}
}
