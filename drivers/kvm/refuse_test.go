//go:build linux && amd64

package kvm_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/kvm"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/boot/linux/imagetest"
	"github.com/polyvisor/polyvisor/internal/testguest"
)

// unchanged runs what is to fail and checks that it leaves nothing: no file, no
// process, no descriptor.
func unchanged(t testing.TB, p place, what string, f func()) {
	t.Helper()
	tree, before := p.tree(t), inUse(t)
	f()
	require.Equal(t, tree, p.tree(t), what)
	require.Empty(t, p.vmPIDs(), what)
	eventually(t, func() bool { u := inUse(t); return u.fds == before.fds && len(u.children) == len(before.children) },
		"%s: %+v before, %+v after", what, before, inUse(t))
}

// refused creates a transient domain, which must fail and leave nothing.
func refused(t testing.TB, p place, c *polyvisor.Conn, what string, cfg *polyvisor.Config, class error, words ...string) {
	t.Helper()
	unchanged(t, p, what, func() {
		_, err := c.Create(patiently(t), cfg)
		requireCode(t, err, class, words...)
	})
}

func kernelConfig(path, cmdline string) *polyvisor.Config {
	cfg := config("refused", cmdline)
	cfg.Boot.Kernel = polyvisor.Path(path)
	return cfg
}

func write(t testing.TB, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kernel")
	require.NoError(t, os.WriteFile(path, data, 0o600))
	return path
}

func zip(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write(data)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return b.Bytes()
}

// loop is an ELF kernel that does nothing: hlt; jmp to it.
func loop() []byte {
	return imagetest.ELF{Entry: 0x1000000, Segments: []imagetest.Segment{
		{Type: imagetest.Load, PAddr: 0x1000000, Data: []byte{0xf4, 0xeb, 0xfd}, MemSize: 4096},
	}}.Build()
}

func bzImage(t testing.TB, patch func(b []byte)) []byte {
	return imagetest.BzImage{SetupSects: 39, Payload: zip(t, loop()), InitSize: 1 << 20, Patch: patch}.Build()
}

func TestRefusedConfig(t *testing.T) {
	inEach(t, func(t *testing.T, p place) {
		c := p.open(t)
		// A first start makes the directories that stay.
		good := create(t, c, kernelConfig(write(t, bzImage(t, nil)), ""))
		require.NoError(t, good.Destroy(patiently(t)))
		dir := t.TempDir()
		pipe := filepath.Join(dir, "pipe")
		require.NoError(t, unix.Mkfifo(pipe, 0o600))
		le := binary.LittleEndian

		for what, tc := range map[string]struct {
			cfg   *polyvisor.Config
			class error
			words []string
		}{
			"missing kernel":                     {kernelConfig("/nowhere/vmlinuz", ""), polyvisor.ErrNotFound, []string{"kernel", "/nowhere/vmlinuz", "check the path"}},
			"directory":                          {kernelConfig(dir, ""), polyvisor.ErrInvalidConfig, []string{dir, "not a regular file", "give the path of one"}},
			"pipe":                               {kernelConfig(pipe, ""), polyvisor.ErrInvalidConfig, []string{pipe, "not a regular file", "give the path of one"}},
			"path below file":                    {kernelConfig("/etc/passwd/vmlinuz", ""), polyvisor.ErrInvalidConfig, []string{"/etc/passwd/vmlinuz", "check the path"}},
			"empty":                              {kernelConfig(write(t, nil), ""), polyvisor.ErrInvalidConfig, []string{"truncated", "fresh copy"}},
			"text":                               {kernelConfig("/etc/passwd", ""), polyvisor.ErrInvalidConfig, []string{"/etc/passwd", "use an x86-64 bzImage"}},
			"flipped magic":                      {kernelConfig(write(t, bzImage(t, func(b []byte) { b[0x202] ^= 1 })), ""), polyvisor.ErrInvalidConfig, []string{"not a Linux kernel", "use an x86-64 bzImage"}},
			"flipped ELF":                        {kernelConfig(write(t, append([]byte("\x7fELG"), loop()[4:]...)), ""), polyvisor.ErrInvalidConfig, []string{"not a Linux kernel", "use an x86-64 bzImage"}},
			"other processor":                    {kernelConfig(write(t, imagetest.ELF{Machine: 183}.Build()), ""), polyvisor.ErrUnsupported, []string{"x86-64"}},
			"payload outside":                    {kernelConfig(write(t, bzImage(t, func(b []byte) { le.PutUint32(b[0x248:], 1<<30) })), ""), polyvisor.ErrInvalidConfig, []string{"outside the file", "fresh copy"}},
			"unknown packing":                    {kernelConfig(write(t, bzImage(t, func(b []byte) { b[40*512+imagetest.PayloadOffset] = 'X' })), ""), polyvisor.ErrUnsupported, []string{"decompress=guest"}},
			"damaged packing":                    {kernelConfig(write(t, bzImage(t, func(b []byte) { b[40*512+imagetest.PayloadOffset+30] ^= 0xff })), ""), polyvisor.ErrInvalidConfig, []string{"corrupt", "fresh copy"}},
			"honest bomb":                        {kernelConfig(write(t, bomb(t, 64<<20)), ""), polyvisor.ErrInvalidConfig, []string{"promising 67108864 bytes"}},
			"lying bomb":                         {kernelConfig(write(t, bomb(t, 4096)), ""), polyvisor.ErrInvalidConfig, []string{"unpacks to more"}},
			"too large kernel":                   {kernelConfig(write(t, large()), ""), polyvisor.ErrInvalidConfig, []string{"does not fit into guest memory", "more memory"}},
			"command line":                       {kernelConfig(write(t, loop()), strings.Repeat("x", 1<<16)), polyvisor.ErrInvalidConfig, []string{"command line"}},
			"command line of the built-in guest": {config("refused", strings.Repeat("x", 1<<16)), polyvisor.ErrInvalidConfig, []string{"command line", "shorten"}},
			"log in a missing directory":         {logTo("/nowhere/log"), polyvisor.ErrNotFound, []string{"/nowhere/log"}},
			"log to a pipe":                      {logTo(pipe), polyvisor.ErrInvalidConfig, []string{pipe}},
			"too little memory":                  {sized(16*polyvisor.MiB, 1), polyvisor.ErrInvalidConfig, []string{"32MiB"}},
			"too much memory":                    {sized(2*polyvisor.TiB, 1), polyvisor.ErrInvalidConfig, []string{"2TiB", "the host allows at most"}},
			"odd memory":                         {sized(64*polyvisor.MiB+1, 1), polyvisor.ErrInvalidConfig, []string{"4KiB"}},
			"too many vCPUs":                     {sized(64*polyvisor.MiB, 65), polyvisor.ErrInvalidConfig, []string{"64"}},
		} {
			refused(t, p, c, what, tc.cfg, tc.class, tc.words...)
		}
		initrd := kernelConfig(write(t, loop()), "")
		initrd.Boot.Initrd = polyvisor.Path("/nowhere/initrd")
		refused(t, p, c, "missing initrd", initrd, polyvisor.ErrNotFound, "initrd", "/nowhere/initrd", "check the path")

		// An open file that cannot be read.
		f, err := os.OpenFile(write(t, loop()), os.O_WRONLY, 0)
		require.NoError(t, err)
		unreadable := config("refused", "")
		unreadable.Boot.Kernel = polyvisor.OpenFile(f)
		before := inUse(t).fds
		_, err = c.Create(patiently(t), unreadable)
		requireCode(t, err, polyvisor.ErrInvalidConfig, "cannot be read")
		require.Equal(t, before-1, inUse(t).fds, "it belongs to the library")

		// Names and UUIDs.
		d := define(t, c, config("taken", ""))
		unchanged(t, p, "twice", func() {
			_, err := c.Define(patiently(t), config("taken", ""))
			requireCode(t, err, polyvisor.ErrExists, `"taken"`, "choose another name")
			same := config("other", "")
			same.UUID = d.UUID()
			_, err = c.Define(patiently(t), same)
			requireCode(t, err, polyvisor.ErrExists, d.UUID().String(), `"taken"`)
			same.Name = "taken"
			_, err = c.Create(patiently(t), same)
			requireCode(t, err, polyvisor.ErrExists)
		})
	})
}

func logTo(path string) *polyvisor.Config {
	cfg := config("refused", "")
	cfg.Console.Log = path
	return cfg
}

func sized(memory polyvisor.Bytes, vcpus int) *polyvisor.Config {
	cfg := config("refused", "")
	cfg.Memory, cfg.VCPUs = memory, vcpus
	return cfg
}

// bomb is a bzImage whose payload, a few KiB, unpacks to 64 MiB and promises size.
func bomb(t testing.TB, size int) []byte {
	payload := slices.Clone(packedZeros())
	binary.LittleEndian.PutUint32(payload[len(payload)-4:], uint32(size))
	return imagetest.BzImage{Payload: payload, InitSize: 1 << 20}.Build()
}

// packedZeros are 64 MiB of them, packed once: with the race detector that takes seconds.
var packedZeros = sync.OnceValue(func() []byte {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err == nil {
		_, err = w.Write(make([]byte, 64<<20))
	}
	if err = errors.Join(err, w.Close()); err != nil {
		panic(err)
	}
	return b.Bytes()
})

// large is a kernel that needs more than a guest of 32 MiB has.
func large() []byte {
	return imagetest.ELF{Entry: 0x1000000, Segments: []imagetest.Segment{
		{Type: imagetest.Load, PAddr: 0x1000000, Data: []byte{0xf4}, MemSize: 64 << 20},
	}}.Build()
}

// Kernels cut off at every 4 KiB of the header and at 20 places of the body, of our
// own making and, if there is one, of a distribution.
func TestTruncatedKernel(t *testing.T) {
	type kernel struct {
		file   []byte
		header int
	}
	kernels := map[string]kernel{"made": {bzImage(t, nil), 40 * 512}}
	if path, _, err := testguest.FindKernel(); err == nil && !testing.Short() {
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		kernels["stock"] = kernel{b, (int(b[0x1f1]) + 1) * 512}
	}
	for _, decompress := range []string{"host", "guest"} {
		p := newPlace(t, process)
		c, err := polyvisor.Open(patiently(t), p.uri("decompress", decompress))
		require.NoError(t, err)
		defer c.Close()
		for name, k := range kernels {
			var cuts []int
			for n := 0; n <= k.header; n += 4096 {
				cuts = append(cuts, n)
			}
			for i := range 20 {
				cuts = append(cuts, k.header+1+(len(k.file)-k.header-64)*i/20)
			}
			path := write(t, k.file)
			first := true
			for i := range cuts {
				n := cuts[len(cuts)-1-i] // the file becomes shorter all the time
				require.NoError(t, os.Truncate(path, int64(n)))
				cfg := kernelConfig(path, "")
				cfg.Memory = 128 * polyvisor.MiB
				what := fmt.Sprintf("%s kernel with decompress=%s cut at %d", name, decompress, n)
				if first { // may make the cache directory
					_, err := c.Create(patiently(t), cfg)
					requireCode(t, err, polyvisor.ErrInvalidConfig, path, "truncated")
					first = false
					continue
				}
				refused(t, p, c, what, cfg, polyvisor.ErrInvalidConfig, path, "; get a fresh copy of the file")
			}
		}
	}
}

func TestRefusedURI(t *testing.T) {
	p := newPlace(t, process)
	file := write(t, []byte("x"))
	unsafe := filepath.Join(t.TempDir(), "open-to-all")
	require.NoError(t, os.Mkdir(unsafe, 0o700))
	require.NoError(t, os.Chmod(unsafe, 0o777))
	for what, tc := range map[string]struct {
		uri   string
		class error
		words []string
	}{
		"parameter":        {p.uri("colour", "red"), polyvisor.ErrInvalidConfig, []string{"colour", "state"}},
		"path":             {"kvm:///elsewhere", polyvisor.ErrInvalidConfig, []string{"/elsewhere", "kvm:///session"}},
		"isolation":        {p.uri("isolation", "jail"), polyvisor.ErrInvalidConfig, []string{"jail", "process"}},
		"decompress":       {p.uri("decompress", "never"), polyvisor.ErrInvalidConfig, []string{"never", "host"}},
		"no device":        {p.uri("device", "/nowhere/kvm"), polyvisor.ErrNoResource, []string{"/nowhere/kvm", "module"}},
		"no KVM device":    {p.uri("device", "/dev/null"), polyvisor.ErrUnsupported, []string{"/dev/null", "not a KVM device"}},
		"a directory":      {p.uri("device", "/dev"), polyvisor.ErrUnsupported, []string{"/dev"}},
		"relative state":   {p.uri("state", "here"), polyvisor.ErrInvalidConfig, []string{"absolute"}},
		"state is a file":  {p.uri("state", file), polyvisor.ErrPermission, []string{file, "not a directory"}},
		"state below file": {p.uri("state", file+"/state"), polyvisor.ErrInvalidConfig, []string{file}},
		"unsafe state":     {p.uri("state", unsafe), polyvisor.ErrPermission, []string{unsafe, "chmod 700"}},
		"unsafe run":       {p.uri("run", unsafe), polyvisor.ErrPermission, []string{unsafe, "chmod 700"}},
	} {
		before := inUse(t).fds
		_, err := polyvisor.Open(patiently(t), tc.uri)
		requireCode(t, err, tc.class, tc.words...)
		require.Equal(t, before, inUse(t).fds, what)
	}
	_, err := kvm.Open(patiently(t), kvm.Options{Device: "/dev/null", StateDir: p.dir + "/state", RunDir: p.dir + "/run"})
	requireCode(t, err, polyvisor.ErrUnsupported, "/dev/null")
}

// The VM program is named wrongly, or is none.
func TestRefusedVMM(t *testing.T) {
	for vmm, words := range map[string][]string{
		"/nowhere/polyvisor-vmm": {"/nowhere/polyvisor-vmm", "vmm="},
		"/etc":                   {"/etc", "directory", "vmm="},
		"/etc/passwd":            {"/etc/passwd", "permission", "vmm="},
	} {
		p := newPlace(t, process)
		c, err := polyvisor.Open(patiently(t), p.uri("vmm", vmm))
		require.NoError(t, err)
		refused(t, p, c, vmm, config("refused", ""), polyvisor.ErrInvalidConfig, words...)
		require.NoError(t, c.Close())
	}
	self, err := os.Executable()
	require.NoError(t, err)
	script := filepath.Join(t.TempDir(), "vmm")
	require.NoError(t, os.WriteFile(script, []byte("\x7fELF and no more"), 0o700))
	p := newPlace(t, process)
	c, err := polyvisor.Open(patiently(t), p.uri("vmm", script))
	require.NoError(t, err)
	refused(t, p, c, script, config("refused", ""), polyvisor.ErrNoResource, script)
	require.NoError(t, c.Close())

	// A program that is something else, and one that is right.
	other := filepath.Join(t.TempDir(), "other")
	require.NoError(t, os.Symlink(self, other))
	c, err = polyvisor.Open(patiently(t), p.uri("vmm", other))
	require.NoError(t, err)
	d := create(t, c, config("accepted", ""))
	require.NoError(t, d.Destroy(patiently(t)))
	require.NoError(t, c.Close())
}

func init() {
	// try URI CONFIG [limit]: opens, creates and destroys, and prints the code and
	// the text of the error. limit bounds the address space.
	roles["try"] = func(args []string) error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if len(args) > 2 {
			if err := unix.Setrlimit(unix.RLIMIT_AS, &unix.Rlimit{Cur: tryLimit, Max: tryLimit}); err != nil {
				return err
			}
		}
		err := try(ctx, args[0], []byte(args[1]))
		return json.NewEncoder(os.Stdout).Encode(tried{polyvisor.CodeOf(err), fmt.Sprint(err)})
	}
}

type tried struct {
	Code polyvisor.Code
	Text string
}

func try(ctx context.Context, uri string, config []byte) error {
	cfg, err := polyvisor.ParseConfig(config)
	if err != nil {
		return err
	}
	c, err := polyvisor.Open(ctx, uri)
	if err != nil {
		return err
	}
	defer c.Close()
	d, err := c.Create(ctx, cfg)
	if err != nil {
		return err
	}
	return d.Destroy(ctx)
}

// requireTried runs the role try.
func requireTried(t *testing.T, attr *syscall.SysProcAttr, p place, uri string, cfg *polyvisor.Config, code polyvisor.Code, words ...string) {
	t.Helper()
	text, err := json.Marshal(cfg)
	require.NoError(t, err)
	args := []string{uri, string(text)}
	if attr == nil {
		args = append(args, "limit")
	}
	s := startRole(t, "try", attr, args...)
	b, err := io.ReadAll(s.out)
	require.NoError(t, err)
	var got tried
	require.NoError(t, json.Unmarshal(b, &got), "%s", b)
	require.Equal(t, code, got.Code, got.Text)
	for _, w := range words {
		require.Contains(t, got.Text, w)
	}
	require.Empty(t, p.vmPIDs())
}

// What the host refuses to a user who is not root.
func TestPermissions(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to become somebody else")
	}
	needKVM(t)
	const nobody = 65534
	var st unix.Stat_t
	require.NoError(t, unix.Stat("/dev/kvm", &st))
	attr := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody, Groups: []uint32{st.Gid}}}
	dir, err := os.MkdirTemp("/tmp", "polyvisor-test-")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	for _, isolation := range []string{process, none} {
		p := place{dir + "/" + isolation, isolation}
		require.NoError(t, os.Mkdir(p.dir, 0o700))
		require.NoError(t, os.Chown(p.dir, nobody, nobody))
		if st.Mode&0o006 == 0o006 || st.Mode&0o060 == 0o060 {
			requireTried(t, attr, p, p.uri(), config("fine", ""), polyvisor.CodeUnknown, "<nil>")
			tree := p.tree(t)
			secret := dir + "/secret-" + isolation
			require.NoError(t, os.WriteFile(secret, loop(), 0o000))
			requireTried(t, attr, p, p.uri(), kernelConfig(secret, ""), polyvisor.CodePermission, "kernel", secret, "permission denied")
			log := config("refused", "")
			log.Console.Log = dir + "/log"
			requireTried(t, attr, p, p.uri(), log, polyvisor.CodePermission, dir+"/log")
			require.Equal(t, tree, p.tree(t))
			// A directory that is another user's, and one that cannot be made.
			requireTried(t, attr, p, p.uri("state", dir+"/"+"state"), config("refused", ""), polyvisor.CodePermission, dir+"/state")
			require.NoError(t, os.MkdirAll(dir+"/theirs", 0o700))
			requireTried(t, attr, p, p.uri("run", dir+"/theirs"), config("refused", ""), polyvisor.CodePermission, dir+"/theirs", "another user", "run=")
		}
		device := dir + "/kvm"
		require.NoError(t, os.WriteFile(device, nil, 0o000))
		requireTried(t, attr, p, p.uri("device", device), config("refused", ""), polyvisor.CodePermission, device, "group", "kvm")
	}
}

// tryLimit is how many bytes of addresses the child of requireTried may have.
const tryLimit = 8 << 30

// More memory than the process may map.
func TestTooMuchForTheHost(t *testing.T) {
	inEach(t, func(t *testing.T, p place) {
		cfg := config("refused", "")
		conn, err := polyvisor.Open(t.Context(), p.uri())
		require.NoError(t, err)
		cfg.Memory = polyvisor.Bytes(conn.Capabilities().MaxMemory)
		require.NoError(t, conn.Close())
		if cfg.Memory <= tryLimit {
			cfg.Memory = 2 * polyvisor.TiB // the host itself has no more than the limit
			requireTried(t, nil, p, p.uri(), cfg, polyvisor.CodeInvalidConfig, "memory", "the host allows at most")
			return
		}
		requireTried(t, nil, p, p.uri(), cfg, polyvisor.CodeNoResource, "memory", "ulimit -v")
		cfg.Memory = 32 * polyvisor.MiB
		requireTried(t, nil, p, p.uri(), cfg, polyvisor.CodeUnknown, "<nil>")
		require.Equal(t, emptyTree, p.tree(t))
	})
}

// A disk that is full, for definitions or for run directories.
func TestFullDisk(t *testing.T) {
	inEach(t, func(t *testing.T, p place) {
		for _, what := range []string{"state", "run"} {
			dir := filepath.Join(p.dir, what)
			require.NoError(t, os.MkdirAll(dir, 0o700))
			if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k,mode=700"); err != nil {
				t.Skipf("needs to mount a small file system: %v", err)
			}
			defer unix.Unmount(dir, unix.MNT_DETACH)
			c, err := polyvisor.Open(patiently(t), p.uri())
			require.NoError(t, err)
			d := define(t, c, config("early", ""))
			f, err := os.Create(filepath.Join(dir, "ballast"))
			require.NoError(t, err)
			_, err = io.Copy(f, zeros{})
			require.ErrorIs(t, err, unix.ENOSPC)
			require.NoError(t, f.Close())

			if what == "state" {
				unchanged(t, p, "define", func() {
					_, err := c.Define(patiently(t), config("late", ""))
					requireCode(t, err, polyvisor.ErrNoResource, dir, "no space left")
				})
			} else {
				err := d.Start(patiently(t))
				requireCode(t, err, polyvisor.ErrNoResource, dir, "no space left")
				refused(t, p, c, "create", config("late", ""), polyvisor.ErrNoResource, dir)
			}
			// With room again all is well.
			require.NoError(t, os.Remove(f.Name()))
			require.NoError(t, d.Start(patiently(t)))
			require.NoError(t, d.Remove(patiently(t)))
			require.NoError(t, c.Close())
			eventually(t, func() bool { return unix.Unmount(dir, 0) == nil }, "%s is still in use", dir)
		}
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// A definition that was damaged hides no other one and is named.
func TestDamagedDefinition(t *testing.T) {
	p := newPlace(t, process)
	c, ctx := p.open(t), patiently(t)
	bad, good := define(t, c, config("bad", "")), define(t, c, config("good", ""))
	file := p.dir + "/state/domains/" + bad.UUID().String() + "/domain.json"
	require.NoError(t, os.WriteFile(file, []byte("{"), 0o600))
	requireNames(t, c, polyvisor.DomainFilter{}, "good")
	other := p.dir + "/state/domains/" + uuid.NewString() + "/domain.json"
	require.NoError(t, os.Mkdir(filepath.Dir(other), 0o700))
	require.NoError(t, os.WriteFile(other, []byte("}"), 0o600))
	var log bytes.Buffer
	logged := p.open(t, polyvisor.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	requireNames(t, logged, polyvisor.DomainFilter{}, "good")
	require.Equal(t, 2, strings.Count(log.String(), "left out of the list"), "a line for each: %s", &log)
	_, err := c.Domain(ctx, "bad")
	requireCode(t, err, polyvisor.ErrNotFound, "no such domain that can be read: ", file, other, "restore it")
	_, err = c.DomainByUUID(ctx, bad.UUID())
	requireCode(t, err, polyvisor.ErrInvalidConfig, file, "restore it")
	requireCode(t, bad.Start(ctx), polyvisor.ErrInvalidConfig, file)
	require.NoError(t, good.Start(ctx))
	require.NoError(t, good.Destroy(ctx))
	_, err = c.DomainByUUID(ctx, uuid.New())
	requireCode(t, err, polyvisor.ErrNotFound)
	require.NoError(t, os.RemoveAll(filepath.Dir(file)))
	require.NoError(t, os.RemoveAll(filepath.Dir(other)))
}
