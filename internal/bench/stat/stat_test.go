package stat

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMedian(t *testing.T) {
	for name, c := range map[string]struct {
		x    []float64
		want float64
	}{
		"one":          {[]float64{3}, 3},
		"odd":          {[]float64{9, 1, 4}, 4},
		"even":         {[]float64{4, 1, 3, 2}, 2.5},
		"an outlier":   {[]float64{1, 1, 1, 1e9, 1}, 1},
		"no overflow":  {[]float64{math.MaxFloat64, math.MaxFloat64}, math.MaxFloat64},
		"negative too": {[]float64{-1, -3}, -2},
	} {
		t.Run(name, func(t *testing.T) {
			before := append([]float64(nil), c.x...)
			assert.Equal(t, c.want, Median(c.x))
			assert.Equal(t, before, c.x, "the argument was changed")
		})
	}
	assert.True(t, math.IsNaN(Median(nil)))
}

func TestQuantile(t *testing.T) {
	x := []float64{40, 10, 20, 30}
	assert.Equal(t, 10.0, Quantile(x, 0))
	assert.Equal(t, 40.0, Quantile(x, 1))
	assert.Equal(t, 25.0, Quantile(x, 0.5))
	assert.InDelta(t, 38.5, Quantile(x, 0.95), 1e-9)
	assert.Equal(t, 7.0, Quantile([]float64{7}, 0.95))
	assert.True(t, math.IsNaN(Quantile(nil, 0.5)))
}

func TestRatios(t *testing.T) {
	r, err := Ratios([]float64{2, 9}, []float64{1, 3})
	require.NoError(t, err)
	assert.Equal(t, []float64{2, 3}, r)
	for name, c := range map[string][2][]float64{
		"none":             {nil, nil},
		"unequal":          {{1}, {1, 2}},
		"zero below":       {{1}, {0}},
		"negative":         {{-1}, {1}},
		"not a number":     {{math.NaN()}, {1}},
		"infinite":         {{1}, {math.Inf(1)}},
		"zero time counts": {{0}, {1}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Ratios(c[0], c[1])
			assert.ErrorIs(t, err, ErrData)
			_, err = MedianRatio(c[0], c[1], 0.95, 1)
			assert.ErrorIs(t, err, ErrData)
		})
	}
}

func TestBootstrapRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		x          []float64
		confidence float64
	}{
		"none":         {nil, 0.95},
		"not a number": {[]float64{1, math.NaN()}, 0.95},
		"infinite":     {[]float64{math.Inf(-1)}, 0.95},
		"certainty":    {[]float64{1}, 1},
		"nothing":      {[]float64{1}, 0},
		"NaN":          {[]float64{1}, math.NaN()},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Bootstrap(c.x, c.confidence, 1)
			assert.ErrorIs(t, err, ErrData)
		})
	}
}

// Noise that moves both of a pair alike, such as another load on the machine, cancels out of the pairwise ratio.
func TestMedianRatioOfPairs(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var a, b []float64
	for range 41 {
		load := 1 + 3*rng.Float64()
		a = append(a, 1.07*load*(1+0.01*rng.NormFloat64()))
		b = append(b, load*(1+0.01*rng.NormFloat64()))
	}
	i, err := MedianRatio(a, b, 0.95, 7)
	require.NoError(t, err)
	assert.Equal(t, 41, i.N)
	assert.InDelta(t, 1.07, i.Estimate, 0.01)
	assert.LessOrEqual(t, i.Low, i.Estimate)
	assert.GreaterOrEqual(t, i.High, i.Estimate)
	assert.Less(t, i.High-i.Low, 0.02)
	again, err := MedianRatio(a, b, 0.95, 7)
	require.NoError(t, err)
	assert.Equal(t, i, again)
}

// Of many intervals of 90 % about nine in ten must hold the truth.
func TestBootstrapCovers(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	const trials, truth = 200, 5.0
	held := 0
	for k := range trials {
		x := make([]float64, 25)
		for j := range x {
			x[j] = truth + rng.NormFloat64()
		}
		i, err := bootstrap(x, 0.9, uint64(k), 500)
		require.NoError(t, err)
		if i.Low <= truth && truth <= i.High {
			held++
		}
	}
	assert.InDelta(t, 0.9, float64(held)/trials, 0.07)
}

func TestBootstrapOfOne(t *testing.T) {
	i, err := Bootstrap([]float64{2}, 0.95, 1)
	require.NoError(t, err)
	assert.Equal(t, Interval{2, 2, 2, 1}, i)
}
