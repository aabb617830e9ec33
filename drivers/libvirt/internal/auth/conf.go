package auth

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
)

// maxConfig bounds auth.conf.
const maxConfig = 1 << 20

// config is auth.conf: sections of keys.
type config struct {
	file     string
	sections map[string]map[string]string
}

// account is what a section [credentials-NAME] holds.
type account struct{ user, password string }

func loadConfig(file string) (*config, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fail(ErrConfig, "credentials: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, fail(ErrConfig, "credentials: %w", err)
	}
	return parseConfig(file, text)
}

// parseConfig reads sections [NAME] with lines KEY=VALUE; a '#' begins a line of
// comment. Errors name file and line, and repeat nothing of it: it holds secrets.
func parseConfig(file string, text []byte) (*config, error) {
	if len(text) > maxConfig {
		return nil, fail(ErrConfig, "%s: more than %d bytes; is this libvirt's auth.conf?", file, maxConfig)
	}
	c := &config{file: file, sections: map[string]map[string]string{}}
	var section map[string]string
	number := 0
	for raw := range bytes.Lines(text) {
		number++
		bad := func(what string) error { return fail(ErrConfig, "%s: line %d: %s", file, number, what) }
		line := strings.TrimRight(string(raw), "\r\n")
		trimmed := strings.TrimSpace(line)
		switch {
		case trimmed == "" || trimmed[0] == '#':
		case trimmed[0] == '[':
			name, ok := strings.CutSuffix(trimmed[1:], "]")
			if !ok || name == "" {
				return nil, bad("want [SECTION]")
			}
			if section = c.sections[name]; section == nil {
				section = map[string]string{}
				c.sections[name] = section
			}
		case section == nil:
			return nil, bad("want a [SECTION] first")
		default:
			key, value, ok := strings.Cut(line, "=")
			name := strings.TrimSpace(key)
			if !ok || name == "" {
				return nil, bad("want KEY=VALUE")
			}
			// Blanks belong to a password, but not in "key = value".
			if strings.TrimRight(key, " \t") != key {
				value = strings.TrimLeft(value, " \t")
			}
			section[name] = value
		}
	}
	return c, nil
}

// lookup gives the account for a host, or that of [auth-SERVICE-default], or
// nothing.
func (c *config) lookup(service, host string) (account, error) {
	name := fmt.Sprintf("auth-%s-%s", service, host)
	section := c.sections[name]
	if section == nil {
		name = fmt.Sprintf("auth-%s-default", service)
		section = c.sections[name]
	}
	if section == nil {
		return account{}, nil
	}
	set := strings.TrimSpace(section["credentials"])
	if set == "" {
		return account{}, fail(ErrConfig, "%s: section [%s] has no credentials=NAME", c.file, name)
	}
	creds := c.sections["credentials-"+set]
	if creds == nil {
		return account{}, fail(ErrConfig, "%s: section [%s] names credentials %s, and there is no section [credentials-%s]", c.file, name, set, set)
	}
	user := creds["authname"]
	if user == "" {
		user = creds["username"]
	}
	return account{user, creds["password"]}, nil
}
