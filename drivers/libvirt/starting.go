package libvirt

import (
	"sync"

	"github.com/digitalocean/go-libvirt"
)

// starting are the starts under way in this program. When a domain is destroyed while it
// starts, libvirt says that its process has exited, without a word of why; of destroys of
// this program, on whichever connection, it is known.
var starting struct {
	mu   sync.Mutex
	list map[libvirt.UUID]*starts
}

// starts are those of one domain.
type starts struct {
	n         int
	destroyed bool
}

// beginStart notes a start; the function it gives ends that, and says whether the domain
// was destroyed meanwhile.
func beginStart(id libvirt.UUID) (end func() bool) {
	starting.mu.Lock()
	defer starting.mu.Unlock()
	s := starting.list[id]
	if s == nil {
		s = &starts{}
		if starting.list == nil {
			starting.list = make(map[libvirt.UUID]*starts)
		}
		starting.list[id] = s
	}
	s.n++
	return func() bool {
		starting.mu.Lock()
		defer starting.mu.Unlock()
		if s.n--; s.n == 0 {
			delete(starting.list, id)
		}
		return s.destroyed
	}
}

// noteDestroy notes a destroy for the starts under way.
func noteDestroy(id libvirt.UUID) {
	starting.mu.Lock()
	defer starting.mu.Unlock()
	if s := starting.list[id]; s != nil {
		s.destroyed = true
	}
}
