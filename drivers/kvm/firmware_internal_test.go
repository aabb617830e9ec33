//go:build linux && amd64

package kvm

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/vmm"
)

func TestTemplateOf(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "CODE")
	require.NoError(t, os.Mkdir(dir, 0o700))
	for _, n := range []string{"OVMF_VARS_4M.fd", "OVMF_VARS_4M.ms.fd", "VARS"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, n), nil, 0o600))
	}
	require.NoError(t, os.Mkdir(filepath.Join(dir, "VARS.d"), 0o700))
	for image, want := range map[string]string{
		"OVMF_CODE_4M.fd": "OVMF_VARS_4M.fd", "OVMF_CODE_4M.ms.fd": "OVMF_VARS_4M.ms.fd", "OVMF_CODE_4M.secboot.fd": "OVMF_VARS_4M.fd",
		"CODE": "VARS", "CODE.d": "", "OVMF_CODE.fd": "", "OVMF.fd": "",
	} {
		if want != "" {
			want = filepath.Join(dir, want)
		}
		require.Equal(t, want, templateOf(filepath.Join(dir, image)), image)
	}
}

// The first start makes the variables, later ones find them; a transient domain begins anew.
func TestPrepareFirmware(t *testing.T) {
	dir, state := t.TempDir(), t.TempDir()
	image := filepath.Join(dir, "CODE.fd")
	put := func(path, text string) { require.NoError(t, os.WriteFile(path, []byte(text), 0o600)) }
	put(image, "code")
	put(filepath.Join(dir, "VARS.fd"), "first")
	prepare := func(f polyvisor.File, state string) (string, *os.File) {
		files, boot := map[string]*os.File{}, vmm.Boot{}
		require.NoError(t, prepareFirmware(&polyvisor.Config{Boot: polyvisor.Boot{Firmware: f}}, &boot, state, files))
		t.Cleanup(func() {
			for _, f := range files {
				f.Close()
			}
		})
		require.Equal(t, vmm.BootFirmware, boot.Kind)
		require.Equal(t, image, files[boot.Firmware].Name())
		v := files[boot.Variables]
		b, err := io.ReadAll(io.NewSectionReader(v, 0, 100))
		require.NoError(t, err)
		return string(b), v
	}

	got, v := prepare(polyvisor.Path(image), state)
	require.Equal(t, "first", got)
	_, err := v.WriteAt([]byte("later"), 0)
	require.NoError(t, err)
	put(filepath.Join(dir, "VARS.fd"), "other")
	got, _ = prepare(polyvisor.Path(image), state)
	require.Equal(t, "later", got)
	got, v = prepare(polyvisor.Path(image), "")
	require.Equal(t, "other", got)
	_, err = v.WriteAt([]byte("gone"), 0)
	require.NoError(t, err)

	open, err := os.Open(image)
	require.NoError(t, err)
	defer open.Close()
	got, _ = prepare(polyvisor.File{Open: open}, "")
	require.Empty(t, got, "nobody knows what lies beside an open file")

	entries, err := os.ReadDir(state)
	require.NoError(t, err)
	require.Len(t, entries, 1, "nothing is left beside the variables")
}

func TestPrepareFirmwareRefuses(t *testing.T) {
	dir := t.TempDir()
	image := filepath.Join(dir, "CODE.fd")
	prepare := func(state string) (map[string]*os.File, error) {
		files := map[string]*os.File{}
		err := prepareFirmware(&polyvisor.Config{Boot: polyvisor.Boot{Firmware: polyvisor.Path(image)}}, &vmm.Boot{}, state, files)
		for _, f := range files {
			f.Close()
		}
		return files, err
	}
	_, err := prepare(dir)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, os.WriteFile(image, nil, 0o600))
	_, err = prepare(filepath.Join(dir, "gone"))
	require.ErrorContains(t, err, "define the domain again")

	require.NoError(t, os.WriteFile(filepath.Join(dir, "VARS.fd"), nil, 0o600))
	require.NoError(t, os.Truncate(filepath.Join(dir, "VARS.fd"), maxVariables+1))
	state := t.TempDir()
	_, err = prepare(state)
	require.ErrorIs(t, err, polyvisor.ErrInvalidConfig)
	entries, err := os.ReadDir(state)
	require.NoError(t, err)
	require.Empty(t, entries)
	_, err = prepare("")
	require.ErrorIs(t, err, polyvisor.ErrInvalidConfig)
	link := filepath.Join(state, variablesFile)
	require.NoError(t, os.Symlink(image, link))
	_, err = prepare(state)
	require.Error(t, err, "a link is not followed")
}
