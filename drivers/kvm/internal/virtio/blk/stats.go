package blk

import (
	"math/bits"
	"sync/atomic"
)

// LatencyBuckets is how many buckets a histogram of latencies has.
const LatencyBuckets = 24

// Stats are the counts of a device since it was made, over all its queues.
type Stats struct {
	Read        Ops `json:"read"`
	Write       Ops `json:"write"`
	Flush       Ops `json:"flush"`
	Discard     Ops `json:"discard"`
	WriteZeroes Ops `json:"write_zeroes"`
	// Identify counts requests for the serial number.
	Identify uint64 `json:"identify"`
	// Invalid counts requests that break the rules, for instance beyond the end of the disk, and Unsupported those that
	// the device does not know or did not offer. Neither reaches the storage.
	Invalid     uint64 `json:"invalid"`
	Unsupported uint64 `json:"unsupported"`
	// Batches counts how often answers were given to the driver; each is one interrupt at the most.
	Batches uint64 `json:"batches"`
	// Latency counts requests by the time from the ring to the answer: bucket 0 those below 1 microsecond,
	// bucket i those from 2^(i-1) to below 2^i microseconds, the last one all longer ones.
	Latency [LatencyBuckets]uint64 `json:"latency_us_log2"`
	// LatencyTotal is the sum of these times in nanoseconds.
	LatencyTotal uint64 `json:"latency_total_ns"`
}

// Ops are the requests of one kind that reached the storage.
type Ops struct {
	Requests uint64 `json:"requests"` // failed ones included
	Bytes    uint64 `json:"bytes"`    // of those that succeeded
	Errors   uint64 `json:"errors"`
}

// kind is what a request counts as.
type kind uint8

const (
	kindRead kind = iota
	kindWrite
	kindFlush
	kindDiscard
	kindZeroes
	storageKinds // below: those that reach the storage
)

const (
	kindID kind = storageKinds + iota
	kindInvalid
	kindUnsupported
)

var kindNames = [...]string{"read", "write", "flush", "discard", "write zeroes"}

func (k kind) String() string { return kindNames[k] }

// counters are those of one queue: written by its goroutine and the helpers, read by anyone at any time.
type counters struct {
	ops [storageKinds]struct {
		requests, bytes, errors atomic.Uint64
	}
	identify, invalid, unsupported, batches atomic.Uint64

	latency      [LatencyBuckets]atomic.Uint64
	latencyTotal atomic.Uint64
}

// add counts a request that is done after so many nanoseconds.
func (c *counters) add(r *request, took int64) {
	switch r.kind {
	case kindID:
		c.identify.Add(1)
	case kindInvalid:
		c.invalid.Add(1)
	case kindUnsupported:
		c.unsupported.Add(1)
	default:
		o := &c.ops[r.kind]
		o.requests.Add(1)
		if r.result == statusOK {
			o.bytes.Add(uint64(r.bytes))
		} else {
			o.errors.Add(1)
		}
	}
	ns := uint64(max(took, 0))
	c.latency[min(bits.Len64(ns/1000), LatencyBuckets-1)].Add(1)
	c.latencyTotal.Add(ns)
}

// Stats reads the counters without holding anything up; a request that ends meanwhile may be in some and not yet in others.
func (d *Device) Stats() Stats {
	var s Stats
	ops := [...]*Ops{&s.Read, &s.Write, &s.Flush, &s.Discard, &s.WriteZeroes}
	for i := range d.c.Queues {
		c := &d.counters[i]
		for k, o := range ops {
			o.Requests += c.ops[k].requests.Load()
			o.Bytes += c.ops[k].bytes.Load()
			o.Errors += c.ops[k].errors.Load()
		}
		s.Identify += c.identify.Load()
		s.Invalid += c.invalid.Load()
		s.Unsupported += c.unsupported.Load()
		s.Batches += c.batches.Load()
		for b := range s.Latency {
			s.Latency[b] += c.latency[b].Load()
		}
		s.LatencyTotal += c.latencyTotal.Load()
	}
	return s
}
