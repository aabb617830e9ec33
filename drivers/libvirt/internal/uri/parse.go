package uri

import (
	"errors"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
)

// clientOnly are hypervisors that libvirt's client library talks to itself, in
// protocols of theirs, so that no daemon can be dialed at their host.
var clientOnly = []string{"esx", "gsx", "vpx", "hyperv", "phyp"}

// Parse takes a URI apart. Aliases and the default are Resolve's. The error
// matches ErrInvalid.
func Parse(s string) (*Target, error) {
	t, err := parse(s)
	if err != nil && strings.Contains(s, "@") && passwordBeforeAt(s) {
		// What is wrong may be a part of the password, so nothing is quoted.
		return nil, invalid("it cannot be parsed or holds a password; libvirt takes none in a URI: use auth.conf or an ssh agent; write an '@' that does not end a user name as %%40")
	}
	return t, err
}

func passwordBeforeAt(s string) bool {
	before := s[:strings.LastIndexByte(s, '@')]
	if _, rest, ok := strings.Cut(before, "://"); ok {
		before = rest
	}
	return strings.Contains(before, ":")
}

func parse(s string) (*Target, error) {
	if !strings.Contains(s, "://") {
		return nil, invalid("%q: want DRIVER://[HOST]/PATH, such as qemu:///system", s)
	}
	raw, err := url.Parse(s)
	if err != nil {
		// The text of a *url.Error repeats the whole input.
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return nil, invalid("%w; want DRIVER://[HOST]/PATH, such as qemu:///system", err)
	}
	if raw.User != nil {
		if _, ok := raw.User.Password(); ok {
			return nil, invalid("a password is refused")
		}
	}
	bad := func(format string, args ...any) error {
		return invalid("%q: "+format, append([]any{s}, args...)...)
	}
	if raw.Fragment != "" {
		return nil, bad("a fragment (#%s) has no meaning; write '#' as %%23", raw.Fragment)
	}
	t := &Target{User: raw.User.Username(), Host: raw.Hostname(), Path: raw.Path}
	t.Local = raw.Host == "" && raw.User == nil

	driver, transport, given := strings.Cut(raw.Scheme, "+")
	t.Driver = driver
	if driver == "" {
		return nil, bad("no driver before the '+'; want such as qemu+%s", transport)
	}
	switch {
	case !given && raw.Host != "":
		t.Transport = TLS
	case !given:
		t.Transport = Unix
	default:
		switch transport {
		case "libssh", "libssh2":
			transport = "ssh"
		}
		t.Transport = Transport(transport)
		if !slices.Contains([]Transport{Unix, TCP, TLS, SSH, Ext}, t.Transport) {
			return nil, bad("unknown transport %q; want unix, tcp, tls, ssh or ext", transport)
		}
	}
	if strings.HasSuffix(raw.Host, ":") {
		return nil, bad("no port after the ':' of the host")
	}
	if p := raw.Port(); p != "" {
		if t.Port, err = strconv.Atoi(p); err != nil || t.Port < 1 || t.Port > 65535 {
			return nil, bad("port %s; want 1 to 65535", p)
		}
	}
	if err := t.checkHost(raw, given); err != nil {
		return nil, bad("%w", err)
	}
	rest, err := t.parameters(raw.RawQuery)
	if err != nil {
		return nil, bad("%w", err)
	}
	if err := t.checkParameters(); err != nil {
		return nil, bad("%w", err)
	}
	if t.Name == "" && driver != "remote" {
		t.Name = driver + "://" + raw.EscapedPath()
		if rest != "" {
			t.Name += "?" + rest
		}
	}
	return t, nil
}

func (t *Target) checkHost(raw *url.URL, transportGiven bool) error {
	if !transportGiven && !t.Local && slices.Contains(clientOnly, t.Driver) {
		return errors.New(t.Driver + " is not served by a libvirt daemon: libvirt's client library speaks with such hosts itself; use virsh for it, or a URI with the transport of a daemon that serves it")
	}
	switch t.Transport {
	case Unix:
		if raw.Host != "" {
			return errors.New("a unix socket is on this host; leave " + strconv.Quote(raw.Host) + " out, or use tls or ssh")
		}
	case TCP, TLS, SSH:
		if t.Host == "" {
			t.Host = "localhost" // as libvirt does
		}
		// ssh would take it for an option.
		if strings.HasPrefix(t.Host, "-") || strings.HasPrefix(t.User, "-") {
			return errors.New("host and user must not begin with '-'")
		}
		if strings.ContainsAny(t.Host+t.User, "\x00\r\n\t ") {
			return errors.New("host and user must not have spaces")
		}
	}
	return nil
}

// knownParameters sets each parameter of docs/uri.rst. All others go to the
// daemon within the name.
var knownParameters = map[string]func(t *Target, v string) error{
	"name":        func(t *Target, v string) error { t.Name = v; return nil },
	"command":     func(t *Target, v string) error { t.Command = v; return nil },
	"netcat":      func(t *Target, v string) error { t.Netcat = v; return nil },
	"auth":        func(t *Target, v string) error { t.Auth = v; return nil },
	"socket":      func(t *Target, v string) error { t.Socket = v; return absolute(v) },
	"keyfile":     func(t *Target, v string) error { t.KeyFile = v; return nil },
	"known_hosts": func(t *Target, v string) error { t.KnownHosts = v; return nil },
	"pkipath":     func(t *Target, v string) error { t.PKIPath = v; return nil },
	"authfile":    func(t *Target, v string) error { t.AuthFile = v; return nil },
	"no_verify":   func(t *Target, v string) (err error) { t.NoVerify, err = flag(v); return },
	"no_tty":      func(t *Target, v string) (err error) { t.NoTTY, err = flag(v); return },
	"no_sanity":   func(t *Target, v string) (err error) { _, err = flag(v); return },
	"mode":        func(t *Target, v string) (err error) { t.Mode, err = parseMode(v); return },
	"proxy":       func(t *Target, v string) (err error) { t.Proxy, err = parseProxy(v); return },
	"known_hosts_verify": func(t *Target, v string) (err error) {
		t.KnownHostsVerify, err = oneOf(v, VerifyNormal, VerifyAuto, VerifyIgnore)
		return
	},
	"sshauth": setSSHAuth,
	"tls_priority": func(*Target, string) error {
		return errors.New("it is for GnuTLS, which is not used here; TLS 1.2 and 1.3 are offered with safe ciphers: leave it out")
	},
}

func parseMode(v string) (Mode, error)   { return oneOf(v, ModeAuto, ModeDirect, ModeLegacy) }
func parseProxy(v string) (Proxy, error) { return oneOf(v, ProxyAuto, ProxyNetcat, ProxyNative) }

func oneOf[T ~string](v string, allowed ...T) (T, error) {
	if slices.Contains(allowed, T(v)) {
		return T(v), nil
	}
	words := make([]string, len(allowed))
	for i, a := range allowed {
		words[i] = string(a)
	}
	return "", errors.New("want " + strings.Join(words, ", "))
}

// flag reads a number that is true when it is not zero.
func flag(v string) (bool, error) {
	n, err := strconv.ParseInt(v, 10, 32)
	if err != nil {
		return false, errors.New("want 0 or 1")
	}
	return n != 0, nil
}

func absolute(v string) error {
	if !path.IsAbs(v) {
		return errors.New("want a path from the root")
	}
	return nil
}

// The methods of sshauth.
const (
	SSHAgent    = "agent"
	SSHKey      = "privkey"
	SSHPassword = "password"
	SSHKeyboard = "keyboard-interactive"
)

func setSSHAuth(t *Target, v string) error {
	for m := range strings.SplitSeq(v, ",") {
		m, err := oneOf(strings.TrimSpace(m), SSHAgent, SSHKey, SSHPassword, SSHKeyboard)
		if err != nil {
			return err
		}
		t.SSHAuth = append(t.SSHAuth, m)
	}
	return nil
}

// parameters reads the query as libvirt does: separated by '&' or ';', a '+' is
// a '+', names match in any case. It gives what is not known here, encoded.
func (t *Target) parameters(query string) (string, error) {
	var rest []string
	seen := map[string]bool{}
	for p := range strings.FieldsFuncSeq(query, func(r rune) bool { return r == '&' || r == ';' }) {
		rawName, rawValue, _ := strings.Cut(p, "=")
		name, err := url.PathUnescape(rawName)
		if err != nil {
			return "", invalidParameter(rawName, err)
		}
		value, err := url.PathUnescape(rawValue)
		if err != nil {
			return "", invalidParameter(name, err)
		}
		if strings.ContainsRune(name+value, 0) {
			return "", invalidParameter(name, errors.New("it has a zero byte"))
		}
		lower := strings.ToLower(name)
		set := knownParameters[lower]
		if set == nil {
			rest = append(rest, encode(name)+"="+encode(value))
			continue
		}
		if seen[lower] {
			return "", invalidParameter(name, errors.New("it is given twice"))
		}
		seen[lower] = true
		if value == "" {
			return "", invalidParameter(name, errors.New("it has no value"))
		}
		if err := set(t, value); err != nil {
			return "", invalidParameter(name+"="+value, err)
		}
	}
	return strings.Join(rest, "&"), nil
}

func invalidParameter(name string, err error) error {
	return &parameterError{name, err}
}

type parameterError struct {
	name string
	err  error
}

func (e *parameterError) Error() string { return "parameter " + e.name + ": " + e.err.Error() }
func (e *parameterError) Unwrap() error { return e.err }

// encode escapes all but the unreserved characters of RFC 3986.
func encode(s string) string {
	return strings.ReplaceAll(url.QueryEscape(s), "+", "%20")
}

// checkParameters refuses what contradicts itself.
func (t *Target) checkParameters() error {
	switch {
	case t.Transport == Ext && t.Command == "":
		return errors.New("the ext transport needs command=PROGRAM, which is started to carry the connection")
	case t.Netcat != "" && t.Proxy == ProxyNative:
		return errors.New("netcat= is not used with proxy=native; leave one of them out")
	case t.Mode == ModeDirect && t.modular() == "" && t.Socket == "":
		return errors.New("mode=direct: " + t.Driver + " has no daemon of its own; use mode=auto or socket=PATH")
	case strings.HasPrefix(t.Netcat, "-"):
		return errors.New("netcat=" + t.Netcat + ": want a program")
	}
	if t.Auth != "" {
		kind, _, _ := strings.Cut(t.Auth, ".")
		if !slices.Contains([]string{"none", "polkit", "sasl"}, kind) {
			return errors.New("auth=" + t.Auth + ": want none, polkit, sasl or sasl.MECHANISM")
		}
	}
	return nil
}
