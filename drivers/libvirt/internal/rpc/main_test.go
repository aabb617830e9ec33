package rpc_test

import (
	"os"
	"testing"

	"github.com/polyvisor/polyvisor/internal/leaktest"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(serverVariable); path != "" {
		serveForBenchmark(path)
		return
	}
	leaktest.Main(m)
}
