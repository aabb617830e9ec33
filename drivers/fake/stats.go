package fake

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/polyvisor/polyvisor"
)

// Stats gives the counters of the domain.
func (i *instance) Stats(ctx context.Context) (s polyvisor.Stats, err error) {
	err = i.do(ctx, opStats, func(d *domain) error {
		s = d.statsLocked(time.Now())
		return nil
	})
	return s, err
}

// BulkStats reads those of many domains at one moment.
func (c *driver) BulkStats(ctx context.Context, list []polyvisor.Instance) (all []polyvisor.Stats, err error) {
	err = c.do(ctx, opStats, nil, "", func(*verdict) error {
		c.h.mu.Lock()
		defer c.h.unlock()
		now := time.Now()
		all = make([]polyvisor.Stats, 0, len(list))
		for _, inst := range list {
			i, ok := polyvisor.As[*instance](inst)
			if !ok {
				return errors.New("an instance of another driver")
			}
			if d, err := i.domainLocked(); err == nil {
				all = append(all, d.statsLocked(now))
			}
		}
		return nil
	})
	return all, err
}

func (d *domain) statsLocked(now time.Time) polyvisor.Stats {
	c := d.configLocked()
	s := polyvisor.Stats{Name: d.name, UUID: d.id, Info: d.infoLocked(), Time: now, VCPUs: d.vcpusLocked()}
	for _, disk := range c.Disks {
		counters := polyvisor.DiskStats{Target: disk.Target}
		if d.run != nil {
			if img, _ := d.run.imageOf(disk.Target); img != nil {
				counters = img.stats
			}
		}
		s.Disks = append(s.Disks, counters)
	}
	var g *guest
	if d.run != nil {
		g = d.run.guest
	}
	for _, nic := range c.NICs {
		counters := polyvisor.NICStats{MAC: nic.MAC}
		if g != nil && g.nics[nic.MAC] != nil {
			counters = *g.nics[nic.MAC]
		}
		s.NICs = append(s.NICs, counters)
	}
	if g != nil {
		s.Exits = maps.Clone(g.exits)
	}
	return s
}
