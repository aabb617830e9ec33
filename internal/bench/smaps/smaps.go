// Package smaps measures how much memory a process holds besides what it was asked to hold: /proc/PID/smaps (proc_pid_smaps(5)),
// summed over all mappings except the guest's RAM.
//
// RAM is told by its name, where the kernel knows names of anonymous mappings (CONFIG_ANON_VMA_NAME), and else by its
// size: an anonymous mapping of exactly the size of one of the guest's memory regions, which is how Firecracker's own
// test tells it.
package smaps

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// RAMName is the name of guest RAM, as prctl(PR_SET_VMA_ANON_NAME) would set it.
const RAMName = "[anon:guest-ram]"

// Usage is what one or more mappings hold, in bytes. A page is shared when more than one process maps it, so the text of a
// program that runs once counts as private.
type Usage struct {
	RSS     uint64 `json:"rss"`
	Pss     uint64 `json:"pss"`
	Private uint64 `json:"private"`
	Shared  uint64 `json:"shared"`
	Dirty   uint64 `json:"dirty"` // private dirty: what the process itself wrote
	Huge    uint64 `json:"huge"`  // in transparent huge pages
}

// Total is what the target is about: private and shared pages.
func (u Usage) Total() uint64 { return u.Private + u.Shared }

func (u *Usage) add(o Usage) {
	u.RSS += o.RSS
	u.Pss += o.Pss
	u.Private += o.Private
	u.Shared += o.Shared
	u.Dirty += o.Dirty
	u.Huge += o.Huge
}

// Process is a process at one moment.
type Process struct {
	Usage                       // of all but guest RAM
	RAM        Usage            `json:"ram"`         // of the guest's RAM
	RAMRegions int              `json:"ram_regions"` // mappings taken for it
	Kinds      map[string]Usage `json:"kinds"`       // Usage by kind of mapping
	Largest    []Mapping        `json:"largest"`     // the anonymous ones that hold most, at most maxLargest
}

// Mapping is one mapping.
type Mapping struct {
	Addr string `json:"addr"`
	Size uint64 `json:"size"`
	Usage
}

const maxLargest = 6

// ErrFormat says that something is no smaps file.
var ErrFormat = errors.New("not in the format of /proc/PID/smaps")

// mapping is the header line of one mapping.
type mapping struct {
	start, end uint64
	perms      string
	inode      string
	name       string
}

func (m mapping) size() uint64    { return m.end - m.start }
func (m mapping) anonymous() bool { return m.inode == "0" && !strings.HasPrefix(m.name, "/") }

// Read reads a smaps file. Regions are the sizes in bytes of the guest's memory regions.
func Read(r io.Reader, regions []uint64) (Process, error) {
	p := Process{Kinds: map[string]Usage{}}
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, 64<<10), 64<<10)
	var m mapping
	var u Usage
	open := false
	end := func() {
		if !open {
			return
		}
		if m.isRAM(regions) {
			p.RAM.add(u)
			p.RAMRegions++
			return
		}
		p.add(u)
		k := p.Kinds[m.kind()]
		k.add(u)
		p.Kinds[m.kind()] = k
		if m.anonymous() && u.RSS > 0 {
			p.Largest = append(p.Largest, Mapping{fmt.Sprintf("%#x", m.start), m.size(), u})
		}
	}
	for s.Scan() {
		line := s.Text()
		key, rest, ok := strings.Cut(line, ":")
		if next, is := header(line); is {
			end()
			m, u, open = next, Usage{}, true
			continue
		}
		if !ok || !open {
			return Process{}, fmt.Errorf("%w: line %q", ErrFormat, line)
		}
		field, ok := u.field(key)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 44)
		if err != nil {
			return Process{}, fmt.Errorf("%w: line %q", ErrFormat, line)
		}
		for _, f := range field {
			if f != nil {
				*f += n << 10
			}
		}
	}
	if err := s.Err(); err != nil {
		return Process{}, err
	}
	end()
	slices.SortStableFunc(p.Largest, func(a, b Mapping) int { return cmp.Compare(b.RSS, a.RSS) })
	p.Largest = p.Largest[:min(len(p.Largest), maxLargest)]
	return p, nil
}

func (u *Usage) field(key string) (f [2]*uint64, ok bool) {
	switch key {
	case "Rss":
		f[0] = &u.RSS
	case "Pss":
		f[0] = &u.Pss
	case "Private_Clean":
		f[0] = &u.Private
	case "Private_Dirty":
		f[0], f[1] = &u.Private, &u.Dirty
	case "Shared_Clean", "Shared_Dirty":
		f[0] = &u.Shared
	case "AnonHugePages":
		f[0] = &u.Huge
	default:
		return f, false
	}
	return f, true
}

// header reads "start-end perms offset dev inode name".
func header(line string) (m mapping, ok bool) {
	f := strings.Fields(line)
	if len(f) < 5 {
		return m, false
	}
	from, to, ok := strings.Cut(f[0], "-")
	if !ok {
		return m, false
	}
	var err1, err2 error
	m.start, err1 = strconv.ParseUint(from, 16, 64)
	m.end, err2 = strconv.ParseUint(to, 16, 64)
	if err1 != nil || err2 != nil || m.end < m.start {
		return m, false
	}
	m.perms, m.inode, m.name = f[1], f[4], strings.Join(f[5:], " ")
	return m, true
}

func (m mapping) isRAM(regions []uint64) bool {
	if m.name == RAMName {
		return true
	}
	if !m.anonymous() || m.name != "" {
		return false
	}
	for _, r := range regions {
		if m.size() == r {
			return true
		}
	}
	return false
}

// kind names what a mapping is, for finding out what takes the memory.
func (m mapping) kind() string {
	exec := strings.Contains(m.perms, "x")
	switch {
	case strings.HasPrefix(m.name, "anon_inode:"):
		return "kvm run pages"
	case !m.anonymous() && exec:
		return "code"
	case !m.anonymous() && strings.Contains(m.perms, "w"):
		return "data of files"
	case !m.anonymous():
		return "read-only data of files"
	case m.name == "[heap]":
		return "heap"
	case m.name == "[stack]":
		return "main stack"
	case m.name == "[vdso]" || m.name == "[vvar]" || m.name == "[vsyscall]" || m.name == "[vvar_vclock]":
		return "kernel's"
	case strings.HasPrefix(m.name, "[anon: Go: "):
		return strings.Trim(m.name, "[]")
	}
	return "anonymous" // heap and stacks of a Go program, mostly
}
