//go:build linux

package vmmproc

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestVMEnv(t *testing.T) {
	for _, k := range keptEnv {
		t.Setenv(k, "")
	}
	for name, c := range map[string]struct {
		caller string
		more   []string
		want   string
	}{
		"none":          {"", nil, "GODEBUG=disablethp=1,"},
		"the caller's":  {"madvdontneed=1", nil, "GODEBUG=disablethp=1,madvdontneed=1"},
		"one of ours":   {"madvdontneed=1", []string{"GODEBUG=disablethp=0", "A=b"}, "GODEBUG=disablethp=1,disablethp=0"},
		"other of ours": {"", []string{"A=b"}, "GODEBUG=disablethp=1,"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("GODEBUG", c.caller)
			t.Setenv("A_SECRET", "of the caller")
			env := vmEnv(c.more)
			last := ""
			for _, v := range env {
				if len(v) > 8 && v[:8] == "GODEBUG=" {
					last = v
				}
				assert.NotContains(t, v, "A_SECRET")
			}
			assert.Equal(t, c.want, last)
		})
	}
}
