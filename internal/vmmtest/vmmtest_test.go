package vmmtest

import (
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func TestBuild(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skipf("needs the go command: %v", err)
	}
	dir := t.TempDir()
	path, err := Build(t.Context(), dir)
	require.NoError(t, err)
	st, err := os.Stat(path)
	require.NoError(t, err)
	assert.NotZero(t, st.Mode()&0o111, "it can be run")
	_, err = Build(t.Context(), dir+"/no/such\x00")
	assert.ErrorContains(t, err, "build the VM process")
	t.Setenv("PATH", dir)
	path, err = Build(t.Context(), dir)
	require.NoError(t, err)
	assert.Empty(t, path)
}
