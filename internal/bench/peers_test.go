//go:build linux && amd64

package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLibraries(t *testing.T) {
	got, err := libraries("\tlinux-vdso.so.1 (0x00007ffd)\n\tlibz.so.1 => /lib/x86_64-linux-gnu/libz.so.1 (0x00007f)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n")
	require.NoError(t, err)
	assert.Equal(t, []string{"/lib/x86_64-linux-gnu/libz.so.1", "/lib64/ld-linux-x86-64.so.2"}, got)
	_, err = libraries("\tlibx.so => not found\n")
	assert.ErrorContains(t, err, "libx.so")
	_, err = libraries("\tnot a dynamic executable\n")
	assert.Error(t, err)
}
