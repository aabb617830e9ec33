package libvirt

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/google/uuid"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/remote"
)

// statsTypes are the groups of statistics that are asked for.
const statsTypes = libvirt.DomainStatsState | libvirt.DomainStatsCPUTotal | libvirt.DomainStatsBalloon | libvirt.DomainStatsVCPU |
	libvirt.DomainStatsInterface | libvirt.DomainStatsBlock

// Stats gives the domain's counters.
func (i *instance) Stats(ctx context.Context) (polyvisor.Stats, error) {
	list, err := i.d.stats(ctx, []*instance{i})
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("%w: the domain is gone", polyvisor.ErrNotFound)
	}
	if err != nil {
		return polyvisor.Stats{}, err
	}
	return list[0], nil
}

// BulkStats gives those of many in one call.
func (d *driver) BulkStats(ctx context.Context, list []polyvisor.Instance) ([]polyvisor.Stats, error) {
	own := make([]*instance, len(list))
	for n, inst := range list {
		i, ok := polyvisor.As[*instance](inst)
		if !ok {
			return nil, fmt.Errorf("%w: a domain of another driver (%T)", polyvisor.ErrInvalidConfig, inst)
		}
		own[n] = i
	}
	var all []polyvisor.Stats
	for len(own) > 0 { // libvirt takes so many at a time
		n := min(len(own), maxStatsDomains)
		part, err := d.stats(ctx, own[:n])
		if err != nil {
			return nil, err
		}
		all, own = append(all, part...), own[n:]
	}
	return all, nil
}

const maxStatsDomains = 1024

// stats asks for the statistics of domains; those that are gone are left out.
func (d *driver) stats(ctx context.Context, list []*instance) ([]polyvisor.Stats, error) {
	if len(list) == 0 {
		return nil, nil
	}
	s, err := d.link.session()
	if err != nil {
		return nil, err
	}
	doms := make([]libvirt.Domain, len(list))
	for n, i := range list {
		doms[n] = i.dom
	}
	records, err := s.Stats(ctx, doms, statsTypes, 0)
	now := time.Now()
	if number(err) == libvirt.ErrNoDomain && len(list) == 1 {
		return nil, nil
	}
	if err != nil {
		return nil, s.failed(err)
	}
	byUUID := make(map[libvirt.UUID]*remote.DomainStats, len(records))
	for n := range records {
		byUUID[records[n].Domain.UUID] = &records[n]
	}
	var all []polyvisor.Stats
	for _, i := range list {
		r := byUUID[i.dom.UUID]
		if r == nil {
			continue
		}
		stat, err := i.statsOf(ctx, s, r.Params, now)
		switch {
		case polyvisor.CodeOf(err) == polyvisor.CodeNotFound:
		case err != nil:
			return nil, err
		default:
			all = append(all, stat)
		}
	}
	return all, nil
}

// statsOf makes one domain's statistics of libvirt's parameters.
func (i *instance) statsOf(ctx context.Context, s *session, p map[string]remote.Param, now time.Time) (polyvisor.Stats, error) {
	info, err := i.Info(ctx)
	if err != nil {
		return polyvisor.Stats{}, err
	}
	if t := p[libvirt.DomainStatsCPUTime].Number(); info.State.Active() && t > uint64(info.CPUTime) {
		info.CPUTime = time.Duration(t)
	}
	stat := polyvisor.Stats{Name: i.Name(), UUID: uuid.UUID(i.dom.UUID), Info: info, Time: now}
	if i.d.caps.Has(polyvisor.FeatureVCPUInfo) {
		if stat.VCPUs, err = i.vcpus(ctx, s); err != nil {
			return polyvisor.Stats{}, s.failed(err)
		}
	}
	c, _, err := i.read(ctx, s, 0)
	if err != nil {
		return polyvisor.Stats{}, s.failed(err)
	}
	// libvirt has all devices of the domain, and names them as the configuration does, but
	// for NICs, which come in its order.
	disks := make(map[string]string)
	for n := range p[libvirt.DomainStatsBlockCount].Number() {
		prefix := libvirt.DomainStatsBlockPrefix + strconv.FormatUint(n, 10)
		if _, backing := p[prefix+libvirt.DomainStatsBlockSuffixBackingindex]; backing {
			if _, taken := disks[p[prefix+libvirt.DomainStatsBlockSuffixName].Text]; taken {
				continue // of a backing file
			}
		}
		disks[p[prefix+libvirt.DomainStatsBlockSuffixName].Text] = prefix
	}
	for n := range c.Disks {
		target := c.Disks[n].Target
		prefix, ok := disks[target]
		get := func(suffix string) uint64 {
			if !ok {
				return 0
			}
			return p[prefix+suffix].Number()
		}
		stat.Disks = append(stat.Disks, polyvisor.DiskStats{
			Target:       target,
			ReadRequests: get(libvirt.DomainStatsBlockSuffixRdReqs), ReadBytes: polyvisor.Bytes(get(libvirt.DomainStatsBlockSuffixRdBytes)),
			WriteRequests: get(libvirt.DomainStatsBlockSuffixWrReqs), WriteBytes: polyvisor.Bytes(get(libvirt.DomainStatsBlockSuffixWrBytes)),
			FlushRequests: get(libvirt.DomainStatsBlockSuffixFlReqs), Errors: get(libvirt.DomainStatsBlockSuffixErrors),
		})
	}
	stat.NICs = i.nicStats(c, p)
	return stat, nil
}

// nicStats reads the counters of the NICs, which libvirt has from the host's side: what
// the host's interface sends the guest receives. For types without an interface there
// are none.
func (i *instance) nicStats(c *polyvisor.Config, p map[string]remote.Param) []polyvisor.NICStats {
	var list []polyvisor.NICStats
	for n := range c.NICs {
		prefix := libvirt.DomainStatsNetPrefix + strconv.Itoa(n)
		get := func(suffix string) uint64 { return p[prefix+suffix].Number() }
		list = append(list, polyvisor.NICStats{
			MAC:       c.NICs[n].MAC,
			RXPackets: get(libvirt.DomainStatsNetSuffixRxPkts), RXBytes: polyvisor.Bytes(get(libvirt.DomainStatsNetSuffixRxBytes)), RXDropped: get(libvirt.DomainStatsNetSuffixRxDrop),
			TXPackets: get(libvirt.DomainStatsNetSuffixTxPkts), TXBytes: polyvisor.Bytes(get(libvirt.DomainStatsNetSuffixTxBytes)), TXDropped: get(libvirt.DomainStatsNetSuffixTxDrop),
		})
	}
	return list
}

var (
	_ polyvisor.StatsReader     = (*instance)(nil)
	_ polyvisor.BulkStatsReader = (*driver)(nil)
)
