package polyvisor

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/hashicorp/go-multierror"
)

// Defaults of Config.
const (
	DefaultMemory Bytes = 256 * MiB
	DefaultVCPUs        = 1
)

const (
	maxName   = 255
	maxTitle  = 255
	pageBytes = 4 * KiB
)

// WithDefaults gives a copy in which every field that has a default is filled
// in, as Conn.Define and Conn.Create do it.
func (c *Config) WithDefaults() *Config {
	d := c.Clone()
	d.normalize()
	if d.UUID == uuid.Nil {
		d.UUID = uuid.New()
	}
	if d.Memory == 0 {
		d.Memory = DefaultMemory
		if d.MaxMemory != 0 {
			d.Memory = min(d.Memory, d.MaxMemory)
		}
	}
	if d.VCPUs == 0 {
		d.VCPUs = DefaultVCPUs
	}
	if d.MaxMemory == 0 {
		d.MaxMemory = d.Memory
	}
	if d.MaxVCPUs == 0 {
		d.MaxVCPUs = d.VCPUs
	}
	d.deviceDefaults()
	if d.OnPoweroff == "" {
		d.OnPoweroff = ActionDestroy
	}
	if d.OnReboot == "" {
		d.OnReboot = ActionRestart
	}
	if d.OnCrash == "" {
		d.OnCrash = ActionDestroy
	}
	return d
}

// Validate checks the configuration by itself, without any driver, and
// reports all problems at once in an error that matches ErrInvalidConfig.
// Files are not opened; those that are given open must be.
func (c *Config) Validate() error {
	var p problems
	if err := CheckName(c.Name); err != nil {
		p.add("name: %w", err)
	}
	if len(c.Title) > maxTitle || !utf8.ValidString(c.Title) || strings.ContainsFunc(c.Title, unicode.IsControl) {
		p.add("title: want one line of at most %d bytes of UTF-8", maxTitle)
	}
	if c.Memory%pageBytes != 0 {
		p.add("memory: %s is not a multiple of 4KiB", c.Memory)
	}
	if c.VCPUs < 0 {
		p.add("vcpus: %d is negative", c.VCPUs)
	}
	for _, f := range c.Files() {
		p.file(f.Field, *f.File)
	}
	if c.Boot.Kernel.IsZero() && !c.Boot.Initrd.IsZero() {
		p.add("boot.initrd: needs boot.kernel")
	}
	if !c.Boot.Firmware.IsZero() && (!c.Boot.Kernel.IsZero() || c.Boot.CommandLine != "") {
		p.add("boot.firmware: excludes a kernel and its command line")
	}
	switch {
	case strings.ContainsRune(c.Boot.CommandLine, 0):
		p.add("boot.cmdline: contains a NUL byte")
	case !utf8.ValidString(c.Boot.CommandLine):
		p.add("boot.cmdline: is not UTF-8")
	}
	p.path("console.log", c.Console.Log)
	c.validateResources(&p)
	c.validateDevices(&p)
	p.action("on_poweroff", c.OnPoweroff)
	p.action("on_reboot", c.OnReboot)
	p.action("on_crash", c.OnCrash)
	return p.err()
}

// CheckName says what is wrong with a domain name, nil if nothing.
func CheckName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("empty: every domain needs a name")
	case len(name) > maxName:
		return fmt.Errorf("%d bytes long, at most %d are allowed", len(name), maxName)
	case !utf8.ValidString(name):
		return fmt.Errorf("%q is not UTF-8", name)
	case name == "." || name == "..":
		return fmt.Errorf("%q is reserved", name)
	case strings.ContainsRune(name, '/'):
		return fmt.Errorf("%q contains a slash", name)
	case strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("%q contains a control character", name)
	}
	return nil
}

// checkConfig checks a configuration with its defaults filled in against what
// the driver can do, after the driver-independent rules.
func checkConfig(c *Config, caps *Capabilities, driver string, transient bool) error {
	var p problems
	if caps.MaxVCPUs > 0 && c.VCPUs > caps.MaxVCPUs {
		p.add("vcpus: %d, the host allows at most %d", c.VCPUs, caps.MaxVCPUs)
	}
	if caps.MaxVCPUs > 0 && c.MaxVCPUs > caps.MaxVCPUs && c.VCPUs <= caps.MaxVCPUs {
		p.add("max_vcpus: %d, the host allows at most %d", c.MaxVCPUs, caps.MaxVCPUs)
	}
	if caps.MinMemory > 0 && uint64(c.Memory) < caps.MinMemory {
		p.add("memory: %s, at least %s is needed", c.Memory, Bytes(caps.MinMemory))
	}
	if caps.MaxMemory > 0 && uint64(c.MaxMemory) > caps.MaxMemory {
		p.add("memory: %s, the host allows at most %s", c.MaxMemory, Bytes(caps.MaxMemory))
	}
	if !transient && len(c.openFiles()) > 0 {
		p.add("open files are for transient domains; give paths to define a domain")
	}
	if err := p.err(); err != nil {
		return err
	}
	for _, f := range c.needs() {
		if !caps.Has(f) {
			return unsupported(f, driver, caps)
		}
	}
	return nil
}

func unsupported(f Feature, driver string, caps *Capabilities) error {
	return &UnsupportedError{Feature: f, Driver: driver, Reason: caps.Reasons[f]}
}

// problems collects what is wrong with a configuration.
type problems struct{ list *multierror.Error }

func (p *problems) add(format string, args ...any) {
	p.list = multierror.Append(p.list, fmt.Errorf(format, args...))
}

func (p *problems) file(field string, f File) {
	if f.Path != "" && f.Open != nil {
		p.add("%s: both a path and an open file; give one", field)
		return
	}
	if f.Open != nil {
		// A closed one says so here, and not as an unknown failure in the driver.
		if _, err := f.Open.Stat(); err != nil {
			p.add("%s: the open file cannot be used: %w", field, err)
		}
	}
	p.path(field, f.Path)
}

// path refuses what no file can have as its path, and what JSON, in which
// definitions are stored, would turn into the path of another file.
func (p *problems) path(field, path string) {
	switch {
	case strings.ContainsRune(path, 0):
		p.add("%s: the path contains a NUL byte", field)
	case !utf8.ValidString(path):
		p.add("%s: the path is not UTF-8", field)
	}
}

func (p *problems) action(field string, a Action) {
	switch a {
	case "", ActionDestroy, ActionRestart, ActionPreserve, ActionRenameRestart:
	default:
		p.add("%s: %q is not an action; want %q, %q, %q or %q", field, a, ActionDestroy, ActionRestart, ActionPreserve, ActionRenameRestart)
	}
}

// err gives all problems as one error on one line, nil if there is none.
func (p *problems) err() error {
	if p.list == nil {
		return nil
	}
	p.list.ErrorFormat = func(errs []error) string {
		texts := make([]string, len(errs))
		for i, e := range errs {
			texts[i] = e.Error()
		}
		return strings.Join(texts, "; ")
	}
	return fmt.Errorf("%w: %w", ErrInvalidConfig, p.list)
}
