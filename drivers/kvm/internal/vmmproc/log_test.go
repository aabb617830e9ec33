package vmmproc

import (
	"bytes"
	"errors"
	"log/slog"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var _ Logger = (*slog.Logger)(nil)

// The lines of a VM process's log are those that slog would write.
func TestLineLog(t *testing.T) {
	for name, pairs := range map[string][]any{
		"none":       nil,
		"error":      {"err", errors.New(`open "x": no such file`)},
		"empty":      {"detail", ""},
		"word":       {"reason", ReasonCrash},
		"number":     {"kept", 17},
		"sign":       {"pair", "a=b"},
		"control":    {"line", "a\nb\x00\x7f"},
		"backslash":  {"path", `C:\x`},
		"not UTF-8":  {"bytes", "a\xffb"},
		"not ASCII":  {"name", "größe", "space", "\u00a0", "wide", "\u2028"},
		"two":        {"event", "started", "err", errors.New("gone")},
		"odd letter": {"r", "\ufffd"},
	} {
		t.Run(name, func(t *testing.T) {
			var ours, theirs bytes.Buffer
			l, s := lineLog{&ours}, slog.New(slog.NewTextHandler(&theirs, nil))
			for _, msg := range []string{"stopped", "the domain has stopped"} {
				for _, to := range []Logger{l, s} {
					to.Info(msg, pairs...)
					to.Warn(msg, pairs...)
					to.Error(msg, pairs...)
				}
			}
			stamp := regexp.MustCompile(`(?m)^time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}(Z|[+-]\d\d:\d\d) `)
			require.Len(t, stamp.FindAll(ours.Bytes(), -1), 6)
			assert.Equal(t, stamp.ReplaceAllString(theirs.String(), ""), stamp.ReplaceAllString(ours.String(), ""))
		})
	}
}
