package guest

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/polyvisor/polyvisor/internal/agent/proto"
)

func frame(t proto.Type, stream uint8, payload string) []byte {
	b := []byte{byte(t), stream, 0, 0, 0, 0, 0, 0}
	binary.LittleEndian.PutUint32(b[4:], uint32(len(payload)))
	return append(b, payload...)
}

func request(r proto.Request) []byte {
	r.Version = proto.Version
	b, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	return frame(proto.TypeRequest, 0, string(b))
}

// hostile is a host that has said all it will.
type hostile struct {
	*bytes.Reader
	answered int
}

func (h *hostile) Write(p []byte) (int, error) { h.answered += len(p); return len(p), nil }
func (h *hostile) Close() error                { return nil }

// harmless reports whether a request does nothing to the machine that the fuzzer runs on.
func harmless(said []byte) bool {
	if len(said) < 8 || len(said) < 8+int(binary.LittleEndian.Uint32(said[4:])) {
		return true
	}
	var r proto.Request
	return json.Unmarshal(said[8:8+binary.LittleEndian.Uint32(said[4:])], &r) != nil || r.Exec == nil && r.Put == nil && r.Get == nil && r.Shutdown == nil
}

// Whatever a host says, at the beginning or to a command or a file under way, the connection
// ends, and with it the command.
func FuzzGuest(f *testing.F) {
	setClock = func(time.Time) error { return nil }
	f.Add(uint8(0), request(proto.Request{Op: proto.OpPing}))
	f.Add(uint8(0), request(proto.Request{Op: proto.OpTime, Time: &proto.Time{UnixNano: 1}}))
	f.Add(uint8(1), append(frame(proto.TypeData, 0, "input"), frame(proto.TypeEnd, 0, "")...))
	f.Add(uint8(1), append(frame(proto.TypeSignal, 0, "\x0f\x00\x00\x00"), frame(proto.TypeCredit, 1, "\x01\x00\x00\x00")...))
	f.Add(uint8(2), append(frame(proto.TypeData, 0, "content"), frame(proto.TypeEnd, 0, "")...))
	f.Add(uint8(3), frame(proto.TypeStop, 1, ""))
	dir := f.TempDir()
	old := filepath.Join(dir, "old")
	if err := os.WriteFile(old, bytes.Repeat([]byte("x"), 1<<20), 0o600); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, op uint8, said []byte) {
		switch op % 4 {
		case 0:
			if !harmless(said) {
				return
			}
		case 1:
			said = append(request(proto.Request{Op: proto.OpExec, Exec: &proto.Exec{Args: [][]byte{[]byte("cat")}, Stdin: true, Stdout: proto.ToStream}}), said...)
		case 2:
			said = append(request(proto.Request{Op: proto.OpPut, Put: &proto.Put{Path: []byte(filepath.Join(dir, "new"))}}), said...)
		default:
			said = append(request(proto.Request{Op: proto.OpGet, Get: &proto.Get{Path: []byte(old)}}), said...)
		}
		h := &hostile{Reader: bytes.NewReader(said)}
		new(Server).ServeConn(h)
		if most := len(said) + 2*proto.Window + 4096; h.answered > most {
			t.Fatalf("%d bytes of answer, want at most %d", h.answered, most)
		}
	})
}
