// Package stat has the few statistics that the measurements need: medians, ratios of things measured in pairs, and
// confidence intervals by the bootstrap (Efron, "Bootstrap Methods: Another Look at the Jackknife", 1979), which needs
// no assumption about how noise is distributed.
package stat

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
)

// ErrData says that numbers cannot be made a statistic of.
var ErrData = errors.New("no finite, positive numbers to make a statistic of")

// Resamples is how many times Bootstrap draws.
const Resamples = 10_000

// Median gives the middle of the numbers, or the mean of the two in the middle; NaN of none. It leaves x as it is.
func Median(x []float64) float64 {
	return medianOf(slices.Clone(x))
}

// medianOf is Median and sorts x.
func medianOf(x []float64) float64 {
	n := len(x)
	if n == 0 {
		return math.NaN()
	}
	slices.Sort(x)
	if n%2 == 1 {
		return x[n/2]
	}
	return x[n/2-1] + (x[n/2]-x[n/2-1])/2
}

// Interval is an estimate with the bounds of its confidence interval.
type Interval struct {
	Estimate float64 `json:"estimate"`
	Low      float64 `json:"low"`
	High     float64 `json:"high"`
	N        int     `json:"n"` // numbers, or pairs, it rests on
}

// Ratios divides a by b, pair by pair. Both must have the same length and finite numbers above 0.
func Ratios(a, b []float64) ([]float64, error) {
	if len(a) != len(b) || len(a) == 0 {
		return nil, ErrData
	}
	r := make([]float64, len(a))
	for i := range a {
		if !positive(a[i]) || !positive(b[i]) {
			return nil, ErrData
		}
		r[i] = a[i] / b[i]
	}
	return r, nil
}

func positive(x float64) bool { return x > 0 && !math.IsInf(x, 0) }

// MedianRatio gives the median of the pairwise ratios a/b with its bootstrap interval of the confidence, say 0.95. The
// same seed gives the same interval.
func MedianRatio(a, b []float64, confidence float64, seed uint64) (Interval, error) {
	r, err := Ratios(a, b)
	if err != nil {
		return Interval{}, err
	}
	return Bootstrap(r, confidence, seed)
}

// Bootstrap gives the median of x with its percentile interval of the confidence, between 0 and 1.
func Bootstrap(x []float64, confidence float64, seed uint64) (Interval, error) {
	return bootstrap(x, confidence, seed, Resamples)
}

func bootstrap(x []float64, confidence float64, seed uint64, resamples int) (Interval, error) {
	if len(x) == 0 || !(confidence > 0 && confidence < 1) {
		return Interval{}, ErrData
	}
	for _, v := range x {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return Interval{}, ErrData
		}
	}
	rng := rand.New(rand.NewPCG(seed, uint64(len(x))))
	medians := make([]float64, resamples)
	draw := make([]float64, len(x))
	for i := range medians {
		for j := range draw {
			draw[j] = x[rng.IntN(len(x))]
		}
		medians[i] = medianOf(draw)
	}
	slices.Sort(medians)
	tail := (1 - confidence) / 2
	return Interval{Estimate: Median(x), Low: quantile(medians, tail), High: quantile(medians, 1-tail), N: len(x)}, nil
}

// Quantile gives the number below which the part q of the numbers lies, by linear interpolation; NaN of none.
func Quantile(x []float64, q float64) float64 {
	s := slices.Clone(x)
	slices.Sort(s)
	return quantile(s, q)
}

func quantile(sorted []float64, q float64) float64 {
	n := len(sorted)
	if n == 0 {
		return math.NaN()
	}
	pos := min(max(q, 0), 1) * float64(n-1)
	i := int(pos)
	if i+1 >= n {
		return sorted[n-1]
	}
	return sorted[i] + (pos-float64(i))*(sorted[i+1]-sorted[i])
}
