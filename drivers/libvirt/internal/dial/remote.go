package dial

import (
	"fmt"
	"path"
	"strings"

	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/uri"
)

// remoteSockets gives the system daemons' sockets on the far side, best first.
func (d *dialer) remoteSockets() []string {
	if d.Socket != "" {
		return []string{d.Socket}
	}
	names := d.SocketNames(false, d.ReadOnly)
	for i, name := range names {
		names[i] = path.Join(uri.SystemDir, name)
	}
	return names
}

// remoteCommand is what runs on the far side of ssh when no socket can be opened
// there directly: virt-ssh-helper, which finds and starts daemons, or else nc or
// socat on the first socket that is there. It is one line of POSIX shell, quoted
// for any login shell.
func (d *dialer) remoteCommand() string {
	native := "virt-ssh-helper "
	if d.ReadOnly {
		native += "-r "
	}
	native += shellQuote(d.Name)
	if d.Proxy == uri.ProxyNative {
		return "sh -c " + shellQuote("exec "+native)
	}
	var script []string
	// As in libvirt, who says which socket or program wants no helper; and it
	// knows nothing of modes.
	automatic := d.Proxy != uri.ProxyNetcat && d.Socket == "" && d.Netcat == "" && (d.Mode == "" || d.Mode == uri.ModeAuto)
	if automatic {
		script = append(script, "if command -v virt-ssh-helper >/dev/null 2>&1; then exec "+native+"; fi")
	}
	script = append(script, d.socketList())
	netcat := d.Netcat
	if netcat == "" {
		netcat = "nc"
	}
	nc := shellQuote(netcat)
	connect := fmt.Sprintf(`if command -v %[1]s >/dev/null 2>&1; then `+
		// Those that know -q stay after the end of input unless they are told.
		`if %[1]s -q </dev/null 2>&1 | grep "requires an argument" >/dev/null 2>&1; then exec %[1]s -q0 -U "$s"; fi; exec %[1]s -U "$s"; fi; `, nc)
	if d.Netcat == "" {
		connect += `if command -v socat >/dev/null 2>&1; then exec socat - "UNIX-CONNECT:$s"; fi; `
	}
	script = append(script,
		`for s in "$@"; do if test -S "$s"; then `+connect+`echo "no `+strings.Trim(shellQuote(netcat), "'")+` on this host: install netcat-openbsd or libvirt" >&2; exit 127; fi; done`,
		`echo "no libvirt daemon here: looked for $*" >&2; exit 1`)
	return "sh -c " + shellQuote(strings.Join(script, "; "))
}

// socketList is shell that sets $@ to the sockets to try.
func (d *dialer) socketList() string {
	quoted := func(paths []string) string {
		q := make([]string, len(paths))
		for i, p := range paths {
			q[i] = shellQuote(p)
		}
		return strings.Join(q, " ")
	}
	system := "set -- " + quoted(d.remoteSockets())
	if d.Socket != "" || !d.Session() {
		return system
	}
	var own []string
	for _, dir := range []string{`"${XDG_RUNTIME_DIR:-/run/user/$(id -u)}/libvirt/`, `"${XDG_CACHE_HOME:-$HOME/.cache}/libvirt/`} {
		for _, name := range d.SocketNames(true, d.ReadOnly) {
			own = append(own, dir+strings.ReplaceAll(name, `"`, "")+`"`)
		}
	}
	// Root's own daemon is the system's.
	return `if test "$(id -u)" = 0; then ` + system + `; else set -- ` + strings.Join(own, " ") + `; fi`
}

// shellQuote makes one word of s for any POSIX shell.
func shellQuote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
