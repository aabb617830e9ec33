//go:build linux

package nestedvm

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/polyvisor/polyvisor/internal/leaktest"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// needMachine skips the test where the machine cannot run, and builds the probe.
func needMachine(t *testing.T) File {
	t.Helper()
	if err := Available(); err != nil {
		t.Skip(err)
	}
	out := filepath.Join(t.TempDir(), "probe")
	cmd := exec.Command("go", "build", "-o", out, "github.com/polyvisor/polyvisor/internal/nestedvm/internal/probe")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	said, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", said)
	return File{Source: out, Path: "/bin/probe"}
}

func TestRun(t *testing.T) {
	probe := needMachine(t)
	var out, errs bytes.Buffer
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	res, err := Run(ctx, Config{
		Files:  []File{probe},
		Stdout: &out, Stderr: &errs,
		Commands: []Command{{Args: []string{"/bin/probe", "check", "a b"}, Env: []string{"X=y"}, Dir: "/src/x"}},
	})
	require.NoError(t, err)
	t.Logf("%+v\n%s%s", res, out.String(), errs.String())
}
