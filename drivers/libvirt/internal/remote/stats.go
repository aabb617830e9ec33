package remote

import (
	"context"
	"fmt"
	"math"

	"github.com/digitalocean/go-libvirt"

	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/xdr"
)

// The types of a typed parameter (virTypedParameterType).
const (
	typeInt     = 1
	typeUint    = 2
	typeInt64   = 3
	typeUint64  = 4
	typeFloat   = 5
	typeBoolean = 6
	typeString  = 7
)

// Param is the value of a typed parameter: a number in the field of its type, or a
// text.
type Param struct {
	Uint  uint64
	Int   int64
	Float float64
	Text  string
}

// Number gives a count. Negative ones are 0.
func (p Param) Number() uint64 {
	switch {
	case p.Uint != 0:
		return p.Uint
	case p.Int > 0:
		return uint64(p.Int)
	case p.Float > 0 && p.Float < math.MaxUint64:
		return uint64(p.Float)
	}
	return 0
}

// DomainStats are the statistics of one domain.
type DomainStats struct {
	Domain libvirt.Domain
	Params map[string]Param
}

// Stats is REMOTE_PROC_CONNECT_GET_ALL_DOMAIN_STATS of the domains, or of all that
// the flags select if there is none.
func (c Conn) Stats(ctx context.Context, doms []libvirt.Domain, types libvirt.DomainStatsTypes, flags libvirt.ConnectGetAllDomainStatsFlags) (list []DomainStats, err error) {
	err = c.call(ctx, 344, func(w *xdr.Writer) {
		w.Count(len(doms))
		for i := range doms {
			writeDomain(w, &doms[i])
		}
		w.Uint32(uint32(types))
		w.Uint32(uint32(flags))
	}, func(r *xdr.Reader) {
		list = make([]DomainStats, r.Count(maxStats, leastDomain+4))
		for i := range list {
			readDomain(r, &list[i].Domain)
			list[i].Params = readParams(r, maxStatsParams)
			if r.Err() != nil {
				return
			}
		}
	})
	return list, err
}

// readParams reads an array of typed parameters.
func readParams(r *xdr.Reader, limit int) map[string]Param {
	n := r.Count(limit, 12)
	params := make(map[string]Param, n)
	for range n {
		name := r.String()
		var p Param
		switch t := r.Int32(); t {
		case typeInt:
			p.Int = int64(r.Int32())
		case typeUint:
			p.Uint = uint64(r.Uint32())
		case typeInt64:
			p.Int = r.Int64()
		case typeUint64:
			p.Uint = r.Uint64()
		case typeFloat:
			p.Float = r.Float64()
		case typeBoolean:
			p.Int = int64(r.Int32())
		case typeString:
			p.Text = r.String()
		default:
			r.Fail(fmt.Errorf("parameter %.80q is of the unknown type %d", name, t))
		}
		if r.Err() != nil {
			return nil
		}
		params[name] = p
	}
	return params
}
