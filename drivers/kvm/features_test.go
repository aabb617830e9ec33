package kvm

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
)

// Every feature is either declared or has a reason for which it is not.
func TestEveryFeatureIsAccountedFor(t *testing.T) {
	for _, f := range polyvisor.Features() {
		declared := slices.Contains(features, f)
		require.NotEqual(t, declared, reasons[f] != "", "%s: declared %v, reason %q", f, declared, reasons[f])
	}
	require.Len(t, polyvisor.Features(), len(features)+len(reasons))
}
