package polyvisor

import (
	"context"
	"errors"
	"maps"
	"sync"
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
	// Latency counts the requests by how long they took; zero if the driver does
	// not tell.
	Latency Latency `json:"latency,omitzero"`
}

// Latency is a histogram: the first number counts what took less than 1
// microsecond, each further one what took less than twice the bound before, the
// last all that took longer (about a quarter of a second and more).
type Latency [20]uint64

// Count is how many were counted.
func (l Latency) Count() (n uint64) {
	for _, c := range l {
		n += c
	}
	return n
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

// Stats gives the domain's counters.
func (d *Domain) Stats(ctx context.Context) (Stats, error) {
	var s Stats
	err := d.read(ctx, "stats", func(ctx context.Context) (err error) {
		s, err = d.conn.stats(ctx, d.inst)
		return err
	})
	return s, err
}

func (c *Conn) stats(ctx context.Context, inst Instance) (Stats, error) {
	i, err := offered[StatsReader](c, inst, FeatureStats)
	if err != nil {
		return Stats{}, err
	}
	return i.Stats(ctx)
}

// statsAtOnce bounds how many domains are asked at a time.
const statsAtOnce = 16

// Stats gives the counters of the domains that the filter selects, in the order
// of Domains. Domains that vanish meanwhile are left out. Several domains are
// asked at a time; the first that fails otherwise ends the call.
func (c *Conn) Stats(ctx context.Context, f DomainFilter) ([]Stats, error) {
	f.Labels = maps.Clone(f.Labels)
	var all []Stats
	err := c.call(ctx, "stats", "", func(ctx context.Context) error {
		if err := c.need(FeatureStats); err != nil {
			return err
		}
		doms, err := c.selected(ctx, f)
		if err != nil {
			return err
		}
		list := make([]Instance, len(doms))
		for i, d := range doms {
			list[i] = d.inst
		}
		if b, ok := As[BulkStatsReader](c.driver); ok {
			all, err = b.BulkStats(ctx, list)
		} else {
			all, err = c.statsOfEach(ctx, list)
		}
		return err
	})
	return all, err
}

// statsOfEach asks the domains, several at a time.
func (c *Conn) statsOfEach(ctx context.Context, list []Instance) ([]Stats, error) {
	var (
		all    = make([]Stats, len(list))
		kept   = make([]bool, len(list))
		wg     sync.WaitGroup
		next   = make(chan int)
		first  sync.Once
		failed error
		panics any
	)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := func(err error, panicked any) {
		first.Do(func() {
			failed, panics = err, panicked
			cancel()
		})
	}
	ask := func(i int) {
		defer func() {
			if p := recover(); p != nil {
				stop(nil, p)
			}
		}()
		s, err := c.stats(ctx, list[i])
		switch {
		case err == nil:
			all[i], kept[i] = s, true
		case !errors.Is(err, ErrNotFound):
			stop(err, nil)
		}
	}
	for range min(statsAtOnce, len(list)) {
		wg.Go(func() {
			for i := range next {
				ask(i)
			}
		})
	}
	for i := 0; i < len(list) && ctx.Err() == nil; i++ {
		next <- i
	}
	close(next)
	wg.Wait()
	if panics != nil {
		panic(panics) // the caller's, as that of any other call
	}
	if failed == nil {
		failed = ctx.Err()
	}
	if failed != nil {
		return nil, failed
	}
	n := 0
	for i, k := range kept {
		if k {
			all[n] = all[i]
			n++
		}
	}
	return all[:n], nil
}
