package fake

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/internal/utf8json"
)

// stateVersion is the version of the format that Load reads and Save writes.
const stateVersion = 1

// maxState bounds a state file.
const maxState = 256 << 20

// state is what a state file holds.
type state struct {
	Version int             `json:"version"`
	Node    *polyvisor.Node `json:"node,omitempty"`
	Domains []stateDomain   `json:"domains"`
}

type stateDomain struct {
	Config    *polyvisor.Config `json:"config"`
	State     polyvisor.State   `json:"state,omitempty"`
	Transient bool              `json:"transient,omitempty"`
}

// LoadFile is Load with a file.
func (h *Hypervisor) LoadFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("state file: %w", classify(err))
	}
	defer f.Close()
	if err := h.Load(f); err != nil {
		return fmt.Errorf("state file %s: %w", path, err)
	}
	return nil
}

// Load adds domains to a hypervisor and describes its node, from JSON:
//
//	{"version": 1,
//	 "node": {"hostname": "h1", "cpus": 16, "memory": 34359738368, ...},
//	 "domains": [
//	  {"config": {"name": "web"}, "state": "running"},
//	  {"config": {"name": "db", "autostart": true}},
//	  {"config": {"name": "job"}, "state": "running", "transient": true}]}
//
// config is what polyvisor.ParseConfig reads, and node is optional. state is
// running, paused, crashed or, if there is none, shutoff; a domain with
// autostart runs in any case. Nothing is loaded if anything is wrong, except
// that a domain which fails to start stops the loading there.
//
// Errors: ErrInvalidConfig, ErrExists for a name or UUID that is there, and
// those of starting a domain.
func (h *Hypervisor) Load(r io.Reader) error {
	data, err := io.ReadAll(io.LimitReader(r, maxState+1))
	if err != nil {
		return classify(err)
	}
	s, err := parseState(data)
	if err != nil {
		if !errors.Is(err, polyvisor.ErrInvalidConfig) { // as the Config's own reader says
			err = fmt.Errorf("%w: %w", polyvisor.ErrInvalidConfig, err)
		}
		return err
	}
	if s.Node != nil {
		h.mu.Lock()
		h.node = *s.Node
		h.unlock()
	}
	for _, d := range s.Domains {
		if err := h.loadDomain(d); err != nil {
			return fmt.Errorf("domain %q: %w", d.Config.Name, err)
		}
	}
	return nil
}

func parseState(data []byte) (*state, error) {
	if len(data) > maxState {
		return nil, fmt.Errorf("more than %s", polyvisor.Bytes(maxState))
	}
	if err := utf8json.Check(data); err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var s *state
	if err := dec.Decode(&s); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more data after the JSON object")
	}
	switch {
	case s == nil:
		return nil, errors.New("it is null; want a JSON object")
	case s.Version != stateVersion:
		return nil, fmt.Errorf("format version %d; this program reads version %d", s.Version, stateVersion)
	}
	if n := s.Node; n != nil && (n.CPUs < 1 || n.CPUs > polyvisor.MaxCPU || n.Memory < minMemory) {
		return nil, fmt.Errorf("node: %d CPUs and %s; want 1 to %d, and %s or more", n.CPUs, n.Memory, polyvisor.MaxCPU, polyvisor.Bytes(minMemory))
	}
	names, ids := make(map[string]bool), make(map[string]bool)
	for i, d := range s.Domains {
		if err := d.check(); err != nil {
			return nil, fmt.Errorf("domains[%d]: %w", i, err)
		}
		if id := d.Config.UUID.String(); names[d.Config.Name] || ids[id] {
			return nil, fmt.Errorf("domains[%d]: name %q or UUID %s is there twice", i, d.Config.Name, id)
		}
		names[d.Config.Name], ids[d.Config.UUID.String()] = true, true
	}
	return s, nil
}

func (d stateDomain) check() error {
	if d.Config == nil {
		return errors.New("no config")
	}
	switch d.State {
	case polyvisor.NoState, polyvisor.Shutoff, polyvisor.Running, polyvisor.Paused, polyvisor.Crashed:
	default:
		return fmt.Errorf("a domain cannot begin %s; want running, paused, crashed or shutoff", d.State)
	}
	if d.Transient && !d.State.Active() {
		return errors.New("a transient domain that does not run is not there")
	}
	return complete(d.Config)
}

func (h *Hypervisor) loadDomain(d stateDomain) error {
	o := polyvisor.StartOptions{Paused: d.State == polyvisor.Paused}
	if d.Transient {
		f, err := openFiles(d.Config)
		if err != nil {
			return err
		}
		h.mu.Lock()
		defer h.unlock()
		if _, err = h.createLocked(d.Config, o, f, nil, nil); err != nil {
			f.close()
		}
		return err
	}
	h.mu.Lock()
	var dom *domain
	taken, err := h.takenLocked(d.Config.Name, d.Config.UUID)
	if err == nil && taken != nil {
		err = fmt.Errorf("%w: it is there already", polyvisor.ErrExists)
	}
	if err == nil {
		dom, err = h.defineLocked(d.Config)
	}
	if err == nil && d.State == polyvisor.Crashed {
		dom.crashed, dom.ran = true, true
		dom.last = polyvisor.Stop{Reason: polyvisor.StopCrash, Detail: "before the state was loaded"}
	}
	h.unlock()
	if err != nil || !d.State.Active() && !d.Config.Autostart {
		return err
	}
	return dom.start(nil, o)
}

// Dump writes what Load reads. Domains that are blocked or shutting down become
// running, preserved ones crashed or shutoff; the memory of guests is lost.
func (h *Hypervisor) Dump(w io.Writer) error {
	h.mu.Lock()
	s := state{Version: stateVersion, Node: new(h.node)}
	for _, d := range h.byUUID {
		e := stateDomain{Config: d.def, State: d.stateLocked(), Transient: d.def == nil}
		switch {
		case d.run != nil && d.run.ended != nil && e.Transient:
			continue
		case d.run != nil && d.run.ended != nil:
			e.State = d.run.ended.Reason.State()
		case e.State == polyvisor.Blocked || e.State == polyvisor.ShuttingDown:
			e.State = polyvisor.Running
		}
		if e.Transient {
			e.Config = d.run.config
		}
		s.Domains = append(s.Domains, e)
	}
	h.unlock()
	enc := json.NewEncoder(w)
	enc.SetIndent("", " ")
	return enc.Encode(s)
}
