package uri

import (
	"os"
	"slices"
)

// Resolve gives the target of what a user wrote: a URI, an alias of
// libvirt.conf, or nothing. Nothing stands for LIBVIRT_DEFAULT_URI, then
// uri_default of libvirt.conf, then the QEMU daemon whose socket is on this host
// (the system's for root, the user's own and then the system's for others).
// remote_mode and remote_proxy of libvirt.conf are filled in.
func Resolve(s string, env Env) (*Target, error) {
	c, err := LoadConfig(env.ConfigFile())
	if err != nil {
		return nil, err
	}
	from := ""
	if s == "" {
		if s = env.Getenv("LIBVIRT_DEFAULT_URI"); s != "" {
			from = "LIBVIRT_DEFAULT_URI"
		} else if s = c.Default; s != "" {
			from = "uri_default in " + c.file
		} else if s = probe(env); s == "" {
			return nil, invalid("no URI is given, and there is no libvirt daemon of %s on this host: give a URI such as qemu+ssh://host/system, set LIBVIRT_DEFAULT_URI, or set uri_default in %s", who(env), c.file)
		}
	}
	if isAlias(s) {
		target, ok := c.Alias(s)
		if !ok {
			if from != "" {
				return nil, invalid("%s: %q is neither a URI nor an alias in uri_aliases of %s", from, s, c.file)
			}
			return nil, invalid("%q is neither a URI such as qemu:///system nor an alias in uri_aliases of %s", s, c.file)
		}
		from, s = "alias "+s+" in "+c.file, target
	}
	t, err := Parse(s)
	if err != nil {
		if from != "" {
			return nil, invalid("%s: %w", from, err)
		}
		return nil, err
	}
	if t.Mode == "" && (c.Mode != ModeDirect || t.modular() != "") {
		t.Mode = c.Mode
	}
	if t.Proxy == "" && (c.Proxy != ProxyNative || t.Netcat == "") {
		t.Proxy = c.Proxy
	}
	return t, nil
}

func who(env Env) string {
	if env.EUID == 0 {
		return "the system"
	}
	return "this user or the system"
}

// probe looks for a daemon on this host. libvirt asks each hypervisor in turn
// and starts daemons for it; this only looks, and only for QEMU.
func probe(env Env) string {
	candidates := []string{"qemu:///session", "qemu:///system"}
	if env.EUID == 0 {
		candidates = candidates[1:]
	}
	i := slices.IndexFunc(candidates, func(s string) bool {
		t, err := Parse(s)
		return err == nil && slices.ContainsFunc(t.Sockets(env, false), isSocket)
	})
	if i < 0 {
		return ""
	}
	return candidates[i]
}

func isSocket(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&os.ModeSocket != 0
}
