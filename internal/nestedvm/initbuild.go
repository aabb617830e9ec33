package nestedvm

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

const initPackage = "github.com/polyvisor/polyvisor/internal/nestedvm/init"

// buildInit compiles the machine's init. The Go tool's own cache makes this cheap from the second time on.
func buildInit(ctx context.Context) ([]byte, error) {
	dir, err := os.MkdirTemp("", "nestedvm-init-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "init")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, initPackage)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOFLAGS=")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("build the nested machine's init (run from inside the module): %w\n%s", err, said.Bytes())
	}
	return os.ReadFile(out)
}
