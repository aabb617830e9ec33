package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/polyvisor/polyvisor"
	_ "github.com/polyvisor/polyvisor/drivers/kvm"
	"github.com/polyvisor/polyvisor/internal/testguest"
)

// demo is one boot.
type demo struct {
	kernel, initrd string
	vcpus          int
	dir            string // for the state of the connection; made if empty
}

const (
	memory      = polyvisor.Bytes(256 * polyvisor.MiB)
	bootTimeout = 2 * time.Minute // of a boot that takes seconds even in the nested machine
)

// boot runs the guest, prints its report, and shuts it down.
func (d demo) boot(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	if d.dir == "" {
		if d.dir, err = os.MkdirTemp("", "polyvisor-demo-"); err != nil {
			return err
		}
		defer os.RemoveAll(d.dir)
	}
	// State of its own, so that the demonstration never meets the user's
	// domains; unpacked kernels are shared.
	q := url.Values{"state": {filepath.Join(d.dir, "state")}, "run": {filepath.Join(d.dir, "run")}}
	conn, err := polyvisor.Open(ctx, "kvm:///session?"+q.Encode())
	if err != nil {
		return err
	}
	defer conn.Close()
	unpack, err := d.warm(ctx, conn)
	if err != nil {
		return err
	}

	begin := time.Now()
	dom, err := conn.Create(ctx, d.config("demo", "quiet console=ttyS0 panic=-1"))
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, destroy(dom))
		}
	}()
	started := time.Since(begin)
	con, err := dom.Console(ctx, polyvisor.ConsoleOptions{})
	if err != nil {
		return err
	}
	defer con.Close()
	log := &transcript{console: con}
	if err := log.until(ctx, testguest.FirstLine); err != nil {
		return err
	}
	userspace := time.Since(begin)
	if err := log.until(ctx, testguest.Ready); err != nil {
		return err
	}
	if _, err := io.WriteString(con, "report\n"); err != nil {
		return fmt.Errorf("console: %w", err)
	}
	if err := log.until(ctx, testguest.Prefix+"report=done"); err != nil {
		return err
	}
	report, err := testguest.ParseReport(log.String())
	if err != nil {
		return err
	}
	alive := time.Since(begin)
	info, err := dom.Info(ctx)
	if err != nil {
		return err
	}

	asked := time.Now()
	if err := dom.Shutdown(ctx); err != nil {
		return err
	}
	stop, err := dom.Wait(ctx)
	if err != nil {
		return err
	}
	off := time.Since(asked)

	fmt.Printf("What the guest says about itself:\n")
	fmt.Printf("  uname -r        %s\n", report.Release)
	fmt.Printf("  /proc/cpuinfo   %d CPUs\n", report.CPUs)
	fmt.Printf("  /proc/meminfo   %d KiB of %s\n", report.MemTotal/polyvisor.KiB, memory)
	fmt.Printf("  uptime          %.2f s after %.2f s of ours, clock source %s\n",
		report.Uptime.Seconds(), alive.Seconds(), report.Clocksource)
	fmt.Printf("What the API says:\n")
	fmt.Printf("  domain          %s\n", info)
	fmt.Printf("  stop reason     %s\n", stop)
	fmt.Printf("Times:\n")
	fmt.Printf("  unpacking the kernel, once for each   %8.3f s\n", unpack.Seconds())
	fmt.Printf("  Create, until the guest may run       %8.3f s\n", started.Seconds())
	fmt.Printf("  until the first line of its init      %8.3f s\n", userspace.Seconds())
	fmt.Printf("  Shutdown, until it was off            %8.3f s\n", off.Seconds())
	if report.CPUs != d.vcpus {
		return fmt.Errorf("the guest sees %d CPUs and was given %d", report.CPUs, d.vcpus)
	}
	if stop.Reason != polyvisor.StopShutdown {
		return fmt.Errorf("the guest did not shut down: %s", stop)
	}
	return nil
}

func (d demo) config(name, cmdline string) *polyvisor.Config {
	return &polyvisor.Config{
		Name: name, Memory: memory, VCPUs: d.vcpus,
		Boot: polyvisor.Boot{
			Kernel: polyvisor.Path(d.kernel), Initrd: polyvisor.Path(d.initrd), CommandLine: cmdline,
		},
	}
}

// warm starts the guest once and pulls the plug, so that the kernel is unpacked
// and the times of the boot are those of any further one.
func (d demo) warm(ctx context.Context, conn *polyvisor.Conn) (time.Duration, error) {
	begin := time.Now()
	dom, err := conn.Create(ctx, d.config("demo-warm", "quiet"))
	if err != nil {
		return 0, err
	}
	return time.Since(begin), dom.Destroy(ctx)
}

func destroy(dom *polyvisor.Domain) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := dom.Destroy(ctx)
	if errors.Is(err, polyvisor.ErrNotFound) || errors.Is(err, polyvisor.ErrInvalidState) {
		return nil
	}
	return err
}

// transcript keeps what the console said.
type transcript struct {
	console io.ReadWriteCloser
	text    bytes.Buffer
}

func (t *transcript) String() string { return t.text.String() }

// until reads until a line with the words has come.
func (t *transcript) until(ctx context.Context, words string) error {
	stop := context.AfterFunc(ctx, func() { t.console.Close() })
	defer stop()
	buf := make([]byte, 4096)
	for {
		if at := bytes.Index(t.text.Bytes(), []byte(words)); at >= 0 && bytes.IndexByte(t.text.Bytes()[at:], '\n') >= 0 {
			return nil
		}
		n, err := t.console.Read(buf)
		t.text.Write(buf[:n])
		if err != nil {
			if ctx.Err() != nil {
				err = ctx.Err()
			}
			return fmt.Errorf("waiting for %q on the console: %w; it said:\n%s", words, err, &t.text)
		}
	}
}
