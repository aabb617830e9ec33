package acpi

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// walker reads AML independently of the package that wrote it: it follows
// every length and collects what the namespace and the methods are.
type walker struct {
	t    *testing.T
	p    []byte
	objs []string // "path = value"
}

func (w *walker) take(n int) []byte {
	require.LessOrEqual(w.t, n, len(w.p), "AML ends early")
	b := w.p[:n]
	w.p = w.p[n:]
	return b
}

func (w *walker) byte() byte { return w.take(1)[0] }

// pkg returns a walker for the contents of a package.
func (w *walker) pkg() *walker {
	before := len(w.p)
	n := w.length()
	return &walker{t: w.t, p: w.take(n - (before - len(w.p)))}
}

func (w *walker) length() int {
	lead := w.byte()
	more := int(lead >> 6)
	if more == 0 {
		return int(lead)
	}
	n := int(lead & 0xf)
	for i := range more {
		n |= int(w.byte()) << (4 + 8*i)
	}
	return n
}

func (w *walker) name() string {
	var prefix string
	for w.p[0] == '\\' || w.p[0] == '^' {
		prefix += string(w.byte())
	}
	n := 1
	switch w.p[0] {
	case 0:
		n = 0
		w.byte()
	case 0x2e:
		n = 2
		w.byte()
	case 0x2f:
		w.byte()
		n = int(w.byte())
	}
	var segs []string
	for range n {
		segs = append(segs, strings.TrimRight(string(w.take(4)), "_"))
	}
	return prefix + strings.Join(segs, ".")
}

// term reads one value, expression or statement.
func (w *walker) term() string {
	le := binary.LittleEndian
	c := w.p[0]
	if c >= 'A' && c <= 'Z' || c == '_' || c == '\\' || c == '^' {
		return w.name()
	}
	switch w.byte(); {
	case c == 0 || c == 1:
		return fmt.Sprint(c)
	case c == 0x0a:
		return fmt.Sprint(w.byte())
	case c == 0x0b:
		return fmt.Sprintf("%#x", le.Uint16(w.take(2)))
	case c == 0x0c:
		return fmt.Sprintf("%#x", le.Uint32(w.take(4)))
	case c == 0x0d:
		var s []byte
		for b := w.byte(); b != 0; b = w.byte() {
			s = append(s, b)
		}
		return fmt.Sprintf("%q", s)
	case c == 0x11:
		in := w.pkg()
		size := in.term()
		require.Equal(w.t, size, fmt.Sprint(len(in.p)), "buffer size")
		return fmt.Sprintf("buffer % x", in.p)
	case c == 0x12:
		in := w.pkg()
		n := int(in.byte())
		var elems []string
		for range n {
			elems = append(elems, in.term())
		}
		require.Empty(w.t, in.p)
		return "{" + strings.Join(elems, " ") + "}"
	case c >= 0x60 && c <= 0x67:
		return fmt.Sprintf("local%d", c-0x60)
	case c >= 0x68 && c <= 0x6e:
		return fmt.Sprintf("arg%d", c-0x68)
	case c == 0x70:
		v := w.term()
		return fmt.Sprintf("%s = %s", w.term(), v)
	case c == 0x7b:
		a, b := w.term(), w.term()
		require.Zero(w.t, w.byte(), "target")
		return fmt.Sprintf("(%s & %s)", a, b)
	case c == 0x86:
		return fmt.Sprintf("notify(%s, %s)", w.term(), w.term())
	case c == 0x93:
		return fmt.Sprintf("(%s == %s)", w.term(), w.term())
	case c == 0xa0:
		in := w.pkg()
		return fmt.Sprintf("if %s {%s}", in.term(), in.body())
	}
	w.t.Fatalf("opcode %#x", c)
	return ""
}

func (w *walker) body() string {
	var s []string
	for len(w.p) > 0 {
		s = append(s, w.term())
	}
	return strings.Join(s, "; ")
}

// objects reads a list of objects within a scope.
func (w *walker) objects(scope string) {
	abs := func(name string) string {
		if strings.HasPrefix(name, `\`) {
			return name
		}
		return scope + "." + name
	}
	for len(w.p) > 0 {
		op := int(w.byte())
		if op == 0x5b {
			op = op<<8 | int(w.byte())
		}
		switch op {
		case 0x08:
			name := abs(w.name())
			w.objs = append(w.objs, name+" "+w.term())
		case 0x10, 0x5b82:
			in := w.pkg()
			name := abs(in.name())
			in.objects(name)
			w.objs = append(w.objs, in.objs...)
		case 0x14:
			in := w.pkg()
			name, flags := abs(in.name()), in.byte()
			w.objs = append(w.objs, fmt.Sprintf("%s method %d %s", name, flags, in.body()))
		case 0x5b80:
			name, space := abs(w.name()), w.byte()
			w.objs = append(w.objs, fmt.Sprintf("%s region %d %s+%s", name, space, w.term(), w.term()))
		case 0x5b81:
			in := w.pkg()
			name, flags := abs(in.name()), in.byte()
			units := ""
			for len(in.p) > 0 {
				units += fmt.Sprintf(" %s:%d", string(in.take(4)), in.length())
			}
			w.objs = append(w.objs, fmt.Sprintf("%s field %d%s", name, flags, units))
		default:
			w.t.Fatalf("object opcode %#x", op)
		}
	}
}

// TestNamespace walks the DSDT byte by byte.
func TestNamespace(t *testing.T) {
	for _, vcpus := range []int{1, 2, 64, MaxVCPUs} {
		c := machine(vcpus)
		c.Serial = append(c.Serial, SerialPort{Base: 0x2f8, IRQ: 3})
		tables, err := Build(c)
		require.NoError(t, err)
		w := &walker{t: t, p: find(t, c, tables).dsdt[headerSize:]}
		w.objects("")
		want := []string{
			`\_S5 {5 0 0 0}`,
			`\_SB.PWRB._HID 0xc0cd041`,
			`\_SB.PWRB._UID 0`,
			`\_SB.GED0._HID "ACPI0013"`,
			`\_SB.GED0._UID 0`,
			`\_SB.GED0._CRS buffer 89 06 00 01 01 09 00 00 00 79 00`,
			`\_SB.GED0.EREG region 1 0x604+1`,
			`\_SB.GED0.EREG field 65 EVTS:8`,
			`\_SB.GED0._EVT method 9 if (arg0 == 9) {local0 = EVTS; if (local0 & 1) {notify(\_SB.PWRB, 128)}}`,
			`\_SB.COM1._HID 0x105d041`,
			`\_SB.COM1._UID 0`,
			`\_SB.COM1._CRS buffer 47 01 f8 03 f8 03 01 08 23 10 00 01 79 00`,
			`\_SB.COM2._HID 0x105d041`,
			`\_SB.COM2._UID 1`,
			`\_SB.COM2._CRS buffer 47 01 f8 02 f8 02 01 08 23 08 00 01 79 00`,
		}
		for i := range vcpus {
			want = append(want, fmt.Sprintf(`\_SB.C%03X._HID "ACPI0007"`, i), fmt.Sprintf(`\_SB.C%03X._UID %d`, i, i))
		}
		require.Equal(t, want, w.objs)
	}
}
