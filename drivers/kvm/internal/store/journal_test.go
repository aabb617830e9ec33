//go:build linux

package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func openJournal(t *testing.T, s *Store) *Journal {
	t.Helper()
	j, err := s.OpenJournal()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, j.Close()) })
	return j
}

// next reads n events.
func next(t *testing.T, j *Journal, n int) []Event {
	t.Helper()
	var all []Event
	for len(all) < n {
		events, err := j.Next()
		require.NoError(t, err)
		all = append(all, events...)
	}
	require.Len(t, all, n)
	return all
}

func types(events []Event) (list []EventType) {
	for _, e := range events {
		list = append(list, e.Type)
	}
	return list
}

func TestJournalTellsTheLifeOfADomain(t *testing.T) {
	s := testStore(t)
	require.NoError(t, s.Define(bg, testDef("before", uuidN(9), "")))
	j := openJournal(t, s)
	u := uuidN(1)
	require.NoError(t, s.Define(bg, testDef("web", u, "one")))
	require.NoError(t, s.Redefine(bg, testDef("web", u, "two")))
	require.NoError(t, s.Amend(bg, testDef("web", u, "three"), EventLabels))
	require.NoError(t, s.Amend(bg, testDef("new", u, "three"), EventLabels))
	require.ErrorIs(t, s.Amend(bg, testDef("before", u, ""), EventLabels), ErrExists)
	require.ErrorIs(t, s.Amend(bg, testDef("x", uuidN(2), ""), EventLabels), ErrNotFound)

	r, err := s.NewRun(bg, RunSpec{Name: "new", UUID: u, Config: json.RawMessage(`{}`)})
	require.NoError(t, err)
	require.ErrorIs(t, s.AmendRun(bg, u, json.RawMessage(`{}`), EventLabels), ErrStarting)
	require.NoError(t, r.MarkStarted())
	require.NoError(t, r.Announce(EventStarted, true))
	require.NoError(t, s.AmendRun(bg, u, json.RawMessage(`{"a":1}`), EventLabels))
	a, err := s.ActiveByUUID(u)
	require.NoError(t, err)
	require.JSONEq(t, `{"a":1}`, string(a.Config))
	require.True(t, a.Started)
	require.Equal(t, r.Token, a.Token)
	require.NoError(t, r.Finish(StopRecord{Reason: "crash", Detail: "why"}))
	require.ErrorIs(t, s.AmendRun(bg, u, json.RawMessage(`{}`), EventLabels), ErrNotFound)

	require.NoError(t, s.Amend(bg, testDef("new", u, "four"), EventLabels))
	require.NoError(t, s.ClearStop(bg, u))
	require.NoError(t, s.Amend(bg, testDef("new", u, "five"), EventLabels))
	rec, err := s.StopRecord(u)
	require.NoError(t, err)
	require.True(t, rec.Cleared)
	require.Equal(t, "why", rec.Detail)
	require.NoError(t, s.Undefine(bg, u))

	got := next(t, j, 10)
	require.Equal(t, []EventType{EventDefined, EventDefined, EventLabels, EventRenamed, EventStarted, EventLabels, EventStopped, EventLabels, EventLabels, EventUndefined}, types(got))
	for i, e := range got {
		require.Equal(t, u, e.UUID, i)
		require.False(t, e.Time.IsZero(), i)
	}
	require.Equal(t, "web", got[2].Name)
	require.Equal(t, "new", got[3].Name)
	require.True(t, got[4].Paused)
	require.Equal(t, r.Token, got[4].Run)
	require.Equal(t, "crash", got[6].Stop.Reason)
	require.Equal(t, r.Token, got[6].Run)
	require.Equal(t, "crash", got[7].Stop.Reason)
	require.False(t, got[7].Stop.Cleared)
	require.True(t, got[8].Stop.Cleared)
	require.Nil(t, got[9].Stop)
	require.Nil(t, got[5].Stop)
}

// A VM process that is killed tells nothing itself; whoever clears away after it
// does, once.
func TestJournalTellsOfTheDead(t *testing.T) {
	s := testStore(t)
	j := openJournal(t, s)
	for i, started := range []string{"starting", "started"} {
		cmd := role(t, "run", s.paths.State, s.paths.Run, fmt.Sprint("r", i), uuidN(i).String(), "transient", started)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		_, err = out.Read(make([]byte, 8))
		require.NoError(t, err)
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait()
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { _, _ = s.Reap(bg) })
	}
	wg.Wait()
	require.NoError(t, s.Define(bg, testDef("last", uuidN(5), "")))
	got := next(t, j, 2)
	require.Equal(t, []EventType{EventStopped, EventDefined}, types(got))
	require.Equal(t, "r1", got[0].Name)
	require.Equal(t, ReasonDied, got[0].Stop.Reason)
}

// Many writers, while the beginning of the journal is given back again and again:
// the reader gets all events in the order of each writer, or a gap.
func TestJournalOfManyWriters(t *testing.T) {
	s := testStore(t)
	j := openJournal(t, s)
	const writers, each = 4, 5000
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if err := appendEvent(s.journal(), Event{Type: EventLabels, Name: fmt.Sprint(i), UUID: uuidN(w)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	go func() {
		wg.Wait()
		_ = appendEvent(s.journal(), Event{Type: EventUndefined, UUID: uuidN(writers)})
	}()
	last := make(map[UUID]int)
	seen, gaps := 0, 0
	for done := false; !done; {
		events, err := j.Next()
		require.NoError(t, err)
		for _, e := range events {
			switch e.Type {
			case EventGap:
				gaps++
			case EventUndefined:
				done = true
			default:
				var n int
				_, err := fmt.Sscan(e.Name, &n)
				require.NoError(t, err)
				require.True(t, n == last[e.UUID]+1 || n == 0 && last[e.UUID] == 0 || gaps > 0 && n > last[e.UUID], "%d after %d", n, last[e.UUID])
				last[e.UUID] = n
				seen++
			}
		}
	}
	require.True(t, seen == writers*each || gaps > 0)
	var st unix.Stat_t
	require.NoError(t, unix.Stat(s.journal(), &st))
	require.Greater(t, st.Size, int64(2*journalMax))
	if st.Blocks*512 > 2*journalMax {
		require.ErrorIs(t, punchable(t), unix.EOPNOTSUPP, "the journal takes %d bytes", st.Blocks*512)
	}
}

func punchable(t *testing.T) error {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	require.NoError(t, err)
	defer f.Close()
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4096)
}

// A reader that slept while the journal was trimmed is told so, and goes on with
// whole lines.
func TestJournalGap(t *testing.T) {
	if err := punchable(t); err != nil {
		t.Skipf("needs a file system with holes: %v", err)
	}
	s := testStore(t)
	j := openJournal(t, s)
	for i := range 10000 {
		require.NoError(t, appendEvent(s.journal(), Event{Type: EventLabels, Name: fmt.Sprint(i)}))
	}
	require.NoError(t, appendEvent(s.journal(), Event{Type: EventDefined, Name: "end"}))
	var all []Event
	for len(all) == 0 || all[len(all)-1].Name != "end" {
		events, err := j.Next()
		require.NoError(t, err)
		all = append(all, events...)
	}
	require.Equal(t, EventGap, all[0].Type)
	require.Less(t, len(all), 10000)
	for i, e := range all[1 : len(all)-1] {
		require.Equal(t, fmt.Sprint(10000-len(all)+2+i), e.Name)
	}
}

func TestJournalDamage(t *testing.T) {
	s := testStore(t)
	j := openJournal(t, s)
	write := func(text string) {
		f, err := os.OpenFile(s.journal(), os.O_WRONLY|os.O_APPEND, 0)
		require.NoError(t, err)
		defer f.Close()
		_, err = f.WriteString(text)
		require.NoError(t, err)
	}
	good := func(name string) {
		require.NoError(t, appendEvent(s.journal(), Event{Type: EventDefined, Name: name}))
	}
	write(`{"type":"defi`) // its writer was killed
	good("swallowed")
	good("a")
	write("not json\n{}\nnull\n\n")
	good("b")
	write(strings.Repeat("x", 10*maxEvent) + "\n")
	good("c")
	write(strings.Repeat("\x00", 10000) + "\n")
	good("d")
	var got []string
	for !slices.Contains(got, "d") {
		events, err := j.Next()
		require.NoError(t, err)
		for _, e := range events {
			if e.Type == EventGap {
				e.Name = "gap"
			}
			if len(got) == 0 || got[len(got)-1] != "gap" || e.Type != EventGap {
				got = append(got, e.Name)
			}
		}
	}
	require.Equal(t, []string{"gap", "a", "gap", "b", "gap", "c", "gap", "d"}, got)
}

func TestJournalLongDetail(t *testing.T) {
	s := testStore(t)
	j := openJournal(t, s)
	stop := &StopRecord{Reason: "crash", Detail: strings.Repeat("\x01", 3*maxEvent)}
	require.NoError(t, appendEvent(s.journal(), Event{Type: EventStopped, Stop: stop}))
	got := next(t, j, 1)
	require.Equal(t, "crash", got[0].Stop.Reason)
	require.NotEmpty(t, got[0].Stop.Detail)
	require.Len(t, stop.Detail, 3*maxEvent, "the record itself is whole")
}

func TestJournalCloseEndsNext(t *testing.T) {
	s := testStore(t)
	j, err := s.OpenJournal()
	require.NoError(t, err)
	end := make(chan error)
	go func() {
		_, err := j.Next()
		end <- err
	}()
	require.NoError(t, j.Close())
	require.NoError(t, j.Close())
	if err := <-end; !errors.Is(err, os.ErrClosed) {
		t.Fatal(err)
	}
}

// A run that is over but for its life lock, which goes last.
func TestClearStopWaitsForTheLifeLock(t *testing.T) {
	s := testStore(t)
	u := uuidN(1)
	require.NoError(t, s.Define(bg, testDef("web", u, "")))
	r, err := s.NewRun(bg, RunSpec{Name: "web", UUID: u})
	require.NoError(t, err)
	require.NoError(t, r.MarkStarted())
	require.NoError(t, s.ClearStop(bg, u), "a domain that runs is left as it is")
	_, err = s.StopRecord(u)
	require.ErrorIs(t, err, ErrNotFound)

	require.NoError(t, writeStop(r.stateDir, StopRecord{Run: r.Token, Reason: "crash"}))
	require.NoError(t, removeTree(r.Dir))
	done := make(chan error)
	go func() { done <- s.ClearStop(bg, u) }()
	r.Release()
	require.NoError(t, <-done)
	rec, err := s.StopRecord(u)
	require.NoError(t, err)
	require.True(t, rec.Cleared)
}
