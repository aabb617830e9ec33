package domainxml

import (
	"encoding/xml"

	"github.com/polyvisor/polyvisor"
)

// ParseLoose reads of a domain what a Config can say, for a program that looks at
// a domain of somebody else, or of a hypervisor that adds to what it was given.
// The rest is told and left out: devices without what a Config needs of them, such
// as a drive without medium or a disk on the network, elements and attributes. The
// error, an *Error, is for text that is no domain at all.
//
// Format of the Config does not make the same domain again.
func ParseLoose(text string) (c *polyvisor.Config, leftOut []Problem, err error) {
	root, err := readTree(text)
	if err != nil {
		return nil, nil, err
	}
	if root.Name != (xml.Name{Local: "domain"}) {
		return nil, nil, fail(root.line, pathName(root.Name), "the document is not a domain")
	}
	r := reader{loose: true}
	c = r.domain(root)
	_ = r.result(root)
	return c, r.err.Problems, nil
}

// Aliases gives the names by which the hypervisor knows the devices of a running
// domain, with the DeviceIDs by which a Config does. Devices that have none of the
// two are left out.
func Aliases(text string) (map[string]string, error) {
	root, err := readTree(text)
	if err != nil {
		return nil, err
	}
	aliases := make(map[string]string)
	r := reader{loose: true, partial: true}
	for _, list := range root.all("devices") {
		for _, n := range list.kids {
			var id string
			switch pathName(n.Name) {
			case "disk":
				id = r.disk(n).DeviceID()
			case "interface":
				if d := r.nic(n); !d.MAC.IsZero() {
					id = d.DeviceID()
				}
			case "filesystem":
				id = r.share(n).DeviceID()
			case "rng":
				id = (&polyvisor.RNG{}).DeviceID()
			}
			if a := r.one(n, "alias"); a != nil && id != "" && a.value("name") != "" {
				aliases[a.value("name")] = id
			}
		}
	}
	return aliases, nil
}

// keeps reports whether a device goes into the Config: always, unless the reading
// is loose, where it must be whole. One that is left out is told once.
func (r *reader) keeps(n *node, whole bool) bool {
	if !r.loose || whole {
		return true
	}
	r.add(n, "", "%s", notSupported)
	n.skip()
	return false
}
