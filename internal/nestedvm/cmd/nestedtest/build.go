package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// testPackage is a package with tests, as go list describes it.
type testPackage struct {
	ImportPath   string
	Dir          string
	TestGoFiles  []string
	XTestGoFiles []string
	Module       *struct{ Dir string }

	binary string // built test binary
}

func goTool(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	return cmd
}

// listPackages returns the packages that have tests.
func listPackages(ctx context.Context, o *options) ([]*testPackage, error) {
	cmd := goTool(ctx, append([]string{"list", "-tags", o.tags, "-json=ImportPath,Dir,TestGoFiles,XTestGoFiles,Module"}, o.packages...)...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("go list: %w\n%s", err, said.Bytes())
	}
	var found []*testPackage
	for d := json.NewDecoder(&out); ; {
		p := &testPackage{}
		switch err := d.Decode(p); {
		case errors.Is(err, io.EOF):
			return found, nil
		case err != nil:
			return nil, fmt.Errorf("go list: %w", err)
		}
		if len(p.TestGoFiles)+len(p.XTestGoFiles) > 0 {
			found = append(found, p)
		}
	}
}

// build compiles the test binaries into dir. Its error holds what the compiler said of all of them.
func build(ctx context.Context, o *options, pkgs []*testPackage, dir string) error {
	var errs []error
	for i, p := range pkgs {
		p.binary = filepath.Join(dir, fmt.Sprintf("%d-%s.test", i, filepath.Base(p.ImportPath)))
		args := []string{"test", "-c", "-trimpath", "-tags", o.tags, "-o", p.binary}
		if o.cover != "" {
			args = append(args, "-cover", "-covermode=atomic", "-coverpkg="+o.pkgs)
		}
		if out, err := goTool(ctx, append(args, p.ImportPath)...).CombinedOutput(); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			errs = append(errs, fmt.Errorf("build the tests of %s: %w\n%s", p.ImportPath, err, out))
		}
	}
	return errors.Join(errs...)
}
