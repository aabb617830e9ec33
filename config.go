package polyvisor

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/google/uuid"

	"github.com/polyvisor/polyvisor/internal/utf8json"
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
	// InstanceID is an identity that stays the same over the domain's lives and
	// hosts, for protected guests (AVirtualMachineRawConfig_setInstanceId).
	InstanceID InstanceID `json:"instance_id,omitzero"`
	// Title is free text for people: one line, at most 255 bytes.
	Title string `json:"title,omitempty"`
	// Labels are key-value pairs for programs; see Domain.SetLabels.
	Labels map[string]string `json:"labels,omitempty"`
	// Autostart asks for the domain to be started with the host.
	Autostart bool `json:"autostart,omitempty"`

	// Memory is the guest's RAM at the start in bytes, a multiple of 4 KiB;
	// 256 MiB if zero, or MaxMemory if that is less. It is zero in what
	// Domain.Config tells of a domain whose memory SetMemory has taken away.
	Memory Bytes `json:"memory,omitempty"`
	// MaxMemory is the most RAM that the guest can be given while it runs;
	// Memory if zero.
	MaxMemory Bytes `json:"max_memory,omitempty"`
	// MemoryBacking gives ranges of guest memory files of their own.
	MemoryBacking []MemoryBacking `json:"memory_backing,omitempty"`
	// Balloon lets the guest give memory back (SetMemory on a running domain).
	Balloon bool `json:"balloon,omitempty"`

	// VCPUs is the number of virtual CPUs at the start; 1 if zero.
	VCPUs int `json:"vcpus,omitempty"`
	// MaxVCPUs is the most virtual CPUs that the guest can be given while it
	// runs; VCPUs if zero.
	MaxVCPUs int `json:"max_vcpus,omitempty"`
	// Topology is how the guest sees its virtual CPUs arranged.
	Topology Topology `json:"topology,omitzero"`
	// VCPU configures single virtual CPUs, in the order of their numbers.
	VCPU []VCPUConfig `json:"vcpu,omitempty"`

	// Boot says what runs. If it is zero the driver's built-in guest runs,
	// where there is one.
	Boot Boot `json:"boot,omitzero"`
	// Console is the guest's console, the first serial port unless it says else.
	Console ConsoleConfig `json:"console,omitzero"`
	// Log takes what the hypervisor has to say about this domain; it is
	// appended to.
	Log File `json:"log,omitzero"`

	// At most 256 of each kind; within a kind each has a DeviceID of its own.

	Disks  []Disk       `json:"disks,omitempty"`
	NICs   []NIC        `json:"nics,omitempty"`
	Shares []Share      `json:"shares,omitempty"`
	RNG    *RNG         `json:"rng,omitempty"`
	Vsock  *VsockConfig `json:"vsock,omitempty"`

	// Protected keeps the guest's memory from the host.
	Protected bool `json:"protected,omitempty"`
	// HypervisorAuth uses the hypervisor's own way to authenticate a protected
	// guest instead of the default one
	// (AVirtualMachineRawConfig_setHypervisorSpecificAuthMethod).
	HypervisorAuth bool `json:"hypervisor_auth,omitempty"`

	// OnPoweroff says what happens when the guest powers itself off;
	// ActionDestroy if empty.
	OnPoweroff Action `json:"on_poweroff,omitempty"`
	// OnReboot says what happens when the guest reboots; ActionRestart if empty.
	OnReboot Action `json:"on_reboot,omitempty"`
	// OnCrash says what happens when the guest crashes; ActionDestroy if empty.
	OnCrash Action `json:"on_crash,omitempty"`
}

// InstanceID is 64 bytes; in JSON, hexadecimal digits.
type InstanceID [64]byte

// NewInstanceID takes an instance ID from a slice, which must have its size.
func NewInstanceID(b []byte) (InstanceID, error) {
	if len(b) != len(InstanceID{}) {
		return InstanceID{}, fmt.Errorf("%w: instance ID: %d bytes, want %d", ErrInvalidConfig, len(b), len(InstanceID{}))
	}
	return InstanceID(b), nil
}

// IsZero reports whether no instance ID is set.
func (id InstanceID) IsZero() bool { return id == InstanceID{} }

// MarshalText encodes the ID as hexadecimal digits.
func (id InstanceID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, id[:]), nil }

// UnmarshalText decodes what MarshalText wrote.
func (id *InstanceID) UnmarshalText(text []byte) error {
	b, err := hex.AppendDecode(nil, text)
	if err != nil {
		return fmt.Errorf("%w: instance ID: %w", ErrInvalidConfig, err)
	}
	*id, err = NewInstanceID(b)
	return err
}

// MemoryBacking makes a file the memory of a range of guest addresses
// (AVirtualMachineRawConfig_addCustomMemoryBackingFile).
type MemoryBacking struct {
	File File `json:"file"`
	// Start and End are guest-physical addresses, multiples of 4 KiB; End is the
	// first address behind the range.
	Start uint64 `json:"start"`
	End   uint64 `json:"end"`
}

// Boot is a direct kernel boot, or firmware that finds what to boot.
type Boot struct {
	// Kernel is a Linux kernel: an ELF vmlinux or a bzImage.
	Kernel File `json:"kernel,omitzero"`
	// Initrd is the initial RAM disk; optional.
	Initrd File `json:"initrd,omitzero"`
	// CommandLine is the kernel's command line.
	CommandLine string `json:"cmdline,omitempty"`
	// Firmware boots from the disks; it excludes the other fields. A persistent domain
	// keeps the variables of UEFI firmware from its first start until Undefine; which
	// they are at first, and which images run, is the driver's to say.
	Firmware File `json:"firmware,omitzero"`
}

// IsZero reports whether nothing is said about booting.
func (b Boot) IsZero() bool { return b == Boot{} }

// ConsoleConfig configures the guest's console.
type ConsoleConfig struct {
	// Virtio makes it a virtio console, hvc0 in Linux, whose terminal has a size
	// (ConsoleResizer) and which takes a guest less time than a serial port. Where
	// there is a serial port too, for firmware and kernels that have no driver for
	// it yet, what they print there is read with the rest, and what is typed goes
	// to the virtio console.
	Virtio bool `json:"virtio,omitempty"`
	// Log is a file on the host to which everything that the guest prints is
	// appended; none if empty.
	Log string `json:"log,omitempty"`
	// Out is a file to which everything that the guest prints is written, and
	// In one from which its input is read, beside Domain.Console
	// (consoleOutFd and consoleInFd of AVirtualMachine_createRaw).
	Out File `json:"out,omitzero"`
	In  File `json:"in,omitzero"`
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
	// ActionPreserve keeps what has ended for inspection: the domain stays
	// active, in state Crashed after a crash and Paused otherwise, until Destroy.
	ActionPreserve Action = "preserve"
	// ActionRenameRestart keeps what has ended as ActionPreserve does, under the
	// domain's UUID, and starts the guest afresh under a new unique name and a
	// new UUID.
	ActionRenameRestart Action = "rename-restart"
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

// ParseConfig reads a Config from JSON. Unknown fields, fields given twice and
// anything after the object are errors, so that nothing that was written is
// silently ignored, and so is what is not UTF-8. The error matches
// ErrInvalidConfig.
func ParseConfig(data []byte) (*Config, error) {
	if err := utf8json.Check(data); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidConfig, err)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var c *Config
	err := dec.Decode(&c)
	switch {
	case errors.Is(err, io.EOF):
		err = errors.New("it is empty; the least is {\"name\": \"NAME\"}")
	case err != nil:
		err = readable(err)
	case c == nil:
		err = errors.New("it is null; want a JSON object")
	default:
		if _, end := dec.Token(); !errors.Is(end, io.EOF) {
			err = errors.New("more data after the JSON object")
			break
		}
		if err = checkKeys(json.NewDecoder(bytes.NewReader(data)), ""); err == nil {
			c.normalize()
			return c, nil
		}
	}
	if !errors.Is(err, ErrInvalidConfig) { // as the values' own readers say
		err = fmt.Errorf("%w: %w", ErrInvalidConfig, err)
	}
	return nil, err
}

// Clone gives a copy that shares nothing with c but open files.
func (c *Config) Clone() *Config {
	d := *c
	d.Labels = maps.Clone(c.Labels)
	d.MemoryBacking = slices.Clone(c.MemoryBacking)
	d.VCPU = slices.Clone(c.VCPU)
	d.Disks = slices.Clone(c.Disks)
	d.NICs = slices.Clone(c.NICs)
	for i := range d.NICs {
		d.NICs[i].Forwards = slices.Clone(d.NICs[i].Forwards)
	}
	d.Shares = slices.Clone(c.Shares)
	if c.RNG != nil {
		d.RNG = new(*c.RNG)
	}
	if c.Vsock != nil {
		d.Vsock = new(*c.Vsock)
	}
	return &d
}

// normalize makes empty collections nil, as they are after a trip through
// JSON, so that equal configurations are deeply equal.
func (c *Config) normalize() {
	if len(c.Labels) == 0 {
		c.Labels = nil
	}
	c.MemoryBacking = nilIfEmpty(c.MemoryBacking)
	c.VCPU = nilIfEmpty(c.VCPU)
	c.Disks = nilIfEmpty(c.Disks)
	c.NICs = nilIfEmpty(c.NICs)
	for i := range c.NICs {
		c.NICs[i].Forwards = nilIfEmpty(c.NICs[i].Forwards)
	}
	c.Shares = nilIfEmpty(c.Shares)
}

func nilIfEmpty[T any](s []T) []T {
	if len(s) == 0 {
		return nil
	}
	return s
}

// Devices lists the devices that the configuration holds, in the order disks,
// NICs, shares, RNG. They point into the configuration.
func (c *Config) Devices() []Device {
	var list []Device
	for i := range c.Disks {
		list = append(list, &c.Disks[i])
	}
	for i := range c.NICs {
		list = append(list, &c.NICs[i])
	}
	for i := range c.Shares {
		list = append(list, &c.Shares[i])
	}
	if c.RNG != nil {
		list = append(list, c.RNG)
	}
	return list
}

// Files lists every file of the configuration that is named or open, with the
// name of its field. They point into the configuration.
func (c *Config) Files() []ConfigFile {
	var list []ConfigFile
	for _, f := range [...]ConfigFile{
		{"boot.kernel", &c.Boot.Kernel}, {"boot.initrd", &c.Boot.Initrd}, {"boot.firmware", &c.Boot.Firmware},
		{"console.out", &c.Console.Out}, {"console.in", &c.Console.In}, {"log", &c.Log},
	} {
		if !f.File.IsZero() {
			list = append(list, f)
		}
	}
	for i := range c.Disks {
		if f := &c.Disks[i].Source; !f.IsZero() {
			list = append(list, ConfigFile{fmt.Sprintf("disks[%d].source", i), f})
		}
	}
	for i := range c.MemoryBacking {
		if f := &c.MemoryBacking[i].File; !f.IsZero() {
			list = append(list, ConfigFile{fmt.Sprintf("memory_backing[%d].file", i), f})
		}
	}
	return list
}

// ConfigFile is a file of a Config with the name of its field.
type ConfigFile struct {
	Field string
	File  *File
}

// openFiles lists the open files of the configuration.
func (c *Config) openFiles() []*os.File {
	var files []*os.File
	for _, f := range c.Files() {
		if f.File.Open != nil {
			files = append(files, f.File.Open)
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
