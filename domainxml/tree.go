package domainxml

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

const (
	maxDepth = 64
	maxItems = 100_000 // elements and attributes of a document
)

// node is an element. What a reader has asked for is marked, so that the rest
// can be told.
type node struct {
	xml.Name
	line   int
	parent *node
	attrs  []attr
	kids   []*node
	text   strings.Builder // of this element alone, without that of its kids

	known, textKnown, skipped bool
}

type attr struct {
	xml.Attr
	known bool
}

// readTree reads a document within bounds. The error is an *Error.
func readTree(text string) (*node, error) {
	if len(text) > MaxSize {
		return nil, fail(0, "", "%d bytes are too many, at most %d are read", len(text), MaxSize)
	}
	dec := xml.NewDecoder(strings.NewReader(strings.TrimPrefix(text, "\ufeff")))
	var root, at *node
	items, depth := 0, 0
	for {
		line, _ := dec.InputPos()
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, syntaxError(err, line)
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			if at == nil && root != nil {
				return nil, fail(line, "", "a second document begins behind the first")
			}
			items += 1 + len(tok.Attr)
			if depth++; depth > maxDepth {
				return nil, fail(line, "", "elements are nested deeper than %d", maxDepth)
			}
			if items > maxItems {
				return nil, fail(line, "", "more than %d elements and attributes", maxItems)
			}
			n := &node{Name: tok.Name, line: line, parent: at}
			if err := n.addAttrs(tok.Attr); err != nil {
				return nil, err
			}
			if at == nil {
				root = n
			} else {
				at.kids = append(at.kids, n)
			}
			at = n
		case xml.EndElement:
			at = at.parent
			depth--
		case xml.CharData:
			if at != nil {
				at.text.Write(tok)
			} else if strings.TrimSpace(string(tok)) != "" {
				return nil, fail(line, "", "text outside of the document's element")
			}
		case xml.Directive:
			return nil, fail(line, "", "document types and entities are not read; leave <!%.20s...> out", tok)
		}
	}
	if root == nil {
		return nil, fail(0, "", "there is no element")
	}
	return root, nil
}

// addAttrs takes the attributes, except declarations of namespaces.
func (n *node) addAttrs(list []xml.Attr) error {
	seen := make(map[xml.Name]bool, len(list))
	for _, a := range list {
		if seen[a.Name] {
			return fail(n.line, "", "element %s has the attribute %s twice", n.Name.Local, a.Name.Local)
		}
		seen[a.Name] = true
		if a.Name.Space != "xmlns" && a.Name != (xml.Name{Local: "xmlns"}) {
			n.attrs = append(n.attrs, attr{Attr: a})
		}
	}
	return nil
}

func syntaxError(err error, line int) error {
	var s *xml.SyntaxError
	if errors.As(err, &s) {
		return fail(s.Line, "", "not well-formed: %s", s.Msg)
	}
	return fail(line, "", "not well-formed: %v", err)
}

// path leads from the root to the element. Elements of which there are several
// have their number.
func (n *node) path() string {
	step := pathName(n.Name)
	if n.parent == nil {
		return step
	}
	same, number := 0, 0
	for _, k := range n.parent.kids {
		if k.Name == n.Name {
			same++
		}
		if k == n {
			number = same
		}
	}
	if same > 1 {
		step = fmt.Sprintf("%s[%d]", step, number)
	}
	return n.parent.path() + "/" + step
}

func pathName(n xml.Name) string {
	switch n.Space {
	case "":
		return n.Local
	case Namespace:
		return "polyvisor:" + n.Local
	}
	return "{" + n.Space + "}" + n.Local
}

// attr gives an attribute and marks it.
func (n *node) attr(name string) (string, bool) { return n.attrOf("", name) }

func (n *node) attrOf(space, name string) (string, bool) {
	for i, a := range n.attrs {
		if a.Name.Space == space && a.Name.Local == name {
			n.attrs[i].known = true
			return a.Value, true
		}
	}
	return "", false
}

// value is the attribute, empty if it is missing.
func (n *node) value(name string) string {
	v, _ := n.attr(name)
	return v
}

// all gives the child elements of a name and marks them.
func (n *node) all(name string) []*node {
	space := ""
	if n.Name.Space == Namespace {
		space = Namespace
	}
	return n.allOf(xml.Name{Space: space, Local: name})
}

func (n *node) allOf(name xml.Name) []*node {
	var list []*node
	for _, k := range n.kids {
		if k.Name == name {
			k.known = true
			list = append(list, k)
		}
	}
	return list
}

// content is the text of the element, as it stands.
func (n *node) content() string {
	n.textKnown = true
	return n.text.String()
}

// skip marks the element with all that is in it.
func (n *node) skip() { n.known, n.skipped = true, true }
