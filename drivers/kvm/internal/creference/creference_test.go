package creference

import (
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func TestProgram(t *testing.T) {
	sh, err := exec.LookPath("sh")
	require.NoError(t, err)
	p, err := Start(t.Context(), sh, "-c", `while read n; do echo $((n * 2)) "$1"; done`, "sh", "7")
	require.NoError(t, err)
	for n := range uint64(3) {
		wall, cpu, err := p.Do(n)
		require.NoError(t, err)
		require.Equal(t, time.Duration(2*n), wall)
		require.Equal(t, time.Duration(7), cpu)
	}
	require.NoError(t, p.Close())

	p, err = Start(t.Context(), sh, "-c", "read n; echo nonsense")
	require.NoError(t, err)
	_, _, err = p.Do(1)
	require.ErrorContains(t, err, "the reference")
	require.NoError(t, p.Close())
	_, err = Start(t.Context(), "/no/such/program")
	require.ErrorContains(t, err, "the reference")
}
