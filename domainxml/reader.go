package domainxml

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"github.com/polyvisor/polyvisor"
)

// reader collects the problems of a document. Its methods go on after one, so
// that all are told at once.
type reader struct {
	err Error
	// partial admits a device that does not say everything: to detach one its
	// name is enough. What it needs else Config.Validate knows, too.
	partial bool
	// loose leaves out devices that are not whole.
	loose bool
}

func (r *reader) add(n *node, below, format string, args ...any) {
	if len(r.err.Problems) >= maxProblems {
		r.err.More++
		return
	}
	r.err.Problems = append(r.err.Problems, Problem{n.line, n.path() + below, fmt.Sprintf(format, args...)})
}

// result tells what nobody has asked for, and gives the error of all problems.
func (r *reader) result(root *node) error {
	r.leftOver(root)
	if len(r.err.Problems) == 0 {
		return nil
	}
	slices.SortStableFunc(r.err.Problems, func(a, b Problem) int { return a.Line - b.Line })
	return &r.err
}

const notSupported = "is not supported"

func (r *reader) leftOver(n *node) {
	if n.skipped {
		return
	}
	for _, a := range n.attrs {
		if !a.known {
			r.add(n, "/@"+pathName(a.Name), "%s", notSupported)
		}
	}
	if text := strings.TrimSpace(n.text.String()); text != "" && !n.textKnown {
		r.add(n, "", "the text %.40q has no meaning here", text)
	}
	for _, k := range n.kids {
		if !k.known {
			r.add(k, "", "%s", notSupported)
			continue
		}
		r.leftOver(k)
	}
}

// one gives the child element of a name, nil if there is none. A second one is
// a problem.
func (r *reader) one(n *node, name string) *node {
	if n == nil {
		return nil
	}
	list := n.all(name)
	for _, k := range list[min(1, len(list)):] {
		r.add(k, "", "there is one before; give it once")
		k.skip()
	}
	if len(list) == 0 {
		return nil
	}
	return list[0]
}

// text is the content of a child element, as it stands; empty if there is none.
func (r *reader) text(n *node, name string) string {
	if k := r.one(n, name); k != nil {
		return k.content()
	}
	return ""
}

// flag reports whether there is a child element of the name.
func (r *reader) flag(n *node, name string) bool { return r.one(n, name) != nil }

// only admits some values of an attribute, and that it is missing.
func (r *reader) only(n *node, name string, want ...string) string {
	v, ok := n.attr(name)
	if ok && !slices.Contains(want, v) {
		r.add(n, "/@"+name, "%q %s; %s is", v, notSupported, strings.Join(want, " or "))
	}
	return v
}

// demand is an attribute that must not be missing or empty.
func (r *reader) demand(n *node, name string) string {
	v := n.value(name)
	if v == "" {
		r.add(n, "/@"+name, "is missing")
	}
	return v
}

// need is demand for what a partial device may leave out.
func (r *reader) need(n *node, name string) string {
	if r.partial {
		return n.value(name)
	}
	return r.demand(n, name)
}

// lacks tells what is missing, unless the device is partial.
func (r *reader) lacks(n *node, below, format string, args ...any) {
	if !r.partial {
		r.add(n, below, format, args...)
	}
}

// number reads a number of at most the given value.
func (r *reader) number(n *node, below, text string, most uint64) uint64 {
	text = strings.TrimSpace(text)
	v, err := strconv.ParseUint(text, 10, 64)
	if err != nil || v > most {
		r.add(n, below, "%.40q is not a number from 0 to %d", text, most)
		return 0
	}
	return v
}

func (r *reader) attrNumber(n *node, name string, most uint64) uint64 {
	v, ok := n.attr(name)
	if !ok {
		r.add(n, "/@"+name, "is missing")
		return 0
	}
	return r.number(n, "/@"+name, v, most)
}

// sized reads an element with an amount and its unit, KiB if it has none.
func (r *reader) sized(n *node) polyvisor.Bytes {
	v := r.number(n, "", n.content(), math.MaxUint64)
	unit, ok := n.attr("unit")
	scale := uint64(polyvisor.KiB)
	if ok {
		if scale = unitScale(unit); scale == 0 {
			r.add(n, "/@unit", "%.40q is not a unit; write KiB, MiB or GiB", unit)
			return 0
		}
	}
	hi, size := bits.Mul64(v, scale)
	if hi != 0 {
		r.add(n, "", "%d %s do not fit 64 bits", v, unit)
		return 0
	}
	return polyvisor.Bytes(size)
}

// unitScale gives the bytes of a unit in libvirt's notation: "b", "bytes", and
// k, M, G, T, P, E alone or with "iB" for powers of 1024, with "B" for powers of
// 1000, in either case. 0 if it is none.
func unitScale(unit string) uint64 {
	unit = strings.ToLower(strings.TrimSpace(unit))
	switch unit {
	case "":
		return 0
	case "b", "byte", "bytes":
		return 1
	}
	power := strings.IndexByte("kmgtpe", unit[0]) + 1
	base := uint64(0)
	switch unit[1:] {
	case "", "ib":
		base = 1024
	case "b":
		base = 1000
	}
	if power == 0 || base == 0 {
		return 0
	}
	scale := uint64(1)
	for range power {
		scale *= base
	}
	return scale
}
