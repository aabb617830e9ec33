//go:build linux && amd64

package kvm_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
)

func init() {
	// storm URI NAME: all operations on one domain in random order until standard
	// input ends. What is not a typed error of a sort that competition explains is a
	// failure.
	roles["storm"] = func(args []string) error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		c, err := polyvisor.Open(ctx, args[0])
		if err != nil {
			return err
		}
		defer c.Close()
		d, err := c.Domain(ctx, args[1])
		if err != nil {
			return err
		}
		ops := map[string]func(context.Context) error{
			"start":   func(ctx context.Context) error { return d.Start(ctx) },
			"destroy": d.Destroy, "suspend": d.Suspend, "resume": d.Resume, "shutdown": d.Shutdown,
			"state": func(ctx context.Context) error { _, err := d.State(ctx); return err },
			"info":  func(ctx context.Context) error { _, err := d.Info(ctx); return err },
			"list": func(ctx context.Context) error {
				_, err := c.Domains(ctx, polyvisor.DomainFilter{Active: true})
				return err
			},
			"console": func(ctx context.Context) error {
				con, err := d.Console(ctx, polyvisor.ConsoleOptions{Force: true})
				if err == nil {
					err = con.Close()
				}
				return err
			},
		}
		var names []string
		for name := range ops {
			names = append(names, name)
		}
		fmt.Println("ready")
		done := map[string]int{}
		for end := time.Now().Add(storm); time.Now().Before(end); {
			name := names[rand.N(len(names))]
			err := ops[name](ctx)
			if err == nil {
				done[name]++
				continue
			}
			if !errors.Is(err, polyvisor.ErrInvalidState) && !errors.Is(err, polyvisor.ErrBusy) || polyvisor.CodeOf(err) == polyvisor.CodeUnknown {
				return fmt.Errorf("%s: %w (code %v)", name, err, polyvisor.CodeOf(err))
			}
		}
		if done["start"] == 0 && done["destroy"] == 0 {
			return fmt.Errorf("nothing succeeded: %v", done)
		}
		return nil
	}
	// define URI NAME UUID: defines when told to by a line.
	roles["define"] = func(args []string) error {
		ctx := context.Background()
		c, err := polyvisor.Open(ctx, args[0])
		if err != nil {
			return err
		}
		defer c.Close()
		fmt.Println("ready")
		var line string
		fmt.Scanln(&line)
		cfg := config(args[1], "")
		if args[2] != "" {
			cfg.UUID = uuid.MustParse(args[2])
		}
		_, err = c.Define(ctx, cfg)
		switch {
		case err == nil:
			fmt.Println("won")
		case errors.Is(err, polyvisor.ErrExists):
			fmt.Println("lost")
		default:
			return err
		}
		return nil
	}
}

// storm is how long programs compete.
const storm = 2 * time.Second

// Several programs at once on one domain: each operation happens or gives a typed
// error, and in the end everything is as it should be.
func TestStorm(t *testing.T) {
	p := newPlace(t, process)
	c, ctx := p.open(t), patiently(t)
	d := define(t, c, config("eye", ""))
	var programs []*program
	for range 4 {
		programs = append(programs, startRole(t, "storm", nil, p.uri(), "eye"))
	}
	for _, s := range programs {
		out, code := s.rest(t)
		require.Zero(t, code, out)
	}
	if state(t, d).Active() {
		require.LessOrEqual(t, len(p.vmPIDs()), 1)
		require.NoError(t, d.Destroy(ctx))
	}
	eventually(t, func() bool { return len(p.vmPIDs()) == 0 }, "a VM process is left")
	// It still works.
	require.NoError(t, d.Start(ctx))
	con := console(t, d)
	con.ready(t)
	require.Equal(t, "calm", con.answer(t, "echo calm"))
	require.NoError(t, d.Remove(ctx))
	require.Equal(t, emptyTree, p.tree(t))
}

// The same between connections of one program, with machines of both kinds.
func TestStormInside(t *testing.T) {
	inEach(t, func(t *testing.T, p place) {
		c := p.open(t)
		d := define(t, c, config("eye", ""))
		var wg sync.WaitGroup
		ctx, errs := patiently(t), make(chan error, 1000)
		begin := make(chan struct{})
		for i := range 8 {
			conn := p.open(t)
			same, err := conn.Domain(ctx, "eye")
			require.NoError(t, err)
			wg.Go(func() {
				<-begin
				for range 10 {
					if i%2 == 0 {
						errs <- same.Start(ctx)
					} else {
						errs <- same.Destroy(ctx)
					}
				}
			})
		}
		close(begin)
		wg.Wait()
		close(errs)
		good := 0
		for err := range errs {
			if err == nil {
				good++
			} else {
				require.ErrorIs(t, err, polyvisor.ErrInvalidState)
			}
		}
		require.Positive(t, good)
		if state(t, d).Active() {
			require.NoError(t, d.Destroy(ctx))
		}
		require.NoError(t, d.Undefine(ctx))
		require.Equal(t, emptyTree, p.tree(t))
	})
}

// Of many programs that define one name, one wins; with the same UUID too, all
// redefine the one domain.
func TestDefineRace(t *testing.T) {
	p := newPlace(t, process)
	c := p.open(t)
	for _, id := range []string{"", uuid.NewString()} {
		var programs []*program
		for range 6 {
			s := startRole(t, "define", nil, p.uri(), "prize", id)
			require.Equal(t, "ready", s.line(t))
			programs = append(programs, s)
		}
		for _, s := range programs {
			_, err := s.in.Write([]byte("go\n"))
			require.NoError(t, err)
		}
		var outcome []string
		for _, s := range programs {
			out, code := s.rest(t)
			require.Zero(t, code, out)
			outcome = append(outcome, out)
		}
		won := strings.Count(strings.Join(outcome, " "), "won")
		if id == "" {
			require.Equal(t, 1, won, outcome)
		} else {
			require.Equal(t, len(programs), won, outcome)
		}
		requireNames(t, c, polyvisor.DomainFilter{}, "prize")
		d, err := c.Domain(patiently(t), "prize")
		require.NoError(t, err)
		require.NoError(t, d.Undefine(patiently(t)))
	}
}
