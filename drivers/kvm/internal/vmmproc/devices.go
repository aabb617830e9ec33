package vmmproc

// Disk counts what the guest asked of a disk. Name is the one in the machine's
// specification.
type Disk struct {
	Name          string   `json:"name"`
	ReadRequests  uint64   `json:"read_requests"`
	ReadBytes     uint64   `json:"read_bytes"`
	WriteRequests uint64   `json:"write_requests"`
	WriteBytes    uint64   `json:"write_bytes"`
	FlushRequests uint64   `json:"flush_requests"`
	Errors        uint64   `json:"errors"`
	Latency       []uint64 `json:"latency,omitempty"` // requests below 1, 2, 4... microseconds
}

// NIC counts the frames of a network interface, as the guest sees them.
type NIC struct {
	Name      string `json:"name"`
	RXPackets uint64 `json:"rx_packets"`
	RXBytes   uint64 `json:"rx_bytes"`
	RXDropped uint64 `json:"rx_dropped"`
	TXPackets uint64 `json:"tx_packets"`
	TXBytes   uint64 `json:"tx_bytes"`
	TXDropped uint64 `json:"tx_dropped"`
}

// device is a kind of counters that can be summed up over the reboots of a run.
type device[T any] interface {
	*T
	name() string
	add(o *T)
}

func (d *Disk) name() string { return d.Name }
func (n *NIC) name() string  { return n.Name }

func (d *Disk) add(o *Disk) {
	d.ReadRequests += o.ReadRequests
	d.ReadBytes += o.ReadBytes
	d.WriteRequests += o.WriteRequests
	d.WriteBytes += o.WriteBytes
	d.FlushRequests += o.FlushRequests
	d.Errors += o.Errors
	sum := make([]uint64, max(len(d.Latency), len(o.Latency)))
	copy(sum, d.Latency)
	for i, n := range o.Latency {
		sum[i] += n
	}
	d.Latency = sum
}

func (n *NIC) add(o *NIC) {
	n.RXPackets += o.RXPackets
	n.RXBytes += o.RXBytes
	n.RXDropped += o.RXDropped
	n.TXPackets += o.TXPackets
	n.TXBytes += o.TXBytes
	n.TXDropped += o.TXDropped
}

// sumOf gives the counters of list with those of before added to the devices of
// the same names. Neither is changed.
func sumOf[T any, P device[T]](list, before []T) []T {
	if len(list) == 0 {
		return before
	}
	sum := make([]T, len(list))
	for i := range list {
		sum[i] = list[i]
		for j := range before {
			if P(&before[j]).name() == P(&sum[i]).name() {
				P(&sum[i]).add(&before[j])
			}
		}
	}
	return sum
}
