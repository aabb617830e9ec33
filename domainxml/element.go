package domainxml

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"

	"github.com/polyvisor/polyvisor"
)

// Metadata gives what of a Config stands in the element of Namespace, as libvirt's
// virDomainSetMetadata takes it: without a prefix, which libvirt adds itself. It is
// empty if there is nothing to say.
func Metadata(c *polyvisor.Config) (string, error) {
	c = c.Clone()
	devices := metaDevicesOf(c)
	m := metaOf(c, devices, makeHoldable(c), c.RNG != nil && c.RNG.Source == "")
	if m == nil {
		return "", nil
	}
	text, err := xml.Marshal(m)
	if err != nil {
		return "", err
	}
	// encoding/xml writes '<' in texts as a reference, so these are elements.
	plain := strings.NewReplacer("<polyvisor:", "<", "</polyvisor:", "</", ` xmlns:polyvisor="`+Namespace+`"`, "").Replace(string(text))
	return closeEmpty(plain), nil
}

// DeviceXML finds the device of the same kind and DeviceID in the XML of a domain and
// gives its element as it stands there. false: there is none.
func DeviceXML(text string, dev polyvisor.Device) (string, bool, error) {
	begin, end, ok, err := findDevice(text, dev)
	return text[begin:end], ok, err
}

// ReplaceDevice is the XML of a domain with another element in the place of the
// device of the same kind and DeviceID, which keeps its place on its bus. false: there is
// none.
func ReplaceDevice(text string, dev polyvisor.Device, element string) (string, bool, error) {
	begin, end, ok, err := findDevice(text, dev)
	if err != nil || !ok {
		return "", ok, err
	}
	if n, err := readTree(text[begin:end]); err == nil {
		if at := strings.LastIndex(element, "</"); at >= 0 {
			for _, k := range n.all("address") {
				element = element[:at] + k.plain() + element[at:]
			}
		}
	}
	return text[:begin] + element + text[end:], true, nil
}

// plain writes an element without content again.
func (n *node) plain() string {
	var b strings.Builder
	b.WriteString("<" + n.Name.Local)
	for _, a := range n.attrs {
		b.WriteString(" " + a.Name.Local + `="`)
		_ = xml.EscapeText(&b, []byte(a.Value))
		b.WriteString(`"`)
	}
	b.WriteString("/>")
	return b.String()
}

// DeviceIn tells which device of a Config an element describes: one of its kind with its
// DeviceID and nothing else. It is nil for other kinds, and for an element that does not
// say it.
func DeviceIn(element string) polyvisor.Device {
	n, err := readTree(element)
	if err != nil {
		return nil
	}
	id := idOf(element)
	if id == "" {
		return nil
	}
	switch pathName(n.Name) {
	case "disk":
		return &polyvisor.Disk{Target: id}
	case "interface":
		mac, err := polyvisor.ParseMAC(id)
		if err != nil {
			return nil
		}
		return &polyvisor.NIC{MAC: mac}
	case "filesystem":
		return &polyvisor.Share{Tag: id}
	case "rng":
		return &polyvisor.RNG{}
	}
	return nil
}

// findDevice gives the place of a device's element.
func findDevice(text string, dev polyvisor.Device) (from, to int64, ok bool, err error) {
	want := map[string]string{"disk": "disk", "nic": "interface", "share": "filesystem", "rng": "rng"}[kindWord(dev)]
	if len(text) > MaxSize {
		return 0, 0, false, fail(0, "", "%d bytes are too many, at most %d are read", len(text), MaxSize)
	}
	dec := xml.NewDecoder(strings.NewReader(text))
	depth, begin := 0, int64(-1)
	var path [3]string
	for {
		at := dec.InputOffset()
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return 0, 0, false, nil
		}
		if err != nil {
			return 0, 0, false, syntaxError(err, 0)
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			if depth++; depth > maxDepth {
				return 0, 0, false, fail(0, "", "elements are nested deeper than %d", maxDepth)
			}
			if depth <= 3 {
				path[depth-1] = pathName(tok.Name)
			}
			if depth == 3 && path[1] == "devices" && path[2] == want {
				begin = at
			}
		case xml.EndElement:
			if depth == 3 && begin >= 0 {
				if element := text[begin:dec.InputOffset()]; idOf(element) == dev.DeviceID() {
					return begin, dec.InputOffset(), true, nil
				}
				begin = -1
			}
			depth--
		}
	}
}

// idOf gives the DeviceID of a device's element, empty if it has none.
func idOf(element string) string {
	n, err := readTree(element)
	if err != nil {
		return ""
	}
	r := reader{partial: true, loose: true}
	switch pathName(n.Name) {
	case "disk":
		return r.disk(n).DeviceID()
	case "interface":
		if d := r.nic(n); !d.MAC.IsZero() {
			return d.DeviceID()
		}
	case "filesystem":
		return r.share(n).DeviceID()
	case "rng":
		return (&polyvisor.RNG{}).DeviceID()
	}
	return ""
}
