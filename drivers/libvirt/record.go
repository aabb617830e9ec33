package libvirt

import (
	"runtime"
	"sync"
	"weak"

	"github.com/digitalocean/go-libvirt"

	"github.com/polyvisor/polyvisor"
)

// record is what a connection knows of a domain from events. All instances of a
// domain have the same one, also those that outlive the domain; it lives as long as
// they do.
//
// libvirt sends the events of what a call did, and of what others did before it,
// ahead of the reply of any later call on the connection. So who makes a call first
// and looks at the record then misses nothing that happened before the call.
type record struct {
	mu      sync.Mutex    // guards the following
	changed chan struct{} // nil while nobody waits
	// known says that id and persistent are as the daemon has them.
	known      bool
	id         int
	persistent bool
	// ran says that the domain was seen active, and stop how its last run ended, if
	// it ended before our eyes.
	ran  bool
	stop *polyvisor.Stop
	// cleared says that the crash that libvirt tells of was acknowledged.
	cleared bool
	// ballooning is what the guest's memory was set to until it has got there.
	ballooning uint64
	// silent is how many changes of the metadata are to come that are none of labels.
	silent int
	// printed is the end of what consoles of this connection have read of a run.
	printed    []byte
	printedRun int
}

// records are those of the domains that someone has an instance of, by UUID.
type records struct {
	mu   sync.Mutex
	list map[libvirt.UUID]weak.Pointer[record]
	// seen counts the lifecycle events, so that an answer that was under way while
	// one came is not taken for newer than it.
	seen uint64
}

// of gives the record of a domain, a new one if there is none.
func (r *records) of(id libvirt.UUID) *record {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rec := r.list[id].Value(); rec != nil {
		return rec
	}
	rec := &record{}
	if r.list == nil {
		r.list = make(map[libvirt.UUID]weak.Pointer[record])
	}
	r.list[id] = weak.Make(rec)
	runtime.AddCleanup(rec, r.forget, id)
	return rec
}

// forget takes a record that nobody has any more out of the list.
func (r *records) forget(id libvirt.UUID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p, ok := r.list[id]; ok && p.Value() == nil {
		delete(r.list, id)
	}
}

// count is to be called before a call whose answer learn is given.
func (r *records) count() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen
}

// learn notes what a call told, unless an event came meanwhile.
func (r *records) learn(rec *record, before uint64, id int, persistent bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen != before {
		return
	}
	rec.mu.Lock()
	rec.known, rec.id, rec.persistent = true, id, persistent
	rec.ran = rec.ran || id > 0
	rec.mu.Unlock()
}

// doubt says that events were missed: nothing that was known counts any more.
func (r *records) doubt() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen++
	for _, p := range r.list {
		rec := p.Value()
		if rec == nil {
			continue
		}
		rec.mu.Lock()
		rec.known = false
		rec.tellLocked()
		rec.mu.Unlock()
	}
}

// note applies a lifecycle event. It says whether the domain was active before.
func (r *records) note(d *libvirt.Domain, event libvirt.DomainEventType, detail int32) (ran bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen++
	rec := r.list[d.UUID].Value()
	if rec == nil {
		return false
	}
	rec.mu.Lock()
	defer rec.mu.Unlock()
	ran = rec.ran && rec.stop == nil
	switch event {
	case libvirt.DomainEventStarted:
		rec.ran, rec.stop, rec.cleared, rec.ballooning = true, nil, false, 0
		rec.id = int(d.ID)
		rec.known = rec.known && d.ID > 0
	case libvirt.DomainEventStopped:
		stop := eventStop(detail, ran)
		rec.stop, rec.id, rec.ballooning = &stop, -1, 0
	case libvirt.DomainEventDefined:
		rec.persistent = true
	case libvirt.DomainEventUndefined:
		rec.persistent = false
	}
	rec.tellLocked()
	return ran
}

// tellLocked wakes who waits for a change.
func (r *record) tellLocked() {
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}

// watch gives what is closed at the next change.
func (r *record) watch() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.changed == nil {
		r.changed = make(chan struct{})
	}
	return r.changed
}

// figures tells ID and persistence, if they are known.
func (r *record) figures() (id int, persistent, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.id, r.persistent, r.known
}

// ended tells how the last run ended, if it was seen, and whether there was one.
func (r *record) ended() (stop *polyvisor.Stop, ran bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stop, r.ran
}

// isCleared says whether the last crash was acknowledged.
func (r *record) isCleared() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cleared
}

// clear acknowledges the last crash.
func (r *record) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cleared = true
	r.tellLocked()
}

// balloon notes that the guest's memory is to become kib.
func (r *record) balloon(kib uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ballooning = kib
}

// ballooned says whether a change of the guest's memory was told already: it is a
// step of one that was asked for here.
func (r *record) ballooned(kib uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ballooning == 0 {
		return false
	}
	if r.ballooning == kib {
		r.ballooning = 0
	}
	return true
}

// maxReplay is how much of what was printed is replayed to who opens a console.
const maxReplay = 64 << 10

// keep notes what a console has read of a run.
func (r *record) keep(run int, p []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.printedRun != run {
		r.printed, r.printedRun = nil, run
	}
	r.printed = append(r.printed, p...)
	if over := len(r.printed) - maxReplay; over > maxReplay { // not at every byte
		r.printed = append([]byte(nil), r.printed[over:]...)
	}
}

// kept gives what consoles have read of a run before.
func (r *record) kept(run int) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.printedRun != run {
		return nil
	}
	return append([]byte(nil), r.printed[max(0, len(r.printed)-maxReplay):]...)
}

// quiet announces a change of the metadata that is none of labels.
func (r *record) quiet() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.silent++
}

// silenced says whether a change of the metadata was announced as none of labels.
func (r *record) silenced() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.silent == 0 {
		return false
	}
	r.silent--
	return true
}
