package domainxml

import (
	"fmt"
	"math"
	"strings"

	"github.com/polyvisor/polyvisor"
)

// yes is the one value of an attribute that libvirt has no word for: what is not so is
// not written.
const yes = "yes"

// ownAttributes are the attributes of Namespace that a device by itself has, which has no
// metadata, in the form of text; empty for most. libvirtxml has no place for them.
func ownAttributes(dev polyvisor.Device) string {
	var b strings.Builder
	if mode := unsaidMode(dev); mode != polyvisor.DeviceDefault {
		fmt.Fprintf(&b, ` polyvisor:mode="%s"`, mode)
	}
	if n, ok := dev.(*polyvisor.NIC); ok && n.HostLoopback {
		fmt.Fprintf(&b, ` polyvisor:hostLoopback="%s"`, yes)
	}
	if b.Len() == 0 {
		return ""
	}
	return fmt.Sprintf(` xmlns:polyvisor="%s"`, Namespace) + b.String()
}

// hostLoopback reads the attribute of an interface.
func (r *reader) hostLoopback(n *node) bool {
	text, ok := n.attrOf(Namespace, "hostLoopback")
	if ok && text != yes {
		r.add(n, "/@polyvisor:hostLoopback", "%q %s; %s is", text, notSupported, yes)
	}
	return ok
}

// metaNICs reads what the metadata say of interfaces.
func (r *reader) metaNICs(m *node, c *polyvisor.Config) {
	given := make(map[uint64]bool)
	for _, n := range m.all("interface") {
		i := r.attrNumber(n, "number", math.MaxInt32)
		_, queues := n.attr("queues")
		_, loopback := n.attr("hostLoopback")
		if !queues {
			r.demand(n, "hostLoopback")
		}
		r.only(n, "hostLoopback", yes)
		r.only(n, "queues", "1")
		switch {
		case i >= uint64(len(c.NICs)):
			r.add(n, "/@number", "there is no interface %d; they are counted from 0", i)
			continue
		case given[i]:
			r.add(n, "/@number", "interface %d was given before", i)
		case loopback && c.NICs[i].Network != polyvisor.NetworkUser:
			r.add(n, "/@hostLoopback", "interface %d is not of type user, whose guests alone reach the host's loopback", i)
		case queues && c.NICs[i].Queues > 1:
			r.add(n, "/@queues", "interface %d has %d queues", i, c.NICs[i].Queues)
		}
		given[i] = true
		c.NICs[i].HostLoopback = c.NICs[i].HostLoopback || loopback
		if queues {
			c.NICs[i].Queues = 1
		}
	}
}
