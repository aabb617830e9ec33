package uri

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// maxConfig bounds libvirt.conf; the one that libvirt installs has 1 KiB.
const maxConfig = 1 << 20

// Config is what libvirt.conf says.
type Config struct {
	file    string
	aliases []alias
	Default string // uri_default
	Mode    Mode   // remote_mode
	Proxy   Proxy  // remote_proxy
}

type alias struct{ name, uri string }

// LoadConfig reads libvirt.conf. A file that is not there is an empty one.
func LoadConfig(file string) (*Config, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return &Config{file: file}, nil
	}
	if err != nil {
		return nil, invalid("client configuration: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, invalid("client configuration: %w", err)
	}
	return ParseConfig(file, text)
}

// ParseConfig reads the text of libvirt.conf: lines NAME = VALUE, where a value
// is a number, a string in ', " or """, or a list of them in brackets; a '#'
// begins a comment. Settings it does not know are skipped. Errors name file and
// line.
func ParseConfig(file string, text []byte) (*Config, error) {
	if len(text) > maxConfig {
		return nil, invalid("%s: more than %d bytes; is this libvirt's client configuration?", file, maxConfig)
	}
	p := &confParser{file: file, text: string(text), line: 1}
	c := &Config{file: file}
	for {
		name, v, ok, err := p.setting()
		if err != nil {
			return nil, err
		}
		if !ok {
			return c, nil
		}
		if err := c.set(name, v); err != nil {
			return nil, p.at(v.line, "%s: %w", name, err)
		}
	}
}

// Alias gives the URI of an alias.
func (c *Config) Alias(name string) (string, bool) {
	for _, a := range c.aliases {
		if a.name == name {
			return a.uri, true
		}
	}
	return "", false
}

func (c *Config) set(name string, v confValue) (err error) {
	switch name {
	case "uri_default":
		c.Default, err = v.text()
	case "remote_mode":
		var s string
		if s, err = v.text(); err == nil {
			c.Mode, err = parseMode(s)
		}
	case "remote_proxy":
		var s string
		if s, err = v.text(); err == nil {
			c.Proxy, err = parseProxy(s)
		}
	case "uri_aliases":
		if !v.isList {
			return errors.New(`want a list, as [ "NAME=URI", ]`)
		}
		c.aliases = nil
		for _, item := range v.list {
			s, err := item.text()
			if err != nil {
				return err
			}
			name, target, ok := strings.Cut(s, "=")
			if !ok || !isAlias(name) || target == "" {
				return errors.New(`want "NAME=URI" with a NAME of letters, digits, '_' and '-'`)
			}
			c.aliases = append(c.aliases, alias{name, target})
		}
	}
	return err
}

func isAlias(s string) bool {
	for _, r := range s {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-') {
			return false
		}
	}
	return s != ""
}

type confValue struct {
	line   int
	str    string
	isNum  bool
	isList bool
	list   []confValue
}

func (v confValue) text() (string, error) {
	if v.isNum || v.isList {
		return "", errors.New(`want a string in quotes`)
	}
	return v.str, nil
}

type confParser struct {
	file string
	text string // what is left
	line int
}

func (p *confParser) at(line int, format string, args ...any) error {
	return invalid("%s: line %d: %w", p.file, line, fmt.Errorf(format, args...))
}

func (p *confParser) fail(format string, args ...any) error { return p.at(p.line, format, args...) }

// skip passes over blanks, and with lines over ends of line and comments.
func (p *confParser) skip(lines bool) {
	for p.text != "" {
		switch c := p.text[0]; {
		case c == ' ' || c == '\t' || c == '\r':
		case lines && c == '\n':
			p.line++
		case lines && c == '#':
			i := strings.IndexByte(p.text, '\n')
			if i < 0 {
				i = len(p.text)
			}
			p.text = p.text[i:]
			continue
		default:
			return
		}
		p.text = p.text[1:]
	}
}

func (p *confParser) setting() (name string, v confValue, ok bool, err error) {
	p.skip(true)
	if p.text == "" {
		return "", v, false, nil
	}
	n := 0
	for n < len(p.text) && (isAlias(p.text[n:n+1]) || p.text[n] == '.') {
		n++
	}
	if name = p.text[:n]; name == "" {
		return "", v, false, p.fail("want NAME = VALUE, not %s", p.found())
	}
	p.text = p.text[n:]
	p.skip(false)
	if !strings.HasPrefix(p.text, "=") {
		return "", v, false, p.fail("want '=' after %s, not %s", name, p.found())
	}
	p.text = p.text[1:]
	p.skip(false)
	if v, err = p.value(true); err != nil {
		return "", v, false, err
	}
	p.skip(false)
	if p.text != "" && p.text[0] != '\n' && p.text[0] != '#' {
		return "", v, false, p.fail("want the end of the line after the value of %s, not %s", name, p.found())
	}
	return name, v, true, nil
}

// found names what comes next, without repeating more of the file.
func (p *confParser) found() string {
	for _, r := range p.text {
		if r == '\n' {
			return "the end of the line"
		}
		return strconv.QuoteRune(r)
	}
	return "the end of the file"
}

func (p *confParser) value(listAllowed bool) (confValue, error) {
	v := confValue{line: p.line}
	if p.text == "" {
		return v, p.fail("want a value, not the end of the file")
	}
	switch c := p.text[0]; {
	case c == '"' || c == '\'':
		return p.quoted()
	case c == '[' && listAllowed:
		v.isList = true
		return p.list(v)
	case c == '-' || c >= '0' && c <= '9':
		n := 1
		for n < len(p.text) && p.text[n] >= '0' && p.text[n] <= '9' {
			n++
		}
		v.str, v.isNum = p.text[:n], true
		if v.str == "-" {
			return v, p.fail("want a number after '-'")
		}
		p.text = p.text[n:]
		return v, nil
	}
	return v, p.fail("want a number, a string in quotes or a list, not %s", p.found())
}

func (p *confParser) quoted() (confValue, error) {
	v := confValue{line: p.line}
	quote := p.text[:1]
	if strings.HasPrefix(p.text, `"""`) {
		quote = `"""`
	}
	p.text = p.text[len(quote):]
	str, rest, ok := strings.Cut(p.text, quote)
	lines := strings.Count(str, "\n")
	if !ok || lines > 0 && len(quote) == 1 {
		return v, p.at(v.line, "a string begins and does not end; want a closing %s", quote)
	}
	v.str, p.text = str, rest
	p.line += lines
	return v, nil
}

func (p *confParser) list(v confValue) (confValue, error) {
	p.text = p.text[1:]
	for {
		p.skip(true)
		if strings.HasPrefix(p.text, "]") {
			p.text = p.text[1:]
			return v, nil
		}
		item, err := p.value(false)
		if err != nil {
			return v, err
		}
		v.list = append(v.list, item)
		p.skip(true)
		switch {
		case strings.HasPrefix(p.text, ","):
			p.text = p.text[1:]
		case !strings.HasPrefix(p.text, "]"):
			return v, p.fail("want ',' or ']' in the list that begins in line %d, not %s", v.line, p.found())
		}
	}
}
