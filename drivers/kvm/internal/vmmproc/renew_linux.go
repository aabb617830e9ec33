package vmmproc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/store"
)

const (
	// maxRenewals bounds the guests that ActionRenameRestart keeps in a row: each
	// holds its memory, and a guest may crash as often as it likes.
	maxRenewals  = 8
	renewTimeout = time.Minute
)

// renew starts the guest afresh beside the machine that is kept, as a transient
// domain with a new name and a new UUID.
func (s *Server) renew() {
	if s.cfg.Renewals >= maxRenewals {
		s.log.Error("the guest is not started afresh again: its predecessors are kept; destroy them", "kept", maxRenewals)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), renewTimeout)
	defer cancel()
	name, err := s.startRenewed(ctx)
	if err != nil {
		s.log.Error("the guest could not be started afresh", "err", err)
		return
	}
	s.log.Info("the guest was started afresh", "name", name)
}

func (s *Server) startRenewed(ctx context.Context) (string, error) {
	st, err := store.Open(store.Paths{State: filepath.Dir(filepath.Dir(s.run.StateDir())), Run: filepath.Dir(s.run.Dir)})
	if err != nil {
		return "", err
	}
	defer st.Close()
	run, err := s.renewedRun(ctx, st)
	if err != nil {
		return "", err
	}
	name := run.Name
	cfg := s.cfg
	cfg.StartPaused = false
	cfg.Renewals++
	if s.restart != nil {
		return name, s.restart(ctx, run, cfg)
	}
	spawn := SpawnConfig{Program: selfExe, Run: run, Spec: s.spec, Config: cfg}
	for n, f := range s.files { // their order means nothing: names travel with them
		if f != nil {
			spawn.Files = append(spawn.Files, NamedFile{Name: n, File: f})
		}
	}
	_, err = Spawn(ctx, spawn)
	return name, err
}

// renewedRun makes the run directory under the first name that is free.
func (s *Server) renewedRun(ctx context.Context, st *store.Store) (*store.Run, error) {
	u, err := randomUUID()
	if err != nil {
		return nil, err
	}
	for n := 1; ; n++ {
		name := numbered(s.run.Name, n)
		config, err := renamed(s.run.Config, name, u)
		if err != nil {
			return nil, err
		}
		run, err := st.NewRun(ctx, store.RunSpec{Name: name, UUID: u, Config: config, Transient: true})
		var taken *store.ExistsError
		if errors.As(err, &taken) && taken.What == "name" {
			continue
		}
		return run, err
	}
}

// numbered adds a number to a name, which stays short enough for one.
func numbered(name string, n int) string {
	suffix := fmt.Sprintf("-%d", n)
	for len(name)+len(suffix) > store.MaxNameLen {
		_, size := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-size]
	}
	return name + suffix
}

// renamed gives the configuration that a run tells about itself another identity.
// A transient domain has no mark for autostart.
func renamed(config json.RawMessage, name string, u store.UUID) (json.RawMessage, error) {
	var c map[string]json.RawMessage
	if err := json.Unmarshal(config, &c); err != nil {
		return nil, fmt.Errorf("configuration of the run: %w", err)
	}
	if c == nil {
		c = map[string]json.RawMessage{}
	}
	delete(c, "autostart")
	for key, value := range map[string]any{"name": name, "uuid": u} {
		b, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		c[key] = b
	}
	return json.Marshal(c)
}

// randomUUID gives a UUID of version 4 (RFC 9562).
func randomUUID() (store.UUID, error) {
	var u store.UUID
	for n := 0; n < len(u); {
		m, err := unix.Getrandom(u[n:], 0)
		if err != nil && err != unix.EINTR {
			return u, os.NewSyscallError("getrandom", err)
		}
		n += max(m, 0)
	}
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return u, nil
}
