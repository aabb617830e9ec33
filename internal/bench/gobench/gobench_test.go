package gobench

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParse(t *testing.T) {
	r := parse("goos: linux\nBenchmarkRead/depth=1-2   \t 20\t 5000 ns/op\t 0.75 of-pread\nBenchmarkRead/depth=1-2 20 6000 ns/op 0.70 of-pread\n" +
		"BenchmarkOdd-x 1 2\nBenchmarkBroken-2 --- FAIL:\nBenchmarkPlain 10 7 ns/op\nPASS\nok x 1.2s\n")
	require.Equal(t, Results{
		"BenchmarkRead/depth=1": {"ns/op": {5000, 6000}, "of-pread": {0.75, 0.70}},
		"BenchmarkPlain":        {"ns/op": {7}},
	}, r)
}

func TestRun(t *testing.T) {
	_, err := Run(t.Context(), Plan{Package: "github.com/polyvisor/polyvisor/internal/bench/gobench", Bench: "^BenchmarkNothing$", Count: 1, Time: "1x"})
	require.ErrorIs(t, err, ErrNothing)
	_, err = Run(t.Context(), Plan{Package: "./no/such", Bench: "x", Count: 1, Time: "1x"})
	require.ErrorContains(t, err, "no/such")
}
