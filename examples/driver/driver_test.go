package processdriver

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/conformance"
)

func TestConformance(t *testing.T) {
	conformance.Run(t, func(t *testing.T) conformance.Harness {
		dir := t.TempDir()
		return conformance.Harness{
			Open: func(ctx context.Context, opts ...polyvisor.Option) (*polyvisor.Conn, error) {
				return polyvisor.Open(ctx, "process:///"+filepath.Base(filepath.Dir(dir)), opts...)
			},
			Config:  &polyvisor.Config{Memory: 64 * polyvisor.MiB},
			Dir:     dir,
			Require: []polyvisor.Feature{polyvisor.FeatureTransient, polyvisor.FeatureSuspend, polyvisor.FeatureShutdown},
		}
	})
}
