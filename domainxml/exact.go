package domainxml

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/polyvisor/polyvisor"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// holdable reports whether XML can hold the text, by the Char production of XML
// 1.0, and on the way through libvirt, which writes a carriage return as it is, so
// that it is read as the end of a line.
func holdable(s string) bool { return utf8.ValidString(s) && !strings.ContainsFunc(s, unholdable) }

func unholdable(r rune) bool {
	return r < ' ' && r != '\t' && r != '\n' || r == 0xfffe || r == 0xffff
}

// substitute is the text with U+FFFD for what XML cannot hold.
func substitute(s string) string {
	return strings.Map(func(r rune) rune {
		if unholdable(r) {
			return utf8.RuneError
		}
		return r
	}, s)
}

// textRef is a text of a Config.
type textRef struct {
	get func() string
	set func(string)
}

// textsOf gives the texts of a Config that may have any character, by field.
func textsOf(c *polyvisor.Config) map[string]textRef {
	texts := make(map[string]textRef)
	ref := func(field string, p *string) {
		texts[field] = textRef{func() string { return *p }, func(s string) { *p = s }}
	}
	ref("name", &c.Name)
	ref("title", &c.Title)
	ref("boot.cmdline", &c.Boot.CommandLine)
	ref("console.log", &c.Console.Log)
	for _, f := range c.Files() {
		ref(f.Field, &f.File.Path)
	}
	for i := range c.NICs {
		ref(fmt.Sprintf("nics[%d].source", i), &c.NICs[i].Source)
	}
	for i := range c.Shares {
		ref(fmt.Sprintf("shares[%d].tag", i), &c.Shares[i].Tag)
		ref(fmt.Sprintf("shares[%d].source", i), &c.Shares[i].Source)
	}
	if c.RNG != nil {
		ref("rng.source", &c.RNG.Source)
	}
	for k := range c.Labels {
		texts["labels."+k] = textRef{func() string { return c.Labels[k] }, func(s string) { c.Labels[k] = s }}
	}
	return texts
}

// makeHoldable puts substitutes in the place of texts that XML cannot hold and
// gives those in a form that it can.
func makeHoldable(c *polyvisor.Config) []metaExact {
	texts := textsOf(c)
	var exact []metaExact
	for _, field := range sortedKeys(texts) {
		t := texts[field]
		if s := t.get(); !holdable(s) {
			exact = append(exact, metaExact{field, base64.StdEncoding.EncodeToString([]byte(s))})
			t.set(substitute(s))
		}
	}
	return exact
}
