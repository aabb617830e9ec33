package fake

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/polyvisor/polyvisor"
)

// BenchmarkLifecycle defines, starts and destroys domains through the root API
// on one processor; the domains stay defined. The metrics are operations per
// second, and per second of CPU time, which other load on the host does not
// lower.
func BenchmarkLifecycle(b *testing.B) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	_, conn := private(b, Options{})
	ctx := b.Context()
	b.ReportAllocs()
	i, cpu := 0, -cpuTimeUsed()
	for b.Loop() {
		i++
		d, err := conn.Define(ctx, &polyvisor.Config{Name: fmt.Sprintf("domain-%d", i)})
		if err != nil {
			b.Fatal(err)
		}
		if err := d.Start(ctx); err != nil {
			b.Fatal(err)
		}
		if err := d.Destroy(ctx); err != nil {
			b.Fatal(err)
		}
	}
	cpu += cpuTimeUsed()
	b.ReportMetric(3*float64(b.N)/b.Elapsed().Seconds(), "ops/s")
	b.ReportMetric(3*float64(b.N)/cpu.Seconds(), "ops/cpu-s")
}

// cpuTimeUsed is that of the process.
func cpuTimeUsed() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkDomains is what a running domain takes: 100,000 of them on one
// connection.
func BenchmarkDomains(b *testing.B) {
	const domains = 100_000
	for b.Loop() {
		perDomain, goroutines := footprint(b, domains)
		b.ReportMetric(perDomain, "bytes/domain")
		b.ReportMetric(float64(goroutines), "goroutines")
	}
	b.ReportMetric(domains, "domains")
}

// footprint defines and starts that many domains and gives what each takes.
func footprint(t testing.TB, n int) (bytes float64, goroutines int) {
	h := New(Options{})
	conn := h.Conn()
	defer conn.Close()
	defer h.Close()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	goroutines = -runtime.NumGoroutine()
	for i := range n {
		d, err := conn.Define(t.Context(), &polyvisor.Config{Name: fmt.Sprintf("domain-%d", i)})
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	goroutines += runtime.NumGoroutine()
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(h)
	return (float64(after.HeapAlloc) - float64(before.HeapAlloc)) / float64(n), goroutines
}
