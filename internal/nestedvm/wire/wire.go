// Package wire is the protocol between the host and the init of the nested test machine: frames on one
// virtio-serial port. A frame is one byte of kind, four bytes of little-endian payload length and the payload.
//
// The host sends one Spec frame. The machine answers Ready, then for each command Start, any number of Stdout
// and Stderr, and Exit; then Tar frames (one archive, cut anywhere) with the artifacts; then Done. From Ready on
// Alive frames come between the others.
package wire

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// PortName is the name of the virtio-serial port that carries the frames.
const PortName = "org.polyvisor.nested"

// ModuleLists is the directory in the machine with the lists "transport" and "kvm" of module files, one path a
// line in the order of loading.
const ModuleLists = "/etc/nestedvm"

// RuntimeDir is the user's runtime directory in the machine.
const RuntimeDir = "/run/user/0"

// MaxPayload is the largest payload of a frame in bytes.
const MaxPayload = 1 << 20

// AlivePeriod is how often a machine that lives says so.
const AlivePeriod = 2 * time.Second

// ErrFrame says that the stream holds something that is no frame.
var ErrFrame = errors.New("bad frame")

// Kind says what a frame's payload is.
type Kind byte

// The kinds of frame; the payload is JSON of the type named, or raw bytes.
const (
	KindSpec   Kind = iota + 1 // Spec, host to machine
	KindReady                  // Ready
	KindStart                  // Start
	KindStdout                 // raw
	KindStderr                 // raw
	KindExit                   // Exit
	KindTar                    // raw
	KindDone                   // Done
	KindAlive                  // nothing: a sign of life, every AlivePeriod
	kindEnd
)

// Spec is the work of one machine.
type Spec struct {
	Now       time.Time // the host's clock, which the machine takes over
	Env       []string  // NAME=value, for every command
	Commands  []Command
	Artifacts []string // files and directories to send back; those that do not exist are left out
}

// Command is one command to run, after the one before it has ended.
type Command struct {
	Args    []string // Args[0] is a path in the machine
	Env     []string // added to Spec.Env
	Dir     string
	Timeout time.Duration // 0: none; then SIGQUIT, and SIGKILL after Grace
	Grace   time.Duration
}

// Ready is sent when the machine is up and before the first command.
type Ready struct {
	Kernel string
	Uptime time.Duration // since the kernel of the machine started
	Fault  string        // why nothing can be run, for example that there is no /dev/kvm
}

// Start says that the command of this index begins; the frames up to Exit belong to it.
type Start struct{ Index int }

// Exit is the end of a command.
type Exit struct {
	Index    int
	Code     int // as a shell says it: 128 + signal number when a signal ended it
	TimedOut bool
	Elapsed  time.Duration
	Fault    string   // the command could not be started
	Left     []string // processes that outlived the command and were killed
}

// Done is the last frame.
type Done struct {
	Fault string // what went wrong with the artifacts
}

// Writer writes frames. It may be used by several goroutines at once.
type Writer struct {
	mu  sync.Mutex
	w   io.Writer
	buf []byte
}

// NewWriter returns a Writer on w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Frame writes one frame.
func (w *Writer) Frame(k Kind, payload []byte) error {
	if len(payload) > MaxPayload {
		return fmt.Errorf("%w: payload of %d bytes, at most %d", ErrFrame, len(payload), MaxPayload)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf = append(w.buf[:0], byte(k))
	w.buf = binary.LittleEndian.AppendUint32(w.buf, uint32(len(payload)))
	w.buf = append(w.buf, payload...)
	_, err := w.w.Write(w.buf)
	return err
}

// JSON writes one frame with the JSON of v.
func (w *Writer) JSON(k Kind, v any) error {
	p, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return w.Frame(k, p)
}

// Stream is an io.Writer that sends what is written as frames of one kind.
type Stream struct {
	W    *Writer
	Kind Kind
}

// Write sends p as one or more frames.
func (s Stream) Write(p []byte) (int, error) {
	for n := 0; n < len(p); {
		m := min(len(p)-n, MaxPayload)
		if err := s.W.Frame(s.Kind, p[n:n+m]); err != nil {
			return n, err
		}
		n += m
	}
	return len(p), nil
}

// Reader reads frames.
type Reader struct {
	r   io.Reader
	buf []byte
}

// NewReader returns a Reader on r.
func NewReader(r io.Reader) *Reader { return &Reader{r: r} }

// Next returns the next frame. The payload is valid until the next call. The error is io.EOF at the end of
// the stream between two frames, io.ErrUnexpectedEOF inside one.
func (r *Reader) Next() (Kind, []byte, error) {
	var h [5]byte
	if _, err := io.ReadFull(r.r, h[:]); err != nil {
		return 0, nil, err
	}
	k, n := Kind(h[0]), binary.LittleEndian.Uint32(h[1:])
	if k == 0 || k >= kindEnd {
		return 0, nil, fmt.Errorf("%w: kind %d", ErrFrame, k)
	}
	if n > MaxPayload {
		return 0, nil, fmt.Errorf("%w: payload of %d bytes, at most %d", ErrFrame, n, MaxPayload)
	}
	if cap(r.buf) < int(n) {
		r.buf = make([]byte, n)
	}
	r.buf = r.buf[:n]
	if _, err := io.ReadFull(r.r, r.buf); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	return k, r.buf, nil
}
