package libvirt

import (
	"context"
	"fmt"
	"time"

	"github.com/polyvisor/polyvisor/internal/bench/stat"
)

// Plan says how to measure.
type Plan struct {
	Ops     []Op
	Threads []int         // numbers of threads
	Pairs   int           // turns of each client
	Turn    time.Duration // about how long one takes
}

// DefaultPlan takes about half a minute with one client beside the reference.
func DefaultPlan() Plan {
	return Plan{Ops: Ops, Threads: []int{1, 16}, Pairs: 21, Turn: 100 * time.Millisecond}
}

// Subject is a client that is measured.
type Subject struct {
	Name   string
	Caller Caller
}

// Figure is what came of one call with a number of threads.
type Figure struct {
	Subject string    `json:"subject"`
	Op      Op        `json:"call"`
	Threads int       `json:"threads"`
	Rates   []float64 `json:"calls_per_second"` // of each turn
	// Ratio is the subject's rate to the reference's, nil for the reference itself.
	Ratio *stat.Interval `json:"ratio,omitempty"`
}

// Rate is the median of the turns, in calls a second.
func (f Figure) Rate() float64 { return stat.Median(f.Rates) }

// Measure has the reference and the subjects take turns, for each call and number of threads, and gives their figures
// in that order, the reference first.
func Measure(ctx context.Context, p Plan, reference Subject, subjects ...Subject) ([]Figure, error) {
	all := append([]Subject{reference}, subjects...)
	var figures []Figure
	for _, op := range p.Ops {
		for _, threads := range p.Threads {
			f, err := p.one(ctx, op, threads, all)
			if err != nil {
				return figures, err
			}
			figures = append(figures, f...)
		}
	}
	return figures, nil
}

func (p Plan) one(ctx context.Context, op Op, threads int, all []Subject) ([]Figure, error) {
	figures, counts := make([]Figure, len(all)), make([]int, len(all))
	for i, s := range all {
		figures[i] = Figure{Subject: s.Name, Op: op, Threads: threads}
		var err error
		if counts[i], err = p.calibrate(ctx, op, threads, s); err != nil {
			return nil, err
		}
	}
	for pair := range p.Pairs {
		for k := range all {
			i := (k + pair) % len(all) // nobody is always first
			took, err := turn(ctx, op, threads, counts[i], all[i])
			if err != nil {
				return nil, err
			}
			figures[i].Rates = append(figures[i].Rates, float64(counts[i]*threads)/took.Seconds())
		}
	}
	for i := 1; i < len(figures); i++ {
		r, err := stat.MedianRatio(figures[i].Rates, figures[0].Rates, 0.95, 1)
		if err != nil {
			return nil, err
		}
		figures[i].Ratio = &r
	}
	return figures, nil
}

// calibrate finds how many calls of each thread fill a turn.
func (p Plan) calibrate(ctx context.Context, op Op, threads int, s Subject) (int, error) {
	for count := 20; ; count *= 4 {
		took, err := turn(ctx, op, threads, count, s)
		if err != nil {
			return 0, err
		}
		if took >= p.Turn/8 || count > 1<<24 {
			return max(1, int(float64(count)*float64(p.Turn)/float64(took))), nil
		}
	}
}

func turn(ctx context.Context, op Op, threads, count int, s Subject) (time.Duration, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	took, err := s.Caller.Time(ctx, op, threads, count)
	if err == nil && took <= 0 {
		err = fmt.Errorf("%d calls took no time", count*threads)
	}
	if err != nil {
		return 0, fmt.Errorf("%s: %w", s.Name, err)
	}
	return took, nil
}
