//go:build linux && amd64

package kvm_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor"
)

// jitter is a random time up to so many milliseconds.
func jitter(ms int) time.Duration { return rand.N(time.Duration(ms) * time.Millisecond) }

func kill9(t testing.TB, pid int) {
	t.Helper()
	require.NoError(t, unix.Kill(pid, unix.SIGKILL))
	awaitDead(t, pid)
}

// rounds is how often to do what is to be done n times: less when tests are to be
// short, and in the nested machine, where each takes ten times as long.
func rounds(n int) int {
	switch {
	case testing.Short():
		return max(1, n/10)
	case os.Getenv("POLYVISOR_NESTED") == "1":
		return max(1, n/3)
	}
	return n
}

func init() {
	// start URI NAME: starts a domain and stays until it is killed.
	roles["start"] = func(args []string) error {
		ctx := context.Background()
		c, err := polyvisor.Open(ctx, args[0])
		if err != nil {
			return err
		}
		d, err := c.Domain(ctx, args[1])
		if err != nil {
			return err
		}
		fmt.Println("starting")
		if err := d.Start(ctx); err != nil {
			return err
		}
		fmt.Println("started")
		_, err = io.Copy(io.Discard, os.Stdin) // until it is killed
		return err
	}
	// seize URI NAME: what a new program does with a domain that it did not start.
	roles["seize"] = func(args []string) error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		c, err := polyvisor.Open(ctx, args[0])
		if err != nil {
			return err
		}
		defer c.Close()
		active, err := c.Domains(ctx, polyvisor.DomainFilter{Active: true})
		if err != nil {
			return err
		}
		if len(active) != 1 || active[0].Name() != args[1] {
			return fmt.Errorf("active domains: %v", active)
		}
		d := active[0]
		con, err := d.Console(ctx, polyvisor.ConsoleOptions{})
		if err != nil {
			return err
		}
		defer con.Close()
		stop := context.AfterFunc(ctx, func() { con.Close() })
		defer stop()
		if _, err := con.Write([]byte("echo seized\n")); err != nil {
			return err
		}
		for said, buf := "", make([]byte, 4096); strings.Count(said, "seized") < 2; {
			n, err := con.Read(buf)
			if said += string(buf[:n]); err != nil {
				return fmt.Errorf("%w after %q", err, said)
			}
		}
		if err := d.Shutdown(ctx); err != nil {
			return err
		}
		end, err := d.Wait(ctx)
		if err == nil && end.Reason != polyvisor.StopShutdown {
			err = errors.New(end.String())
		}
		return err
	}
}

// Kill -9 of the program that started a domain, at any moment: the domain runs
// properly and any other program may have it, or nothing of the start is left.
func TestKillStarter(t *testing.T) {
	p := newPlace(t, process)
	c, ctx := p.open(t), patiently(t)
	d := define(t, c, config("orphan", ""))
	idle := p.tree(t)
	survived, usual := 0, time.Duration(0) // how long a start takes
	for round := range rounds(50) {
		s := startRole(t, "start", nil, p.uri(), "orphan")
		require.Equal(t, "starting", s.line(t))
		if begin := time.Now(); round%2 == 0 {
			require.Equal(t, "started", s.line(t))
			usual = time.Since(begin)
		} else {
			time.Sleep(rand.N(usual * 3 / 2))
		}
		s.kill()
		// A VM process that was about to find its starter gone is not running yet.
		var is polyvisor.State
		eventually(t, func() bool {
			is = state(t, d)
			return is == polyvisor.Shutoff || is == polyvisor.Running && info(t, d).CPUTime > 0
		}, "the domain neither runs nor is it off")
		if round%2 == 0 {
			require.Equal(t, polyvisor.Running, is, "it had been started")
		}
		if is == polyvisor.Running {
			survived++
			pid := p.vmPID(t)
			out, code := startRole(t, "seize", nil, p.uri(), "orphan").rest(t)
			require.Zero(t, code, out)
			awaitDead(t, pid)
			require.Equal(t, polyvisor.StopShutdown, wait(t, d).Reason)
		} else if _, err := d.Wait(ctx); err == nil {
			require.Contains(t, []polyvisor.StopReason{polyvisor.StopStartFailed, polyvisor.StopShutdown}, wait(t, d).Reason)
		}
		require.NoError(t, p.open(t).Close()) // clears away what the killed program was about to make
		require.Equal(t, with(idle, d, "stop.json", "vmm.log"), with(p.tree(t), d, "stop.json", "vmm.log"))
		require.Empty(t, p.vmPIDs())
	}
	t.Logf("%d of %d starts outlived their starter", survived, rounds(50))
	require.NoError(t, d.Undefine(ctx))
	require.Equal(t, emptyTree, p.tree(t))
}

// with adds files of a domain to a tree that may have them already.
func with(tree []string, d *polyvisor.Domain, files ...string) []string {
	for _, f := range files {
		if f = "state/domains/" + d.UUID().String() + "/" + f; !slices.Contains(tree, f) {
			tree = append(tree, f)
		}
	}
	slices.Sort(tree)
	return tree
}

// Kill -9 of the VM process, at any moment: the domain is crashed, starts again at
// once, and leaves nothing.
func TestKillVMProcess(t *testing.T) {
	p := newPlace(t, process)
	c, ctx := p.open(t), patiently(t)
	d := define(t, c, config("victim", ""))
	require.NoError(t, d.Start(ctx))
	require.NoError(t, d.Destroy(ctx))
	idle := p.tree(t)
	for round := range rounds(50) {
		require.NoError(t, d.Start(ctx), "round %d", round)
		pid := p.vmPID(t)
		other := p.open(t)
		if round%3 == 0 {
			require.NoError(t, d.Suspend(ctx))
		}
		time.Sleep(jitter(20))
		require.NoError(t, unix.Kill(pid, unix.SIGKILL))
		if round%2 == 0 {
			// At once, while the process is still on its way out, by whoever is first.
			for _, conn := range []*polyvisor.Conn{c, other} {
				same, err := conn.Domain(ctx, "victim")
				require.NoError(t, err)
				eventually(t, func() bool { return state(t, same) == polyvisor.Crashed }, "not crashed but %v", state(t, same))
			}
		}
		stop := wait(t, d)
		require.Equal(t, polyvisor.StopServiceDied, stop.Reason)
		require.Equal(t, polyvisor.Crashed, state(t, d))
		awaitDead(t, pid)
		require.Equal(t, idle, p.tree(t))
		require.NoError(t, other.Close())
	}
	require.NoError(t, d.Start(ctx))
	require.NoError(t, d.Remove(ctx))
	require.Equal(t, emptyTree, p.tree(t))
}

// What dead VM processes left is cleared away by whoever opens the URI next.
func TestOpenClearsAway(t *testing.T) {
	p := newPlace(t, process)
	c := p.open(t)
	var doms []*polyvisor.Domain
	for i := range 3 {
		doms = append(doms, started(t, c, config("dead"+itoa(i), "auto=spin")))
	}
	tr := create(t, c, config("transient", "auto=spin"))
	require.NoError(t, c.Close())
	for _, pid := range p.vmPIDs() {
		kill9(t, pid)
	}
	// A start that was killed between two steps.
	require.NoError(t, os.MkdirAll(p.dir+"/run/.new-123/x", 0o700))
	c = p.open(t)
	entries, err := os.ReadDir(p.dir + "/run")
	require.NoError(t, err)
	require.Len(t, entries, 1, "the counter of IDs")
	for _, d := range doms {
		d, err := c.DomainByUUID(patiently(t), d.UUID())
		require.NoError(t, err)
		require.Equal(t, polyvisor.Crashed, state(t, d))
	}
	_, err = c.Domain(patiently(t), tr.Name())
	requireCode(t, err, polyvisor.ErrNotFound)
}
