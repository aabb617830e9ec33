package polyvisor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/google/uuid"
)

// Config describes a domain. Fields that are zero take defaults where the
// comment names one; Conn.Define and Conn.Create check the whole and report
// all problems at once. Its JSON form is what definitions are stored as and
// what the command line reads.
type Config struct {
	// Name is required and unique on a connection: 1 to 255 bytes of UTF-8
	// without '/' and control characters.
	Name string `json:"name"`
	// UUID is unique on a connection; a random one is made if it is zero.
	UUID uuid.UUID `json:"uuid,omitzero"`
	// Title is free text for people: one line, at most 255 bytes.
	Title string `json:"title,omitempty"`
	// Memory is the guest's RAM in bytes, a multiple of 4 KiB; 256 MiB if zero.
	Memory Bytes `json:"memory,omitempty"`
	// VCPUs is the number of virtual CPUs; 1 if zero.
	VCPUs int `json:"vcpus,omitempty"`
	// Boot says what runs. If it is zero the driver's built-in guest runs,
	// where there is one.
	Boot Boot `json:"boot,omitzero"`
	// Console is the first serial port.
	Console ConsoleConfig `json:"console,omitzero"`
	// OnPoweroff says what happens when the guest powers itself off;
	// ActionDestroy if empty.
	OnPoweroff Action `json:"on_poweroff,omitempty"`
	// OnReboot says what happens when the guest reboots; ActionRestart if empty.
	OnReboot Action `json:"on_reboot,omitempty"`
	// OnCrash says what happens when the guest crashes; ActionDestroy if empty.
	OnCrash Action `json:"on_crash,omitempty"`
}

// Boot is a direct kernel boot.
type Boot struct {
	// Kernel is a Linux kernel: an ELF vmlinux or a bzImage.
	Kernel File `json:"kernel,omitzero"`
	// Initrd is the initial RAM disk; optional.
	Initrd File `json:"initrd,omitzero"`
	// CommandLine is the kernel's command line.
	CommandLine string `json:"cmdline,omitempty"`
}

// IsZero reports whether nothing is said about booting.
func (b Boot) IsZero() bool { return b == Boot{} }

// ConsoleConfig configures the first serial port.
type ConsoleConfig struct {
	// Log is a file on the host to which everything that the guest prints is
	// appended; none if empty.
	Log string `json:"log,omitempty"`
}

// IsZero reports whether the console has no settings.
func (c ConsoleConfig) IsZero() bool { return c == ConsoleConfig{} }

// Action says what follows the end of a guest's run.
type Action string

// The actions.
const (
	// ActionDestroy stops the domain.
	ActionDestroy Action = "destroy"
	// ActionRestart starts the guest afresh; the domain stays active.
	ActionRestart Action = "restart"
)

// File is a file on the host: by path, or open. In JSON it is the path.
//
// An open file belongs to the library from the call it is given to: it is
// closed when that call returns, whether it succeeds or fails. Only transient
// domains (Conn.Create) take open files.
type File struct {
	Path string
	Open *os.File
}

// Path gives a File for a path on the host.
func Path(path string) File { return File{Path: path} }

// OpenFile gives a File for an open file, which must be readable, seekable and
// of known size. Ownership passes with the call that the File is given to.
func OpenFile(f *os.File) File { return File{Open: f} }

// IsZero reports whether no file is named.
func (f File) IsZero() bool { return f == File{} }

// String names the file for messages.
func (f File) String() string {
	if f.Open != nil {
		return f.Open.Name()
	}
	return f.Path
}

// MarshalJSON encodes the path; an open file has no JSON form.
func (f File) MarshalJSON() ([]byte, error) {
	if f.Open != nil {
		return nil, fmt.Errorf("open file %s has no JSON form; give its path", f.Open.Name())
	}
	return json.Marshal(f.Path)
}

// UnmarshalJSON reads a path.
func (f *File) UnmarshalJSON(b []byte) error {
	*f = File{}
	return json.Unmarshal(b, &f.Path)
}

// ParseConfig reads a Config from JSON. Unknown fields and anything after the
// object are errors, so that a misspelled field is not silently ignored. The
// error matches ErrInvalidConfig.
func ParseConfig(data []byte) (*Config, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var c *Config
	err := dec.Decode(&c)
	switch {
	case errors.Is(err, io.EOF):
		err = errors.New("it is empty; the least is {\"name\": \"NAME\"}")
	case err != nil:
	case c == nil:
		err = errors.New("it is null; want a JSON object")
	default:
		if _, end := dec.Token(); errors.Is(end, io.EOF) {
			return c, nil
		}
		err = errors.New("more data after the JSON object")
	}
	return nil, fmt.Errorf("%w: %w", ErrInvalidConfig, err)
}

// Clone gives a copy that shares nothing with c but open files.
func (c *Config) Clone() *Config {
	d := *c
	return &d
}

// openFiles lists the open files of the configuration.
func (c *Config) openFiles() []*os.File {
	var files []*os.File
	for _, f := range []File{c.Boot.Kernel, c.Boot.Initrd} {
		if f.Open != nil {
			files = append(files, f.Open)
		}
	}
	return files
}

func (c *Config) closeFiles() {
	for _, f := range c.openFiles() {
		// Only a second close can fail here, and the file is closed either way.
		_ = f.Close()
	}
}
