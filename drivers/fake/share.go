package fake

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/polyvisor/polyvisor"
)

// checkShare refuses a directory that is none.
func checkShare(s polyvisor.Share) error {
	st, err := os.Stat(s.Source)
	switch {
	case err != nil:
		return fmt.Errorf("share %s: %w", s.Tag, classify(err))
	case !st.IsDir():
		return fmt.Errorf("%w: share %s: %s is not a directory", polyvisor.ErrInvalidConfig, s.Tag, s.Source)
	}
	return nil
}

// share opens a shared directory by its tag. What the guest names in it cannot
// lead out of it.
func (g *guest) share(args string) (root *os.Root, write bool, rest string) {
	tag, rest, _ := strings.Cut(strings.TrimSpace(args), " ")
	i := slices.IndexFunc(g.r.config.Shares, func(s polyvisor.Share) bool { return s.Tag == tag })
	if i < 0 {
		g.printf("no share: %s\n", tag)
		return nil, false, ""
	}
	s := g.r.config.Shares[i]
	g.count("share")
	root, err := os.OpenRoot(s.Source)
	if err != nil {
		g.fail("share", err)
		return nil, false, ""
	}
	return root, s.Mode.Writable(), rest
}

func (g *guest) doShares(string) {
	g.printf("shares: %d\n", len(g.r.config.Shares))
	for _, s := range g.r.config.Shares {
		mode := "rw"
		if !s.Mode.Writable() {
			mode = "ro"
		}
		g.printf("share: %s %s\n", s.Tag, mode)
	}
}

func (g *guest) doLs(args string) {
	root, _, _ := g.share(args)
	if root == nil {
		return
	}
	defer root.Close()
	dir, err := root.Open(".")
	if err != nil {
		g.fail("ls", err)
		return
	}
	defer dir.Close()
	names, err := dir.Readdirnames(maxListed)
	if err != nil && err != io.EOF {
		g.fail("ls", err)
		return
	}
	slices.Sort(names)
	g.printf("ls: %d\n", len(names))
	for _, n := range names {
		g.printf("file: %q\n", n)
	}
}

// Bounds of what the guest shows of a share.
const (
	maxListed = 1000
	maxShown  = 4096
)

func (g *guest) doCat(args string) {
	root, _, name := g.share(args)
	if root == nil {
		return
	}
	defer root.Close()
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		g.fail("cat", err)
		return
	}
	defer f.Close()
	p := make([]byte, maxShown)
	n, err := f.Read(p)
	if err != nil && err != io.EOF {
		g.fail("cat", err)
		return
	}
	g.printf("cat: %q\n", p[:n])
}

func (g *guest) doPut(args string) {
	root, write, rest := g.share(args)
	if root == nil {
		return
	}
	defer root.Close()
	name, text, _ := strings.Cut(rest, " ")
	if !write {
		g.fail("put", syscall.EROFS)
		return
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		g.fail("put", err)
		return
	}
	_, err = f.WriteString(text)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		g.fail("put", err)
		return
	}
	g.printf("put: %d bytes\n", len(text))
}
