//go:build unix

package polyvisor_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
)

// earlyDir writes files into a directory whose name would mislead a pattern.
func earlyDir(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "[early]*")
	require.NoError(t, os.Mkdir(dir, 0o755))
	for name, text := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	return dir
}

// openEarly opens an early connection to r, or to d if that wraps it.
func openEarly(t *testing.T, d polyvisor.Driver, dir string, opts ...polyvisor.Option) (*polyvisor.Conn, error) {
	t.Helper()
	var reg polyvisor.Registry
	reg.Register("rec", polyvisor.Registration{Open: func(context.Context, *polyvisor.URI, polyvisor.OpenOptions) (polyvisor.Driver, error) { return d, nil }})
	conn, err := polyvisor.Open(t.Context(), "rec:///", append(opts, polyvisor.WithRegistry(&reg), polyvisor.Early(dir))...)
	if err == nil {
		t.Cleanup(func() { _ = conn.Close() })
	}
	return conn, err
}

const (
	webXML = "<domain><name>web</name></domain>"
	dbXML  = "<domain><name>db</name><uuid>1b4e28ba-2fa1-11d2-883f-0016d3cca427</uuid></domain>"
)

func TestEarly(t *testing.T) {
	dir := earlyDir(t, map[string]string{"web.xml": webXML, "db.xml": dbXML, "README": "not XML"})
	for name, wrap := range map[string]func(*recorder) polyvisor.Driver{
		"codec": func(r *recorder) polyvisor.Driver { return r }, "raw": func(r *recorder) polyvisor.Driver { return rawDriver{r} },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRecorder(t)
			old, stranger := r.put("web", polyvisor.Shutoff), r.put("stranger", polyvisor.Shutoff)
			conn, err := openEarly(t, wrap(r), dir)
			require.NoError(t, err)

			web, err := conn.Domain(t.Context(), "web")
			require.NoError(t, err)
			assert.Equal(t, old, web.UUID(), "it keeps the UUID it has")
			db, err := conn.DomainByUUID(t.Context(), uuid.MustParse("1b4e28ba-2fa1-11d2-883f-0016d3cca427"))
			require.NoError(t, err)
			for _, dom := range []*polyvisor.Domain{web, db} {
				require.NoError(t, dom.Start(t.Context()))
				require.NoError(t, dom.Suspend(t.Context()))
			}
			require.NoError(t, web.Destroy(t.Context()))
			r.log()

			other, err := conn.DomainByUUID(t.Context(), stranger)
			require.NoError(t, err)
			for what, err := range map[string]error{
				"define": second(conn.Define(t.Context(), &polyvisor.Config{Name: "a"})), "create": second(conn.Create(t.Context(), &polyvisor.Config{Name: "a"})),
				"define XML": second(conn.DefineXML(t.Context(), webXML)), "create XML": second(conn.CreateXML(t.Context(), webXML)),
				"restore": second(conn.Restore(t.Context(), "/saved")), "start": other.Start(t.Context()), "set state": other.SetState(t.Context(), polyvisor.Running),
				"undefine": web.Undefine(t.Context()), "rename": web.Rename(t.Context(), "x"), "remove": db.Remove(t.Context()),
			} {
				require.ErrorIs(t, err, polyvisor.ErrPermission, what)
				assert.Equal(t, polyvisor.CodePermission, polyvisor.CodeOf(err))
			}
			for _, call := range r.log() {
				assert.Contains(t, []string{"lookup", "state"}, call)
			}
		})
	}
}

// bothWays runs a test with a driver that reads XML by a codec and with one that
// takes it as it is.
func bothWays(t *testing.T, f func(t *testing.T, r *recorder, d polyvisor.Driver, define string)) {
	t.Run("codec", func(t *testing.T) { r := newRecorder(t); f(t, r, r, "define") })
	t.Run("raw", func(t *testing.T) { r := newRecorder(t); f(t, r, rawDriver{r}, "define xml") })
}

// An early connection changes nothing of any domain, and runs its own.
func TestEarlyChangesNothing(t *testing.T) {
	life := []polyvisor.Op{
		polyvisor.OpStart, polyvisor.OpSuspend, polyvisor.OpResume, polyvisor.OpShutdown, polyvisor.OpReboot, polyvisor.OpDestroy,
		polyvisor.OpConsole, polyvisor.OpDialVsock, polyvisor.OpListenVsock, polyvisor.OpWaitReady, polyvisor.OpExec, polyvisor.OpSave, polyvisor.OpCoreDump, "set state",
	}
	for _, m := range slices.Concat(operations(), changes()) {
		t.Run(m.fn, func(t *testing.T) {
			bothWays(t, func(t *testing.T, r *recorder, d polyvisor.Driver, _ string) {
				own, stranger := r.put("web", polyvisor.Shutoff), r.put("stranger", polyvisor.Shutoff)
				conn, err := openEarly(t, d, earlyDir(t, map[string]string{"web.xml": webXML}))
				require.NoError(t, err)
				for _, id := range []uuid.UUID{own, stranger} {
					for _, s := range []polyvisor.State{polyvisor.Shutoff, polyvisor.Running, polyvisor.Paused} {
						if s != m.state && (s == polyvisor.Paused || slices.Contains(life, polyvisor.Op(m.name))) {
							continue
						}
						dom, err := conn.DomainByUUID(t.Context(), id)
						require.NoError(t, err)
						r.enact(id, s)
						r.log()
						err = m.call(t.Context(), conn, dom)
						if id == own && slices.Contains(life, polyvisor.Op(m.name)) {
							require.NoError(t, err)
							continue
						}
						require.ErrorIs(t, err, polyvisor.ErrPermission, "%s in state %s", dom.Name(), s)
						require.Subset(t, []string{"state"}, r.log(), "nothing reaches the driver")
					}
				}
			})
		})
	}
}

// enact makes a domain with no run under way one of the state.
func (r *recorder) enact(id uuid.UUID, s polyvisor.State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.Active() {
		r.domains[id].run(r)
	}
	r.domains[id].state = s
}

// Start runs what the file says, whatever others have made of the definition.
func TestEarlyStartsWhatTheFileSays(t *testing.T) {
	bothWays(t, func(t *testing.T, r *recorder, d polyvisor.Driver, define string) {
		conn, err := openEarly(t, d, earlyDir(t, map[string]string{"web.xml": webXML}))
		require.NoError(t, err)
		web, err := conn.Domain(t.Context(), "web")
		require.NoError(t, err)
		edit := func(f func(c *polyvisor.Config)) {
			r.mu.Lock()
			defer r.mu.Unlock()
			c := r.domains[web.UUID()].config.Clone()
			f(c)
			r.domains[web.UUID()].config = c
		}
		r.log()
		require.NoError(t, web.Start(t.Context()))
		if define == "define" {
			require.NotContains(t, r.log(), define, "the definition is the file's")
		}
		require.NoError(t, web.Destroy(t.Context()))
		want, err := web.Config(t.Context())
		require.NoError(t, err)

		for what, change := range map[string]func(c *polyvisor.Config){
			"memory": func(c *polyvisor.Config) { c.Memory, c.MaxMemory = 64*polyvisor.MiB, 64*polyvisor.MiB },
			"disk":   func(c *polyvisor.Config) { c.Disks = append(c.Disks, disk) },
			"label":  func(c *polyvisor.Config) { c.Labels = map[string]string{"a": "b"} },
			"none":   func(c *polyvisor.Config) { c.Memory = 0 },
		} {
			edit(change)
			r.log()
			require.NoError(t, web.Start(t.Context()), what)
			calls := r.log()
			require.Contains(t, calls, define, what)
			require.Less(t, slices.Index(calls, define), slices.Index(calls, "start"), what)
			have, err := web.Config(t.Context())
			require.NoError(t, err)
			require.Equal(t, want, have, what)
			require.NoError(t, web.Destroy(t.Context()))
		}

		edit(func(c *polyvisor.Config) { c.Title = "another" })
		r.setScript(failOn(define, polyvisor.ErrNoResource))
		r.log()
		err = web.Start(t.Context())
		require.ErrorIs(t, err, polyvisor.ErrNoResource)
		require.ErrorContains(t, err, "as its file describes it")
		require.NotContains(t, r.log(), "start")
	})
}

// A definition that is changed between the look at it and the start does not run.
func TestEarlyStartRace(t *testing.T) {
	for what, tt := range map[string]struct {
		change func(c *polyvisor.Config)
		runs   bool
	}{
		"memory":  {func(c *polyvisor.Config) { c.Memory, c.MaxMemory = 64*polyvisor.MiB, 64*polyvisor.MiB }, false},
		"kernel":  {func(c *polyvisor.Config) { c.Boot.Kernel = polyvisor.Path("/another") }, false},
		"labels":  {func(c *polyvisor.Config) { c.Labels = map[string]string{"a": "b"} }, true},
		"nothing": {func(*polyvisor.Config) {}, true},
	} {
		t.Run(what, func(t *testing.T) {
			r := newRecorder(t)
			conn, err := openEarly(t, r, earlyDir(t, map[string]string{"web.xml": webXML}))
			require.NoError(t, err)
			web, err := conn.Domain(t.Context(), "web")
			require.NoError(t, err)
			r.setScript(func(_ context.Context, call string) error {
				if call == "start" {
					r.mu.Lock()
					defer r.mu.Unlock()
					c := r.domains[web.UUID()].config.Clone()
					tt.change(c)
					r.domains[web.UUID()].config = c
				}
				return nil
			})
			r.log()
			err = web.Start(t.Context())
			r.setScript(nil)
			s, serr := web.State(t.Context())
			require.NoError(t, serr)
			if tt.runs {
				require.NoError(t, err)
				require.Equal(t, polyvisor.Running, s)
				return
			}
			require.ErrorIs(t, err, polyvisor.ErrBusy)
			require.ErrorContains(t, err, "start it again")
			require.Equal(t, polyvisor.Shutoff, s)
			require.Contains(t, r.log(), "destroy")
			require.NoError(t, web.Start(t.Context()), "it is defined again as its file describes it")
		})
	}
	t.Run("who knows", func(t *testing.T) {
		r := newRecorder(t)
		conn, err := openEarly(t, r, earlyDir(t, map[string]string{"web.xml": webXML}))
		require.NoError(t, err)
		web, err := conn.Domain(t.Context(), "web")
		require.NoError(t, err)
		started := false
		r.setScript(func(_ context.Context, call string) error {
			started = started || call == "start"
			if started && call == "config" {
				return polyvisor.ErrConnLost
			}
			return nil
		})
		require.ErrorIs(t, web.Start(t.Context()), polyvisor.ErrConnLost)
		r.setScript(nil)
		s, err := web.State(t.Context())
		require.NoError(t, err)
		require.Equal(t, polyvisor.Shutoff, s, "what cannot be looked at does not run")
	})
}

func TestEarlyFailures(t *testing.T) {
	big := "<domain><name>" + strings.Repeat("a", 1<<20) + "</name></domain>"
	for _, tt := range []struct {
		name  string
		files map[string]string
		edit  func(dir string) string // gives another directory
		setup func(*recorder)
		opts  []polyvisor.Option
		want  error
		text  string
		raw   bool // the same with a driver that takes XML as it is
	}{
		{name: "no directory", edit: func(dir string) string { return dir + "/none" }, want: polyvisor.ErrNotFound, text: "directory of early domains", raw: true},
		{name: "empty name", edit: func(string) string { return "" }, want: polyvisor.ErrNotFound, raw: true},
		{name: "a file", files: map[string]string{"a": ""}, edit: func(dir string) string { return dir + "/a" }, want: polyvisor.ErrInvalidConfig, raw: true},
		{name: "no XML", files: map[string]string{"a.xml": "{}"}, want: polyvisor.ErrInvalidConfig, text: "a.xml", raw: true},
		{name: "no name", files: map[string]string{"a.xml": "<domain/>"}, want: polyvisor.ErrInvalidConfig, text: "every domain needs a name"},
		{name: "too big", files: map[string]string{"a.xml": big}, want: polyvisor.ErrInvalidConfig, text: "more than 1MiB", raw: true},
		{name: "twice", files: map[string]string{"a.xml": webXML, "b.xml": webXML}, want: polyvisor.ErrExists, text: "b.xml", raw: true},
		{name: "XML not supported", files: map[string]string{"a.xml": webXML}, setup: without(polyvisor.FeatureXML), want: polyvisor.ErrUnsupported, raw: true},
		{name: "read-only", files: map[string]string{"a.xml": webXML}, opts: []polyvisor.Option{polyvisor.ReadOnly()}, want: polyvisor.ErrReadOnly, raw: true},
		{name: "read-only without files", opts: []polyvisor.Option{polyvisor.ReadOnly()}, want: polyvisor.ErrReadOnly, raw: true},
		{name: "read-only without a directory", edit: func(dir string) string { return dir + "/none" }, opts: []polyvisor.Option{polyvisor.ReadOnly()}, want: polyvisor.ErrReadOnly, raw: true},
		{name: "lookup fails", files: map[string]string{"a.xml": webXML}, setup: func(r *recorder) { r.script = failOn("lookup", polyvisor.ErrConnLost) }, want: polyvisor.ErrConnLost, raw: true},
		{name: "define fails", files: map[string]string{"a.xml": dbXML}, setup: func(r *recorder) { r.script = failOn("define", polyvisor.ErrConnLost) }, want: polyvisor.ErrConnLost, text: "a.xml"},
		{name: "define XML fails", files: map[string]string{"a.xml": dbXML}, setup: func(r *recorder) { r.script = failOn("define xml", polyvisor.ErrConnLost) }, want: polyvisor.ErrConnLost},
		{name: "pipe", edit: func(dir string) string {
			if err := syscall.Mkfifo(filepath.Join(dir, "a.xml"), 0o600); err != nil {
				t.Fatal(err)
			}
			return dir
		}, want: polyvisor.ErrInvalidConfig, text: "not a regular file", raw: true},
		{name: "dangling link", edit: func(dir string) string {
			if err := os.Symlink("nowhere", filepath.Join(dir, "a.xml")); err != nil {
				t.Fatal(err)
			}
			return dir
		}, want: polyvisor.ErrNotFound, raw: true},
		{name: "closing fails too", files: map[string]string{"a.xml": "{}"}, setup: func(r *recorder) { r.closeErr = polyvisor.ErrBusy }, want: polyvisor.ErrInvalidConfig, text: "busy"},
	} {
		for _, raw := range []bool{false, true} {
			if raw && !tt.raw && tt.name != "define XML fails" || !raw && tt.name == "define XML fails" {
				continue
			}
			t.Run(tt.name, func(t *testing.T) {
				dir := earlyDir(t, tt.files)
				if tt.edit != nil {
					dir = tt.edit(dir)
				}
				r := newRecorder(t)
				if tt.setup != nil {
					tt.setup(r)
				}
				var d polyvisor.Driver = r
				if raw {
					d = rawDriver{r}
				}
				_, err := openEarly(t, d, dir, tt.opts...)
				require.ErrorIs(t, err, tt.want)
				require.ErrorContains(t, err, "rec: open: ")
				require.ErrorContains(t, err, tt.text)
				assert.Equal(t, 1, r.closes, "the driver is closed")
			})
		}
	}
}

// NewConn has no way to fail: an early connection made by it can run nothing.
func TestEarlyNewConn(t *testing.T) {
	dom, r := inState(t, polyvisor.Shutoff, nil, polyvisor.Early(t.TempDir()))
	require.ErrorIs(t, dom.Start(t.Context()), polyvisor.ErrPermission)
	_, err := dom.Conn().Define(t.Context(), &polyvisor.Config{Name: "a"})
	require.ErrorIs(t, err, polyvisor.ErrPermission)
	assert.Empty(t, r.log())
}
