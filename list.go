package polyvisor

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
)

// DomainFilter selects domains by properties. Active and Inactive choose by
// state: neither or both set means all. Labels chooses the domains that have
// all of these labels with these values.
type DomainFilter struct {
	Active   bool
	Inactive bool
	Labels   map[string]string
}

// selects asks a domain whatever the filter needs to know of it.
func (f DomainFilter) selects(ctx context.Context, inst Instance) (bool, error) {
	if f.Active != f.Inactive {
		active, err := asksActive(ctx, inst)
		if err != nil || f.Active != active {
			return false, err
		}
	}
	if len(f.Labels) == 0 {
		return true, nil
	}
	c, err := inst.Config(ctx)
	if err != nil {
		return false, err
	}
	for k, v := range f.Labels {
		if have, ok := c.Labels[k]; !ok || have != v {
			return false, nil
		}
	}
	return true, nil
}

// Domains lists the domains that the filter selects, sorted by name
// (virConnectListDomains, virConnectListDefinedDomains). Domains that vanish
// while the list is made are left out.
func (c *Conn) Domains(ctx context.Context, f DomainFilter) ([]*Domain, error) {
	f.Labels = maps.Clone(f.Labels)
	var doms []*Domain
	err := c.call(ctx, "list", "", func(ctx context.Context) (err error) {
		doms, err = c.selected(ctx, f)
		return err
	})
	return doms, err
}

// selected lists the domains that the filter selects, sorted by name.
func (c *Conn) selected(ctx context.Context, f DomainFilter) ([]*Domain, error) {
	var doms []*Domain
	err := c.list(ctx, func(inst Instance) error {
		ok, err := f.selects(ctx, inst)
		if ok {
			doms = append(doms, c.domain(inst))
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(doms, func(a, b *Domain) int { return strings.Compare(a.Name(), b.Name()) })
	return doms, nil
}

// list calls each for every domain. Those that each finds gone are left out.
func (c *Conn) list(ctx context.Context, each func(Instance) error) error {
	all, err := c.driver.List(ctx)
	if err != nil {
		return err
	}
	for _, inst := range all {
		if err := each(inst); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return nil
}

// asksActive asks a domain whether it is active.
func asksActive(ctx context.Context, inst Instance) (bool, error) {
	s, err := inst.State(ctx)
	if err != nil {
		return false, err
	}
	return isActive(ctx, inst, s)
}

// CountDomains gives the numbers of active and of defined, inactive domains
// (virConnectNumOfDomains, virConnectNumOfDefinedDomains), from one list.
func (c *Conn) CountDomains(ctx context.Context) (active, inactive int, err error) {
	err = c.call(ctx, "list", "", func(ctx context.Context) error {
		return c.list(ctx, func(inst Instance) error {
			on, err := asksActive(ctx, inst)
			switch {
			case err != nil:
				return err
			case on:
				active++
			default:
				inactive++
			}
			return nil
		})
	})
	if err != nil {
		return 0, 0, err
	}
	return active, inactive, nil
}
