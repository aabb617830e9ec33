//go:build linux

package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// EventType says what happened to a domain.
type EventType string

// The events of the journal.
const (
	EventDefined   EventType = "defined" // also: its definition was replaced
	EventUndefined EventType = "undefined"
	EventRenamed   EventType = "renamed"
	EventLabels    EventType = "labels" // labels or the mark for autostart
	EventMemory    EventType = "memory" // the memory of an inactive domain

	EventStarted   EventType = "started"
	EventSuspended EventType = "suspended"
	EventResumed   EventType = "resumed"
	EventRebooted  EventType = "rebooted"
	EventPreserved EventType = "preserved" // the guest has ended and is kept
	EventStopped   EventType = "stopped"
	// EventDeviceError: what is behind a device of a run failed.
	EventDeviceError EventType = "device-error"

	// EventGap is made by the reader: events before it could not be read.
	EventGap EventType = "gap"
)

// Event is a line of the journal.
type Event struct {
	Type EventType `json:"type"`
	Time time.Time `json:"time"`
	Name string    `json:"name"`
	UUID UUID      `json:"uuid"`
	// Run is the token of the run that a run's event is about.
	Run    string `json:"run,omitempty"`
	Paused bool   `json:"paused,omitempty"` // the vCPUs are stopped after it
	// Stop is how the run ended, of a run's event; of an event about the definition
	// of an inactive domain it says how the last run had ended by then, if there
	// was one.
	Stop *StopRecord `json:"stop,omitempty"`
	// Device and Detail say what failed, and how.
	Device string `json:"device,omitempty"`
	Detail string `json:"detail,omitempty"`
	// End is where the line ends in the journal; set by the reader.
	End int64 `json:"-"`
}

const (
	journalFile = "events"
	maxEvent    = 16 << 10 // bytes of a line, with its newline
	// When a journal is this long, what is older than the last journalKeep bytes
	// is given back to the file system.
	journalMax  = 1 << 20
	journalKeep = 256 << 10
)

func (s *Store) journal() string { return filepath.Join(s.paths.Run, journalFile) }

// announce appends an event to the journal. That an event cannot be told, as on a
// full disk, must not undo what has happened. The store lock is held.
func (s *Store) announce(e Event) {
	if e.Run == "" {
		if alive, err := s.Alive(e.UUID); err == nil && !alive {
			if rec, err := s.StopRecord(e.UUID); err == nil {
				e.Stop = &StopRecord{Run: rec.Run, Reason: rec.Reason, Time: rec.Time, Cleared: rec.Cleared}
			}
		}
	}
	_ = appendEvent(s.journal(), e)
}

// Announce appends an event of this run to the journal.
func (r *Run) Announce(what EventType, paused bool) error {
	return r.announce(Event{Type: what, Paused: paused})
}

// AnnouncePreserved tells that the guest has ended and is kept.
func (r *Run) AnnouncePreserved(stop StopRecord) error {
	return r.announce(Event{Type: EventPreserved, Time: stop.Time, Paused: true, Stop: &stop})
}

// AnnounceDeviceError tells that what is behind a device failed.
func (r *Run) AnnounceDeviceError(device, detail string) error {
	return r.announce(Event{Type: EventDeviceError, Device: device, Detail: detail[:min(len(detail), maxEvent/8)]})
}

func (r *Run) announce(e Event) error {
	e.Name, e.UUID, e.Run = r.Name, r.UUID, r.Token
	return appendEvent(filepath.Join(filepath.Dir(r.Dir), journalFile), e)
}

// appendEvent appends to the journal, which the first reader creates. It needs no
// lock: a write with O_APPEND goes behind all others as one
// piece (write(2), the inode's lock), and the file is never renamed or made
// shorter. Space is given back by punching a hole into its beginning, so offsets
// stay what they are; its size only ever grows, and says nothing about its use.
func appendEvent(path string, e Event) error {
	if e.Time.IsZero() {
		e.Time = time.Now().UTC()
	}
	line, err := json.Marshal(e)
	if err == nil && len(line) >= maxEvent && e.Stop != nil {
		stop := *e.Stop
		stop.Detail, stop.Exits = stop.Detail[:min(len(stop.Detail), maxEvent/8)], nil
		e.Stop = &stop
		line, err = json.Marshal(e)
	}
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nobody has ever subscribed
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(append(line, '\n')); err != nil {
		return err
	}
	trimJournal(f)
	return nil
}

// trimJournal gives back the space of old events. On a file system that cannot
// punch holes the journal keeps growing, by some 200 bytes an event.
func trimJournal(f *os.File) {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil || st.Blocks*512 < journalMax {
		return
	}
	if cut := (st.Size - journalKeep) &^ 4095; cut > 0 {
		_ = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, cut)
	}
}

// Journal reads the events of a store, from the moment on that it is opened.
type Journal struct {
	file   *os.File
	notify *os.File // inotify: the file has become longer
	offset int64
	buf    []byte
	close  func() error
}

// OpenJournal begins to read. The caller closes the Journal.
func (s *Store) OpenJournal() (_ *Journal, err error) {
	path := s.journal()
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	j := &Journal{file: f, buf: make([]byte, 4*maxEvent)}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w; the user may have too many watches (fs.inotify.max_user_instances)", path, os.NewSyscallError("inotify_init1", err))
	}
	if _, err := unix.InotifyAddWatch(fd, path, unix.IN_MODIFY); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("watch %s: %w", path, os.NewSyscallError("inotify_add_watch", err))
	}
	if j.offset, err = f.Seek(0, io.SeekEnd); err != nil {
		unix.Close(fd)
		return nil, err
	}
	j.notify = os.NewFile(uintptr(fd), "inotify")
	j.close = sync.OnceValue(func() error { return errors.Join(j.notify.Close(), j.file.Close()) })
	return j, nil
}

// Size is how long the journal is: events that are appended from now on end
// beyond it.
func (j *Journal) Size() (int64, error) {
	fi, err := j.file.Stat()
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}

// Close ends Next with os.ErrClosed. It may be called more than once.
func (j *Journal) Close() error { return j.close() }

// Next waits for events and gives all that have come, in order. What cannot be
// read any more, because the reader was slower than the writers by a quarter of a
// MiB, or because a writer was killed in the middle of a line, is told as one
// EventGap. One goroutine calls it.
func (j *Journal) Next() ([]Event, error) {
	for {
		events, err := j.read()
		if err != nil || len(events) > 0 {
			return events, err
		}
		// What was written since the read has made the descriptor readable.
		var buf [4096]byte
		if _, err := j.notify.Read(buf[:]); err != nil {
			return nil, err
		}
	}
}

// read gives the complete lines from the offset on.
func (j *Journal) read() ([]Event, error) {
	n, err := j.file.ReadAt(j.buf, j.offset)
	if err != nil && err != io.EOF {
		return nil, err
	}
	b := j.buf[:n]
	if n > 0 && b[0] == 0 {
		return j.skipHole()
	}
	end := bytes.LastIndexByte(b, '\n') + 1
	if end == 0 {
		if n < len(j.buf) {
			return nil, nil // the rest of the line is being written
		}
		j.offset += int64(n) // no line is so long: it is damaged, and so is what follows up to its end
		return j.gap(), nil
	}
	var events []Event
	for line := range bytes.Lines(b[:end]) {
		j.offset += int64(len(line))
		var e Event
		if json.Unmarshal(line, &e) != nil || e.Type == "" {
			e = j.gap()[0]
		}
		e.End = j.offset
		if l := len(events); e.Type == EventGap && l > 0 && events[l-1].Type == EventGap {
			continue
		}
		events = append(events, e)
	}
	return events, nil
}

// skipHole goes to the first line behind what was given back.
func (j *Journal) skipHole() ([]Event, error) {
	data, err := unix.Seek(int(j.file.Fd()), j.offset, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) { // nothing behind it yet
		data, err = j.file.Seek(0, io.SeekEnd)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", j.file.Name(), err)
	}
	j.offset = max(data, j.offset+1)
	// The data begin in the middle of a line.
	for {
		n, err := j.file.ReadAt(j.buf, j.offset)
		if i := bytes.IndexByte(j.buf[:n], '\n'); i >= 0 {
			j.offset += int64(i) + 1
			return j.gap(), nil
		}
		if err != nil || n == 0 {
			return j.gap(), nil
		}
		j.offset += int64(n)
	}
}

func (j *Journal) gap() []Event {
	return []Event{{Type: EventGap, Time: time.Now().UTC(), End: j.offset}}
}
