package proto

import (
	"encoding/json"
	"fmt"
	"strings"
)

// ConfigPath is the file in an initial RAM disk that tells the agent, as its init, what
// to do.
const ConfigPath = "/agent.json"

// Config is the content of that file.
type Config struct {
	// Modules are files with kernel modules, not compressed, in the order to load
	// them.
	Modules []string `json:"modules,omitempty"`
	// Mounts are made after them, in order. A target is made if it is missing.
	Mounts []Mount `json:"mounts,omitempty"`
	// Root, if not empty, becomes the root of the file system; the agent goes on. It is
	// a target of Mounts or another directory.
	Root string `json:"root,omitempty"`
	// Hostname is that of the guest.
	Hostname string `json:"hostname,omitempty"`
}

// Mount is a file system, as mount(8) has it.
type Mount struct {
	Type    string `json:"type"`
	Source  string `json:"source"`
	Target  string `json:"target"`
	Options string `json:"options,omitempty"`
}

// ParseConfig reads a Config, strictly: a field that is not known is an error, since
// what it asks for would not be done.
func ParseConfig(b []byte) (*Config, error) {
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.DisallowUnknownFields()
	var c Config
	if err := d.Decode(&c); err != nil {
		return nil, fmt.Errorf("%s: %w", ConfigPath, err)
	}
	return &c, nil
}
