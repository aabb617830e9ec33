package polyvisor

import (
	"time"

	"github.com/google/uuid"
)

// Stats are the counters of a domain at one moment, since the start of its run.
type Stats struct {
	// Name and UUID say which domain it is.
	Name string    `json:"name"`
	UUID uuid.UUID `json:"uuid"`
	Info Info      `json:"info"`
	// Time is when the counters were read.
	Time time.Time `json:"time"`
	// VCPUs are the virtual CPUs; nil if the driver does not tell.
	VCPUs []VCPU `json:"vcpu_list,omitempty"`
	// Disks and NICs are in the order of the domain's configuration.
	Disks []DiskStats `json:"disks,omitempty"`
	NICs  []NICStats  `json:"nics,omitempty"`
	// Exits counts the returns from guest to hypervisor by kind; nil if the
	// driver does not count them.
	Exits map[string]uint64 `json:"exits,omitempty"`
}

// DiskStats are the counters of a disk.
type DiskStats struct {
	Target        string `json:"target"`
	ReadRequests  uint64 `json:"read_requests"`
	ReadBytes     Bytes  `json:"read_bytes"`
	WriteRequests uint64 `json:"write_requests"`
	WriteBytes    Bytes  `json:"write_bytes"`
	FlushRequests uint64 `json:"flush_requests"`
	Errors        uint64 `json:"errors"`
}

// NICStats are the counters of a network interface, as the guest sees them.
type NICStats struct {
	MAC       MAC    `json:"mac"`
	RXPackets uint64 `json:"rx_packets"`
	RXBytes   Bytes  `json:"rx_bytes"`
	RXDropped uint64 `json:"rx_dropped"`
	TXPackets uint64 `json:"tx_packets"`
	TXBytes   Bytes  `json:"tx_bytes"`
	TXDropped uint64 `json:"tx_dropped"`
}
