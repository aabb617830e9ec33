package polyvisor

import (
	"errors"
	"fmt"
	"net/url"
	"sort"
	"strings"
)

// URI is a parsed connection URI, driver[+transport]://[user@][host[:port]]/[path][?parameters],
// as libvirt writes them.
type URI struct {
	// Scheme is the part before '+' or ':': "kvm", "qemu", "test".
	Scheme string
	// Transport is what follows '+': "unix", "tcp", "tls", "ssh"; empty if
	// there is none.
	Transport string
	// User is the user name; a password is refused.
	User string
	// Host is the host with its port, empty for the local host.
	Host string
	// Path begins with '/' or is empty.
	Path string
	// Query holds the parameters, each given once.
	Query url.Values
}

// ParseURI parses a connection URI. The error matches ErrInvalidConfig and
// never repeats a password.
func ParseURI(s string) (*URI, error) {
	u, err := parseURI(s)
	if err != nil && mayHoldPassword(s) {
		// What is wrong may be a part of the password, so nothing is quoted.
		err = errors.New("it cannot be parsed or holds a password; a password in a URI is refused, use the transport's own authentication; write an '@' that does not end a user name as %40")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: connection URI: %w", ErrInvalidConfig, err)
	}
	return u, nil
}

// mayHoldPassword reports whether text before an '@' looks like user:password,
// whatever else is wrong with s.
func mayHoldPassword(s string) bool {
	at := strings.LastIndexByte(s, '@')
	if at < 0 {
		return false
	}
	scheme, rest, colon := strings.Cut(s[:at], ":")
	if !colon {
		return false
	}
	authority, slashes := strings.CutPrefix(rest, "//")
	return !slashes || strings.Contains(scheme, "/") || strings.Contains(authority, ":")
}

func parseURI(s string) (*URI, error) {
	if s == "" {
		return nil, errors.New("it is empty; kvm:///session is this user's virtual machines on this host")
	}
	raw, err := url.Parse(s)
	if err != nil {
		// The text of a *url.Error repeats the whole input.
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return nil, fmt.Errorf("%w; want DRIVER:///PATH, such as kvm:///session", err)
	}
	u := &URI{Host: raw.Host, Path: raw.Path}
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%q: %s", s, fmt.Sprintf(format, args...))
	}
	u.Scheme, u.Transport, _ = strings.Cut(raw.Scheme, "+")
	switch {
	case u.Scheme == "":
		return nil, bad("no driver; want DRIVER:///PATH, such as kvm:///session")
	case strings.HasSuffix(raw.Scheme, "+"):
		return nil, bad("no transport after '+'; want unix, tcp, tls or ssh")
	case !strings.HasPrefix(s[len(raw.Scheme):], "://"):
		return nil, bad("want three slashes, as in %s:///session", raw.Scheme)
	case strings.HasSuffix(raw.Host, ":"):
		return nil, bad("no port after the ':' of the host")
	case raw.Fragment != "":
		return nil, bad("a fragment (#%s) has no meaning", raw.Fragment)
	}
	if raw.User != nil {
		if _, ok := raw.User.Password(); ok {
			return nil, bad("a password is refused")
		}
		u.User = raw.User.Username()
	}
	if u.Query, err = url.ParseQuery(raw.RawQuery); err != nil {
		return nil, bad("parameters: %v", err)
	}
	for k, v := range u.Query {
		if len(v) > 1 {
			return nil, bad("parameter %s is given %d times", k, len(v))
		}
	}
	return u, nil
}

// Remote reports whether the URI names a transport or a host, so that the
// libvirt driver serves it, whatever the scheme.
func (u *URI) Remote() bool { return u.Transport != "" || u.Host != "" }

// Param gives a parameter's value, empty if it is not given.
func (u *URI) Param(name string) string { return u.Query.Get(name) }

// String gives the URI again, with its parameters sorted.
func (u *URI) String() string {
	scheme := u.Scheme
	if u.Transport != "" {
		scheme += "+" + u.Transport
	}
	raw := url.URL{Scheme: scheme, Host: u.Host, Path: u.Path, RawQuery: u.Query.Encode()}
	if u.User != "" {
		raw.User = url.User(u.User)
	}
	s := raw.String()
	if u.Host == "" && u.User == "" {
		// url.URL leaves the empty authority out.
		s = scheme + "://" + strings.TrimPrefix(strings.TrimPrefix(s, scheme+":"), "//")
	}
	return s
}

// checkParams refuses parameters that a driver does not know.
func (u *URI) checkParams(known []string) error {
	var unknown []string
next:
	for k := range u.Query {
		for _, want := range known {
			if k == want {
				continue next
			}
		}
		unknown = append(unknown, k)
	}
	if len(unknown) == 0 {
		return nil
	}
	sort.Strings(unknown)
	allowed := "none"
	if len(known) > 0 {
		allowed = strings.Join(known, ", ")
	}
	return fmt.Errorf("%w: connection URI: unknown parameter %s; %s:// knows %s",
		ErrInvalidConfig, strings.Join(unknown, ", "), u.Scheme, allowed)
}
