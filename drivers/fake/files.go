package fake

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/polyvisor/polyvisor"
)

// files are the open files of a run. A nil one has none.
type files struct {
	boot  []bootFile
	disks []*image
	log   *os.File // of the hypervisor
	out   []*os.File
	in    *os.File
	back  []backing
	// shared is set while the images are locked in the hypervisor.
	locked bool
}

// bootFile is what was loaded to boot from.
type bootFile struct {
	what string
	size int64
	crc  uint32
}

// backing is a file that is the memory of a range.
type backing struct {
	start, end uint64
	file       *os.File
}

// hasFiles reports whether a configuration refers to anything on the host.
func hasFiles(c *polyvisor.Config) bool {
	return len(c.Disks) > 0 || len(c.Shares) > 0 || c.RNG != nil || len(c.MemoryBacking) > 0 ||
		!c.Boot.Kernel.IsZero() || !c.Boot.Initrd.IsZero() || !c.Boot.Firmware.IsZero() || !c.Console.IsZero() || !c.Log.IsZero()
}

// openFiles opens what a guest needs, or nothing. Open files are replaced by
// their names in the configuration, which belongs to the caller.
func openFiles(c *polyvisor.Config) (f *files, err error) {
	if !hasFiles(c) {
		return nil, nil
	}
	f = &files{}
	defer func() {
		if err != nil {
			f.close()
			f = nil
		}
	}()
	for _, b := range []struct {
		what  string
		file  *polyvisor.File
		check func([]byte) error
	}{
		{"kernel", &c.Boot.Kernel, checkKernel}, {"initrd", &c.Boot.Initrd, checkNotEmpty}, {"firmware", &c.Boot.Firmware, checkNotEmpty},
	} {
		if !b.file.IsZero() {
			if err := f.load(b.what, *b.file, b.check); err != nil {
				return nil, err
			}
		}
	}
	for i := range c.Disks {
		img, err := openImage(&c.Disks[i])
		if err != nil {
			return f, err
		}
		f.disks = append(f.disks, img)
	}
	for _, s := range c.Shares {
		if err := checkShare(s); err != nil {
			return f, err
		}
	}
	if c.RNG != nil {
		if _, err := os.Stat(rngSource(c.RNG)); err != nil {
			return f, fmt.Errorf("source of random numbers: %w", classify(err))
		}
	}
	if err := f.openConsole(c); err != nil {
		return f, err
	}
	return f, f.openBacking(c)
}

func (f *files) openConsole(c *polyvisor.Config) error {
	for _, out := range []polyvisor.File{polyvisor.Path(c.Console.Log), c.Console.Out} {
		if out.IsZero() {
			continue
		}
		file, err := open(out, os.O_WRONLY|os.O_APPEND|os.O_CREATE)
		if err != nil {
			return fmt.Errorf("console output: %w", err)
		}
		f.out = append(f.out, file)
	}
	var err error
	if !c.Console.In.IsZero() {
		if f.in, err = open(c.Console.In, os.O_RDONLY); err != nil {
			return fmt.Errorf("console input: %w", err)
		}
	}
	if !c.Log.IsZero() {
		if f.log, err = open(c.Log, os.O_WRONLY|os.O_APPEND|os.O_CREATE); err != nil {
			return fmt.Errorf("log: %w", err)
		}
	}
	return nil
}

func (f *files) openBacking(c *polyvisor.Config) error {
	for _, m := range c.MemoryBacking {
		file, err := open(m.File, os.O_RDWR)
		if err != nil {
			return fmt.Errorf("memory backing: %w", err)
		}
		f.back = append(f.back, backing{m.Start, m.End, file})
		st, err := file.Stat()
		if err != nil {
			return fmt.Errorf("memory backing: %w", classify(err))
		}
		if st.Mode().IsRegular() && uint64(st.Size()) < m.End-m.Start {
			return fmt.Errorf("%w: memory backing %s: %s, the range needs %s", polyvisor.ErrInvalidConfig, m.File, polyvisor.Bytes(st.Size()), polyvisor.Bytes(m.End-m.Start))
		}
	}
	return nil
}

// load reads a file to boot from, to its end.
func (f *files) load(what string, file polyvisor.File, check func(head []byte) error) error {
	r, err := open(file, os.O_RDONLY)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer r.Close()
	if st, err := r.Stat(); err != nil || !st.Mode().IsRegular() {
		return fmt.Errorf("%w: %s %s: not a regular file", polyvisor.ErrInvalidConfig, what, file)
	}
	head := make([]byte, 0x210)
	n, err := r.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s %s: %w", what, file, classify(err))
	}
	if err := check(head[:n]); err != nil {
		return fmt.Errorf("%w: %s %s: %w", polyvisor.ErrInvalidConfig, what, file, err)
	}
	sum := crc32.NewIEEE()
	// Not from where an open file happens to stand.
	size, err := io.Copy(sum, io.NewSectionReader(r, 0, 1<<62))
	if err != nil {
		return fmt.Errorf("%s %s: %w", what, file, classify(err))
	}
	f.boot = append(f.boot, bootFile{what, size, sum.Sum32()})
	return nil
}

// KernelImage is the smallest kernel that the fake guest boots: a file with the
// head of an ELF vmlinux. For tests that need the file of a kernel.
func KernelImage() []byte { return []byte("\x7fELF\x02\x01\x01 fake kernel\n") }

// checkKernel tells an ELF vmlinux or a bzImage by its magic number.
func checkKernel(head []byte) error {
	switch {
	case len(head) >= 4 && string(head[:4]) == "\x7fELF":
		return nil
	case len(head) >= 0x206 && string(head[0x202:0x206]) == "HdrS":
		return nil
	case len(head) == 0:
		return errors.New("the file is empty")
	}
	return errors.New("neither an ELF vmlinux nor a bzImage")
}

func checkNotEmpty(head []byte) error {
	if len(head) == 0 {
		return errors.New("the file is empty")
	}
	return nil
}

// open opens a file, or duplicates an open one, which stays the caller's. It
// never waits for the other end of a pipe.
func open(file polyvisor.File, flag int) (*os.File, error) {
	if file.Open != nil {
		f, err := duplicate(file.Open)
		if err != nil {
			return nil, fmt.Errorf("open file %s: %w", file, classify(err))
		}
		return f, nil
	}
	f, err := os.OpenFile(file.Path, flag|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, classify(err)
	}
	return f, nil
}

// close closes all that is open.
func (f *files) close() {
	if f == nil {
		return
	}
	for _, d := range f.disks {
		_ = d.file.Close()
	}
	for _, b := range f.back {
		_ = b.file.Close()
	}
	for _, o := range f.out {
		_ = o.Close()
	}
	for _, o := range []*os.File{f.in, f.log} {
		if o != nil {
			_ = o.Close()
		}
	}
}

// needGuest reports whether the guest has to run from the start on, because
// what it prints is kept or what it reads is there.
func (f *files) needGuest() bool { return f != nil && (len(f.out) > 0 || f.in != nil) }

// readInput feeds the guest from the console's input file until that or the
// run ends: by a goroutine of its own, since a pipe can keep it waiting.
func (f *files) readInput(r *run) {
	if f == nil || f.in == nil {
		return
	}
	go func() {
		p := make([]byte, 512)
		for {
			n, err := f.in.Read(p)
			h := r.d.h
			h.mu.Lock()
			if r.d.run == r && r.ended == nil && n > 0 {
				r.guestLocked().inputLocked(p[:n])
			}
			h.unlock()
			if err != nil {
				return
			}
		}
	}()
}

// logged reports whether the domain has a log of its own.
func (r *run) logged() bool { return r.files != nil && r.files.log != nil }

// logLocked writes to it. A full disk does not stop the domain.
func (r *run) logLocked(format string, args ...any) {
	if r.logged() {
		fmt.Fprintf(r.files.log, "%s %s: %s\n", time.Now().UTC().Format(time.RFC3339Nano), r.d.name, fmt.Sprintf(format, args...))
	}
}

// classify gives an error of the operating system its class.
func classify(err error) error {
	var no syscall.Errno
	class := error(nil)
	switch {
	case err == nil || polyvisor.CodeOf(err) != polyvisor.CodeUnknown:
		return err
	case errors.Is(err, fs.ErrNotExist):
		class = polyvisor.ErrNotFound
	case errors.Is(err, fs.ErrExist):
		class = polyvisor.ErrExists
	case errors.Is(err, fs.ErrPermission):
		class = polyvisor.ErrPermission
	case errors.As(err, &no):
		switch polyvisor.CodeOfErrno(no) {
		case polyvisor.CodeNoResource:
			class = polyvisor.ErrNoResource
		case polyvisor.CodeReadOnly:
			class = polyvisor.ErrPermission
		default:
			class = polyvisor.ErrInvalidConfig
		}
	default:
		return err
	}
	return fmt.Errorf("%w: %w", class, err)
}
