//go:build linux && amd64

package kvm

import (
	"fmt"
	"os"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/store"
)

// ProcessOf gives the process that runs an active domain of the hypervisor of a
// kvm URI, for those who look at it or test what its failure does. The process
// is the VM process of this run also when its number has been given to another
// one since; the caller releases it.
//
// Errors: ErrNotFound if no domain of that name is active, ErrUnsupported if it
// runs in a program that does other things too (isolation=none).
func ProcessOf(u *polyvisor.URI, domain string) (*os.Process, error) {
	dirs, err := DirectoriesOf(u)
	if err != nil {
		return nil, err
	}
	s, err := store.Open(store.Paths{State: dirs.State, Run: dirs.Run})
	if err != nil {
		return nil, classify(err)
	}
	defer s.Close()
	run, err := activeNamed(s, domain)
	if err != nil {
		return nil, err
	}
	p, err := os.FindProcess(run.PID)
	if err != nil {
		return nil, fmt.Errorf("VM process %d: %w", run.PID, err)
	}
	// If the run is alive still, the process is its own.
	now, err := activeNamed(s, domain)
	switch {
	case err == nil && now.Token != run.Token:
		err = fmt.Errorf("%w: domain %q was started again", polyvisor.ErrNotFound, domain)
	case err == nil && !isVMProcess(run.PID):
		err = fmt.Errorf("%w: process %d runs domain %q among other things", polyvisor.ErrUnsupported, run.PID, domain)
	}
	if err != nil {
		_ = p.Release()
		return nil, err
	}
	return p, nil
}

func activeNamed(s *store.Store, domain string) (store.Active, error) {
	list, err := s.Active()
	for _, a := range list {
		if a.Name == domain && a.Started {
			return a, nil
		}
	}
	if err != nil {
		return store.Active{}, classify(err) // a damaged file may be the one
	}
	return store.Active{}, fmt.Errorf("%w: no active domain is named %q", polyvisor.ErrNotFound, domain)
}
