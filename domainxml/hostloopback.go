package domainxml

import (
	"fmt"
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
