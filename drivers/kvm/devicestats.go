//go:build linux && amd64

package kvm

import (
	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/vmmproc"
)

// diskStats gives the root package's words for what the disks of a machine count.
func diskStats(list []vmmproc.Disk) []polyvisor.DiskStats {
	var all []polyvisor.DiskStats
	for _, d := range list {
		s := polyvisor.DiskStats{
			Target: d.Name, ReadRequests: d.ReadRequests, ReadBytes: polyvisor.Bytes(d.ReadBytes),
			WriteRequests: d.WriteRequests, WriteBytes: polyvisor.Bytes(d.WriteBytes), FlushRequests: d.FlushRequests, Errors: d.Errors,
		}
		for i, n := range d.Latency {
			s.Latency[min(i, len(s.Latency)-1)] += n
		}
		all = append(all, s)
	}
	return all
}

// nicStats does the same for network interfaces, which are named by their MAC
// addresses.
func nicStats(list []vmmproc.NIC) []polyvisor.NICStats {
	var all []polyvisor.NICStats
	for _, n := range list {
		mac, err := polyvisor.ParseMAC(n.Name)
		if err != nil {
			continue // of another version of the VM process
		}
		all = append(all, polyvisor.NICStats{
			MAC: mac, RXPackets: n.RXPackets, RXBytes: polyvisor.Bytes(n.RXBytes), RXDropped: n.RXDropped,
			TXPackets: n.TXPackets, TXBytes: polyvisor.Bytes(n.TXBytes), TXDropped: n.TXDropped,
		})
	}
	return all
}
