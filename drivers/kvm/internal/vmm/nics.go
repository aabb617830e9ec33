//go:build linux && amd64

package vmm

import (
	"fmt"
	"os"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/kvmapi"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio/net"
)

// MaxNICQueues bounds NIC.Files.
const MaxNICQueues = net.MaxPairs

// networkDevice is a network interface of the machine.
type networkDevice struct {
	name string
	*net.Device
}

// newNIC makes a network device on duplicates of the files of its back end, which the machine's undo list closes.
func (m *Machine) newNIC(s NIC, opts Options, failed func(error)) (*networkDevice, error) {
	var files []*os.File
	for _, name := range s.Files {
		f, err := duplicate(opts.Files[name])
		if err != nil {
			return nil, fmt.Errorf("nic %s: %w", s.Name, err)
		}
		m.undo.add(f.Close)
		files = append(files, f)
	}
	cfg := net.Config{MAC: s.MAC, MTU: s.MTU, Backend: net.Backend{Files: files}, Lost: failed}
	if s.Tap {
		cfg.Backend.VNetHdr, cfg.Backend.Offloads = true, true
		cfg.SetOffloads = func(features uint64) error {
			return kvmapi.SetTapOffloads(files[0], features&net.GuestCsum != 0, features&net.GuestTSO4 != 0, features&net.GuestTSO6 != 0)
		}
		if len(files) > 1 {
			cfg.SetPairs = func(n int) error { return useQueues(files, n) }
		}
	}
	d, err := net.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("nic %s: %w", s.Name, err)
	}
	return &networkDevice{s.Name, d}, nil
}

// useQueues lets the kernel give frames to the first n queues of a tap.
func useQueues(files []*os.File, n int) error {
	for i, f := range files {
		if err := kvmapi.UseTapQueue(f, i < n); err != nil {
			return err
		}
	}
	return nil
}

// NICInfo is what a network interface has counted.
type NICInfo struct {
	Name string
	net.Stats
}

// nicInfo reads the counters of all network interfaces.
func (d *devices) nicInfo() []NICInfo {
	var list []NICInfo
	for _, n := range d.nics {
		list = append(list, NICInfo{n.name, n.Stats()})
	}
	return list
}
