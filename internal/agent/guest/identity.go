//go:build linux

package guest

import (
	"bufio"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/polyvisor/polyvisor/internal/agent/proto"
)

// identity is the user that a command runs as.
type identity struct {
	name     string
	uid, gid uint32
	groups   []uint32
	home     string
}

func (i *identity) credential() *syscall.Credential {
	return &syscall.Credential{Uid: i.uid, Gid: i.gid, Groups: i.groups}
}

// identify finds a user by USER or USER:GROUP, names or numbers, in the files below root.
// Empty is root. A guest need not have the files for numbers.
func identify(root, text string) (*identity, error) {
	user, grp, hasGroup := strings.Cut(text, ":")
	if user == "" {
		user = "0"
	}
	id := &identity{home: "/"}
	number, numeric := parseID(user)
	found := false
	entries(filepath.Join(root, "etc/passwd"), 7, func(f []string) bool {
		uid, ok := parseID(f[2])
		gid, ok2 := parseID(f[3])
		if !ok || !ok2 || f[0] != user && !(numeric && uid == number) {
			return true
		}
		id.name, id.uid, id.gid, id.home, found = f[0], uid, gid, f[5], true
		return false
	})
	switch {
	case found:
	case numeric || user == "root":
		id.name, id.uid, id.gid = user, number, number
		if number == 0 {
			id.name = "root"
		}
	default:
		return nil, proto.Fail(proto.FailNotFound, "the guest has no user %q", user)
	}
	if id.home == "" {
		id.home = "/"
	}
	if hasGroup {
		gid, ok := findGroup(root, grp)
		if !ok {
			return nil, proto.Fail(proto.FailNotFound, "the guest has no group %q", grp)
		}
		id.gid, id.groups = gid, []uint32{}
		return id, nil
	}
	id.groups = []uint32{}
	entries(filepath.Join(root, "etc/group"), 4, func(f []string) bool {
		if gid, ok := parseID(f[2]); ok && slices.Contains(strings.Split(f[3], ","), id.name) {
			id.groups = append(id.groups, gid)
		}
		return len(id.groups) < 1024
	})
	return id, nil
}

func findGroup(root, name string) (gid uint32, ok bool) {
	entries(filepath.Join(root, "etc/group"), 4, func(f []string) bool {
		if f[0] == name {
			gid, ok = parseID(f[2])
		}
		return !ok
	})
	if ok {
		return gid, true
	}
	return parseID(name)
}

func parseID(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil && n != 1<<32-1
}

// entries gives the lines of a file with as many fields, until f returns false.
func entries(path string, fields int, f func(fields []string) bool) {
	file, err := os.Open(path)
	if err != nil {
		return
	}
	defer file.Close()
	for s := bufio.NewScanner(file); s.Scan(); {
		if e := strings.Split(s.Text(), ":"); len(e) >= fields && !f(e) {
			return
		}
	}
}
