package fake

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/polyvisor/polyvisor"
)

// Latency is how long calls take: between Min and Max, evenly spread, before
// they have any effect. A call that is given up meanwhile has none.
type Latency struct {
	// Op is one of Operations; "*" or empty for all.
	Op       string
	Min, Max time.Duration
}

func (l Latency) check() error {
	_, err := parseOperation(l.Op)
	if err == nil && (l.Min < 0 || l.Max < l.Min) {
		err = fmt.Errorf("%s to %s is not a range", l.Min, l.Max)
	}
	if err != nil {
		return fmt.Errorf("%w: latency: %w", polyvisor.ErrInvalidConfig, err)
	}
	return nil
}

func (l Latency) draw(r *rand.Rand) time.Duration {
	if l.Max == l.Min {
		return l.Min
	}
	return l.Min + time.Duration(r.Int64N(int64(l.Max-l.Min)+1))
}

// ParseLatency reads a latency of a URI: [OPERATION:]TIME or
// [OPERATION:]TIME..TIME, as in 1ms or start:5ms..20ms.
func ParseLatency(s string) (Latency, error) {
	op, span, ok := strings.Cut(s, ":")
	if !ok {
		op, span = "*", s
	}
	low, high, isRange := strings.Cut(span, "..")
	if !isRange {
		high = low
	}
	l := Latency{Op: op}
	var err error
	if l.Min, err = parseDuration(low); err == nil {
		l.Max, err = parseDuration(high)
	}
	if err != nil {
		return Latency{}, fmt.Errorf("%w: latency %q: %w", polyvisor.ErrInvalidConfig, s, err)
	}
	return l, l.check()
}

// String gives the latency in the form that ParseLatency reads.
func (l Latency) String() string {
	s := l.Min.String()
	if l.Max != l.Min {
		s += ".." + l.Max.String()
	}
	if l.Op == "" || l.Op == "*" {
		return s
	}
	return l.Op + ":" + s
}
