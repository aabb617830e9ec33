//go:build linux

package store

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var bg = context.Background()

func TestNames(t *testing.T) {
	for _, n := range []string{"a", "web 1", ".", "..", "-x", "名前", "a\\b", strings.Repeat("x", 255), "lock", "%2f"} {
		require.NoError(t, ValidateName(n), "%q", n)
	}
	for _, n := range []string{"", "a/b", "/", "a\x00", "a\nb", "\x7f", "\u0085", "\xff", strings.Repeat("x", 256)} {
		require.ErrorIs(t, ValidateName(n), ErrInvalidName, "%q", n)
	}
}

func TestUUID(t *testing.T) {
	u := uuidN(0xabc)
	v, err := ParseUUID(u.String())
	require.NoError(t, err)
	require.Equal(t, u, v)
	for _, s := range []string{"", "x", strings.ToUpper(u.String()), strings.ReplaceAll(u.String(), "-", ""), u.String() + "0", strings.Repeat("-", 36)} {
		_, err := ParseUUID(s)
		require.Error(t, err, "%q", s)
	}
}

func FuzzParseUUID(f *testing.F) {
	f.Add("00000000-0000-4000-8000-000000000abc")
	f.Fuzz(func(t *testing.T, s string) {
		if u, err := ParseUUID(s); err == nil && u.String() != s {
			t.Fatalf("%q became %s", s, u)
		}
	})
}

func TestDefineLifecycle(t *testing.T) {
	s := testStore(t)
	a := testDef("..", uuidN(1), "one")
	require.NoError(t, s.Define(bg, a))
	got, err := s.Definition(a.UUID)
	require.NoError(t, err)
	require.Equal(t, Format, got.Format)
	require.JSONEq(t, string(a.Config), string(got.Config))
	got, err = s.DefinitionByName("..")
	require.NoError(t, err)
	require.Equal(t, a.UUID, got.UUID)

	var ex *ExistsError
	require.ErrorAs(t, s.Define(bg, a), &ex)
	require.ErrorIs(t, s.Define(bg, testDef("..", uuidN(2), "")), ErrExists)
	require.ErrorAs(t, s.Define(bg, testDef("other", a.UUID, "")), &ex)
	require.Equal(t, "UUID", ex.What)
	require.ErrorIs(t, s.Redefine(bg, testDef("x", uuidN(9), "")), ErrNotFound)
	require.Error(t, s.Define(bg, Definition{Name: "x", UUID: uuidN(3), Config: []byte("{")}))
	require.Error(t, s.Define(bg, testDef("x", UUID{}, "")))

	require.NoError(t, s.Define(bg, testDef("b", uuidN(2), "two")))
	require.ErrorIs(t, s.Redefine(bg, testDef("..", uuidN(2), "")), ErrExists)
	require.NoError(t, s.Redefine(bg, testDef("c", uuidN(2), "three")))
	_, err = s.DefinitionByName("b")
	require.ErrorIs(t, err, ErrNotFound)
	defs, err := s.Definitions()
	require.NoError(t, err)
	require.Len(t, defs, 2)

	// Another store sees the same.
	s2, err := Open(s.Paths())
	require.NoError(t, err)
	defer s2.Close()
	d2, err := s2.Definitions()
	require.NoError(t, err)
	require.Equal(t, defs, d2)

	require.NoError(t, s.Undefine(bg, uuidN(2)))
	require.ErrorIs(t, s.Undefine(bg, uuidN(2)), ErrNotFound)
	_, err = s2.Definition(uuidN(2))
	require.ErrorIs(t, err, ErrNotFound)
	left, _ := os.ReadDir(s.domainsDir())
	require.Len(t, left, 1)
}

func TestDamagedDefinitionDoesNotHideOthers(t *testing.T) {
	s := testStore(t)
	for i := range 6 {
		require.NoError(t, s.Define(bg, testDef(fmt.Sprint("d", i), uuidN(i+1), "")))
	}
	path := func(i int) string { return filepath.Join(s.DomainDir(uuidN(i+1)), definitionFile) }
	require.NoError(t, os.WriteFile(path(0), []byte("{\"format\":1,"), 0o600))
	require.NoError(t, os.WriteFile(path(1), []byte(`{"format":99,"name":"x"}`), 0o600))
	require.NoError(t, os.Remove(path(2)))
	require.NoError(t, syscall.Mkfifo(path(2), 0o600))
	b, _ := os.ReadFile(path(4))
	require.NoError(t, os.WriteFile(path(3), b, 0o600)) // names another UUID
	defs, err := s.Definitions()
	require.Len(t, defs, 2)
	require.ErrorIs(t, err, ErrCorrupt)
	require.ErrorIs(t, err, ErrFormat)
	for i := range 4 {
		require.ErrorContains(t, err, path(i))
		_, err := s.Definition(uuidN(i + 1))
		var fe *FileError
		require.ErrorAs(t, err, &fe)
		require.Equal(t, path(i), fe.Path)
	}
	// Its UUID stays taken, and it can be undefined.
	require.ErrorIs(t, s.Define(bg, testDef("again", uuidN(1), "")), ErrExists)
	require.NoError(t, s.Undefine(bg, uuidN(1)))
	require.NoError(t, s.Define(bg, testDef("again", uuidN(1), "")))
}

func TestEightProcessesDefineOneName(t *testing.T) {
	for range 3 {
		s := testStore(t)
		var wg sync.WaitGroup
		won := make(chan string, 8)
		for i := range 8 {
			cmd := role(t, "define", s.paths.State, s.paths.Run, "web", uuidN(i+1).String())
			var out bytes.Buffer
			cmd.Stderr = &out
			require.NoError(t, cmd.Start())
			wg.Go(func() {
				if cmd.Wait() == nil {
					won <- uuidN(i + 1).String()
				} else if !strings.Contains(out.String(), "is taken by") {
					t.Errorf("lost for another reason: %s", out.String())
				}
			})
		}
		wg.Wait()
		close(won)
		require.Len(t, won, 1)
		d, err := s.DefinitionByName("web")
		require.NoError(t, err)
		require.Equal(t, <-won, d.UUID.String())
		left, _ := os.ReadDir(s.domainsDir())
		require.Len(t, left, 1)
	}
}

// Each operation is ended by SIGKILL in each of its steps.
func TestKilledInEveryStep(t *testing.T) {
	for op := range crashOps {
		t.Run(op, func(t *testing.T) {
			for at := 0; ; at++ {
				require.Less(t, at, 100)
				s := testStore(t)
				u := uuidN(1)
				if op != "define" {
					require.NoError(t, s.Define(bg, testDef("web", u, "old")))
				}
				require.NoError(t, s.Define(bg, testDef("bystander", uuidN(7), "")))
				err := role(t, "crash", s.paths.State, s.paths.Run, op, u.String(), fmt.Sprint(at)).Run()
				killed := err != nil
				_, err = s.Reap(bg)
				require.NoError(t, err)
				defs, err := s.Definitions()
				require.NoError(t, err, "step %d", at)
				d, derr := s.Definition(u)
				switch op {
				case "define", "undefine":
					if derr != nil {
						require.ErrorIs(t, derr, ErrNotFound)
						require.Len(t, defs, 1)
					} else {
						require.Len(t, defs, 2)
					}
				case "redefine":
					require.NoError(t, derr)
					require.Contains(t, []string{`{"note":"old"}`, `{"note":"new"}`}, compact(t, d.Config))
				case "run":
					require.NoError(t, derr)
					rec, err := s.StopRecord(u)
					if err == nil {
						require.Contains(t, []string{"shutdown", ReasonDied, ReasonStartFailed}, rec.Reason)
					} else {
						require.ErrorIs(t, err, ErrNotFound)
					}
					act, err := s.Active()
					require.NoError(t, err)
					require.Empty(t, act)
				}
				requireTidy(t, s)
				// The domain is usable at once.
				if derr == nil {
					require.NoError(t, s.Redefine(bg, testDef(d.Name, u, "x")))
					r, err := s.NewRun(bg, RunSpec{Name: d.Name, UUID: u})
					require.NoError(t, err)
					require.NoError(t, r.Abort())
				}
				if !killed {
					require.Greater(t, at, 1, "the steps were not reached")
					return
				}
			}
		})
	}
}

func compact(t *testing.T, b []byte) string {
	return strings.Join(strings.Fields(strings.ReplaceAll(string(b), ": ", ":")), "")
}

// requireTidy fails if anything is left in the directories but definitions, stop
// records, the lock file and the counter.
func requireTidy(t *testing.T, s *Store) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(filepath.Dir(s.paths.State), func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() && !strings.HasPrefix(d.Name(), ".") {
			return err
		}
		switch d.Name() {
		case "lock", definitionFile, stopFile, idFile:
			return nil
		}
		return fmt.Errorf("%s is left over", p)
	}))
	ents, err := os.ReadDir(s.paths.Run)
	require.NoError(t, err)
	for _, e := range ents {
		require.Equal(t, idFile, e.Name())
	}
}

func TestFullDisk(t *testing.T) {
	s := testStore(t)
	if os.Getuid() != 0 || syscall.Mount("tmpfs", s.domainsDir(), "tmpfs", 0, "size=16k,mode=700") != nil {
		t.Skip("needs root to mount a tmpfs")
	}
	defer syscall.Unmount(s.domainsDir(), syscall.MNT_DETACH)
	u := uuidN(1)
	require.NoError(t, s.Define(bg, testDef("web", u, "old")))
	err := role(t, "full", s.paths.State, s.paths.Run, u.String()).Run()
	require.Error(t, err)
	require.ErrorIs(t, s.Redefine(bg, testDef("web", u, strings.Repeat("x", 20000))), syscall.ENOSPC)
	d, err := s.Definition(u)
	require.NoError(t, err)
	require.Contains(t, string(d.Config), "old")
	require.ErrorIs(t, s.Define(bg, testDef("big", uuidN(2), strings.Repeat("x", 20000))), syscall.ENOSPC)
	requireTidy(t, s)

	// A run ends although its record cannot be written.
	r, err := s.NewRun(bg, RunSpec{Name: "web", UUID: u})
	require.NoError(t, err)
	require.NoError(t, r.MarkStarted())
	require.ErrorIs(t, r.Finish(StopRecord{Reason: "crash", Detail: strings.Repeat("x", 20000)}), syscall.ENOSPC)
	_, err = s.StopRecord(u)
	require.ErrorIs(t, err, ErrNotFound)
	requireTidy(t, s)
}

func TestOperationLockBetweenProcesses(t *testing.T) {
	s := testStore(t)
	count := filepath.Join(t.TempDir(), "count")
	var wg sync.WaitGroup
	for range 4 {
		cmd := role(t, "incr", s.paths.State, s.paths.Run, uuidN(1).String(), count)
		require.NoError(t, cmd.Start())
		wg.Go(func() {
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	b, _ := os.ReadFile(count)
	require.Equal(t, "200", string(b))

	lk, err := s.LockDomain(bg, uuidN(1))
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(bg, 20*time.Millisecond)
	defer cancel()
	_, err = s.LockDomain(ctx, uuidN(1))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	other, err := s.LockDomain(bg, uuidN(2))
	require.NoError(t, err)
	other.Unlock()
	lk.Unlock()
	lk, err = s.LockDomain(bg, uuidN(1))
	require.NoError(t, err)
	lk.Unlock()
}

func TestRunLifecycle(t *testing.T) {
	s := testStore(t)
	require.NoError(t, s.Define(bg, testDef("web", uuidN(1), "")))
	_, err := s.NewRun(bg, RunSpec{Name: "gone", UUID: uuidN(5)})
	require.ErrorIs(t, err, ErrNotFound)
	_, err = s.NewRun(bg, RunSpec{Name: "web", UUID: uuidN(5), Transient: true})
	require.ErrorIs(t, err, ErrExists)
	_, err = s.NewRun(bg, RunSpec{Name: "web", UUID: uuidN(1), Transient: true})
	require.ErrorIs(t, err, ErrExists)

	r, err := s.NewRun(bg, RunSpec{Name: "web", UUID: uuidN(1), Config: []byte(`{"a":1}`)})
	require.NoError(t, err)
	require.Equal(t, 1, r.ID)
	a, err := s.ActiveByUUID(uuidN(1))
	require.NoError(t, err)
	require.False(t, a.Started)
	tr, err := s.NewRun(bg, RunSpec{Name: "tmp", UUID: uuidN(2), Transient: true})
	require.NoError(t, err)
	require.Equal(t, 2, tr.ID)
	require.ErrorIs(t, s.Define(bg, testDef("tmp", uuidN(3), "")), ErrExists)
	require.ErrorIs(t, s.Define(bg, testDef("other", uuidN(2), "")), ErrExists)
	require.NoError(t, s.Define(bg, testDef("tmp", uuidN(2), ""))) // now persistent
	require.NoError(t, s.Undefine(bg, uuidN(2)))                   // and transient again
	n, err := s.Reap(bg)
	require.NoError(t, err)
	require.Zero(t, n)

	// The lock is handed on by descriptor.
	fd, err := syscall.Dup(int(r.Life().Fd()))
	require.NoError(t, err)
	syscall.CloseOnExec(fd)
	r2, err := Adopt(r.Dir, r.StateDir(), os.NewFile(uintptr(fd), "life"))
	require.NoError(t, err)
	r.Release()
	require.NoError(t, r2.MarkStarted())
	act, err := s.Active()
	require.NoError(t, err)
	require.Len(t, act, 2)
	require.True(t, act[0].Started)
	require.JSONEq(t, `{"a":1}`, string(act[0].Config))
	require.NoError(t, r2.Finish(StopRecord{Reason: "shutdown", Detail: "bye"}))
	rec, err := s.StopRecord(uuidN(1))
	require.NoError(t, err)
	require.Equal(t, "shutdown", rec.Reason)
	require.NoError(t, tr.Finish(StopRecord{Reason: "killed"}))
	_, err = s.StopRecord(uuidN(2))
	require.ErrorIs(t, err, ErrNotFound)
	requireTidy(t, s)

	r, err = s.NewRun(bg, RunSpec{Name: "web", UUID: uuidN(1)})
	require.NoError(t, err)
	require.Equal(t, 3, r.ID)
	rec, err = s.StopRecord(uuidN(1)) // a failed start does not hide it
	require.NoError(t, err)
	require.Equal(t, "shutdown", rec.Reason)
	require.NoError(t, r.Abort())
}

// A store with another run directory must not start what runs.
func TestOneDomainTwoRunDirectories(t *testing.T) {
	s := testStore(t)
	require.NoError(t, s.Define(bg, testDef("web", uuidN(1), "")))
	s2, err := Open(Paths{s.paths.State, s.paths.Run + "2"})
	require.NoError(t, err)
	defer s2.Close()
	r, err := s.NewRun(bg, RunSpec{Name: "web", UUID: uuidN(1)})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(bg, 50*time.Millisecond)
	defer cancel()
	_, err = s2.NewRun(ctx, RunSpec{Name: "web", UUID: uuidN(1)})
	require.ErrorIs(t, err, ErrActive)
	require.NoError(t, r.Abort())
}

func TestKilledOwnerIsReapedByManyAtOnce(t *testing.T) {
	for _, tc := range []struct{ kind, started, want string }{
		{"persistent", "started", ReasonDied},
		{"persistent", "starting", ReasonStartFailed},
		{"transient", "started", ""},
	} {
		t.Run(tc.kind+" "+tc.started, func(t *testing.T) {
			s := testStore(t)
			if tc.kind == "persistent" {
				require.NoError(t, s.Define(bg, testDef("web", uuidN(1), "")))
			}
			cmd := role(t, "run", s.paths.State, s.paths.Run, "web", uuidN(1).String(), tc.kind, tc.started)
			out, err := cmd.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			line, err := bufio.NewReader(out).ReadString('\n')
			require.NoError(t, err, line)
			act, err := s.Active()
			require.NoError(t, err)
			require.Len(t, act, 1)
			require.Equal(t, tc.started == "started", act[0].Started)
			require.NoError(t, cmd.Process.Kill())
			cmd.Wait()
			require.NoError(t, s.ReapDomain(bg, uuidN(1)))

			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					s2, err := Open(s.Paths())
					if err == nil {
						_, err = s2.Reap(bg)
						err = errors.Join(err, s2.Close())
					}
					if err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			rec, err := s.StopRecord(uuidN(1))
			if tc.want == "" {
				require.ErrorIs(t, err, ErrNotFound)
			} else {
				require.NoError(t, err)
				require.Equal(t, tc.want, rec.Reason)
			}
			requireTidy(t, s)
		})
	}
}

// A start takes away what a dead VM process left, without a reaper.
func TestStartOverRemains(t *testing.T) {
	s := testStore(t)
	require.NoError(t, s.Define(bg, testDef("web", uuidN(1), "")))
	r, err := s.NewRun(bg, RunSpec{Name: "web", UUID: uuidN(1)})
	require.NoError(t, err)
	require.NoError(t, r.MarkStarted())
	r.Release() // as death does
	r, err = s.NewRun(bg, RunSpec{Name: "web", UUID: uuidN(1)})
	require.NoError(t, err)
	rec, err := s.StopRecord(uuidN(1))
	require.NoError(t, err)
	require.Equal(t, ReasonDied, rec.Reason)
	require.NoError(t, r.Abort())
}

func TestDamagedRunDirectory(t *testing.T) {
	s := testStore(t)
	require.NoError(t, s.Define(bg, testDef("web", uuidN(1), "")))
	r, err := s.NewRun(bg, RunSpec{Name: "web", UUID: uuidN(1)})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(r.Dir, runFile), []byte("{"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(s.paths.Run, idFile), []byte("nonsense"), 0o600))
	_, err = s.Active()
	require.ErrorIs(t, err, ErrCorrupt)
	require.NoError(t, s.Define(bg, testDef("other", uuidN(2), "")))
	r.Release()
	n, err := s.Reap(bg)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	requireTidy(t, s)
}

func TestUnsafeDirectories(t *testing.T) {
	d := t.TempDir()
	require.NoError(t, os.Mkdir(d+"/open", 0o755))
	require.NoError(t, os.Symlink(t.TempDir(), d+"/link"))
	require.NoError(t, os.WriteFile(d+"/file", nil, 0o600))
	for _, run := range []string{"open", "link", "file"} {
		_, err := Open(Paths{d + "/state", d + "/" + run})
		require.ErrorIs(t, err, ErrUnsafeDir, run)
	}
	if os.Getuid() == 0 {
		require.NoError(t, os.Mkdir(d+"/foreign", 0o700))
		require.NoError(t, os.Chown(d+"/foreign", 65534, 65534))
		_, err := Open(Paths{d + "/state", d + "/foreign"})
		require.ErrorIs(t, err, ErrUnsafeDir)
	}
}

func TestThousandDomains(t *testing.T) {
	s := testStore(t)
	for i := range 1000 {
		d := testDef(fmt.Sprint("d", i), uuidN(i+1), strings.Repeat("x", 1000))
		d.Format = Format
		require.NoError(t, os.Mkdir(s.DomainDir(d.UUID), 0o700))
		require.NoError(t, s.writeDefinition(s.DomainDir(d.UUID), d))
	}
	start := time.Now()
	defs, err := s.Definitions()
	require.NoError(t, err)
	require.Len(t, defs, 1000)
	cold := time.Since(start)
	start = time.Now()
	defs, err = s.Definitions()
	require.NoError(t, err)
	require.Len(t, defs, 1000)
	t.Logf("1,000 domains: cold %v, warm %v", cold, time.Since(start))
	// The cache sees a change.
	require.NoError(t, s.Redefine(bg, testDef("renamed", uuidN(1), "")))
	_, err = s.DefinitionByName("renamed")
	require.NoError(t, err)
}
