package bare

import (
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBuild(t *testing.T) {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		t.Skip("the programs are for linux/amd64")
	}
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("needs gcc")
	}
	dir := t.TempDir()
	path, err := Build(t.Context(), "nothing", dir)
	require.NoError(t, err)
	require.NoError(t, exec.Command(path).Run())

	path, err = Build(t.Context(), "bare", dir)
	require.NoError(t, err)
	out, err := exec.Command(path).CombinedOutput()
	assert.Error(t, err, "without arguments it must not run")
	assert.Contains(t, string(out), "usage: bare")

	path, err = Build(t.Context(), "virtq", dir)
	require.NoError(t, err)
	cmd := exec.Command(path)
	cmd.Stdin = strings.NewReader("70000\n1\n")
	out, err = cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	assert.Len(t, strings.Fields(string(out)), 4, "two numbers for each of two lines")

	_, err = Build(t.Context(), "elsewhere", dir)
	assert.ErrorContains(t, err, "no C program")
}

// The reference runs a guest where there is a KVM device, and says so where the guest does something else.
func TestBareRuns(t *testing.T) {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		t.Skip("the programs are for linux/amd64")
	}
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("needs gcc")
	}
	if err := exec.Command("test", "-w", "/dev/kvm").Run(); err != nil {
		t.Skip("needs /dev/kvm")
	}
	path, err := Build(t.Context(), "bare", t.TempDir())
	require.NoError(t, err)
	run := func(code string) (string, string, error) {
		cmd := exec.CommandContext(t.Context(), path, code)
		var out, errs strings.Builder
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader("10\n20\n"), &out, &errs
		err := cmd.Run()
		return out.String(), errs.String(), err
	}
	out, errs, err := run("baff030000b055eeebfd")
	require.NoError(t, err, errs)
	assert.Len(t, strings.Fields(out), 4, "two numbers for each of two lines")

	_, errs, err = run("0f0b") // ud2 without an interrupt table: triple fault
	assert.Error(t, err)
	assert.Contains(t, errs, "exit reason")
}
