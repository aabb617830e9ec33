package check

import (
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// ban is a pattern that no text of the repository matches. Patterns and words
// are built from parts so that this file does not match them itself.
type ban struct {
	reason string
	// words are in lower case; a text without any of them cannot match, which
	// is quickly seen.
	words   []string
	pattern *regexp.Regexp
}

func (b *ban) find(text, lower string) []int {
	if !slices.ContainsFunc(b.words, func(w string) bool { return strings.Contains(lower, w) }) {
		return nil
	}
	return b.pattern.FindStringIndex(text)
}

var bans = []ban{
	{"finish it, or leave it out", []string{"to" + "do", "fix" + "me", "xx" + "x", "ha" + "ck"},
		regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|X` + `XX|HA` + `CK)\b`)},
	{"a path of one machine", []string{"/wo" + "rk/"}, regexp.MustCompile(`/wo` + `rk/(main|team|shared|wt|\.)`)},
	{"a path of one machine", []string{"bash_" + "jobs"}, regexp.MustCompile(`bash_` + `jobs`)},
	{"where modules and packages come from is the user's setting",
		[]string{".golang" + ".org", "py" + "pi.org", "npm" + "js.org", "crates" + ".io", "docker" + ".io", "gh" + "cr.io", "quay" + ".io", "arti" + "factory", "jfr" + "og."},
		regexp.MustCompile(`(?i)\b((proxy|sum)\.golang` + `\.org|py` + `pi\.org|registry\.npm` + `js\.org|crates` + `\.io|docker` + `\.io|gh` + `cr\.io|quay` + `\.io|arti` + `factory|jfr` + `og\.)\b`)},
	{"the project does not speak of how it is planned", []string{"iss" + "ue"}, regexp.MustCompile(`(?i)\biss` + `ues?\s+#?[0-9]`)},
	{"the project does not speak of how it is planned", []string{"se" + "ssion", "br" + "ief"},
		regexp.MustCompile(`(?i)\b(earlier|previous|next|later|past) se` + `ssions?\b|\b(this|the|my|your) br` + `ief('s)?\b`)},
	{"the project does not speak of who writes it",
		[]string{"sub" + "agent", "sub-" + "agent", "co-" + "authored", "cla" + "ude", "anth" + "ropic", "chat" + "gpt", "language " + "model"},
		regexp.MustCompile(`(?i)\b(sub-?` + `agents?|co-` + `authored-by|cla` + `ude|anth` + `ropic|chat` + `gpt|language ` + `models?)\b`)},
}

// spoken says where a banned phrase means something else.
var spoken = []exception{
	{"internal/nestedvm/session_test.go: " + "XX" + "X", "a stand-in of the length of GNU, in the bytes of a tar header"},
}

func TestBannedText(t *testing.T) {
	tr := load(t)
	for _, name := range tr.names {
		if path.Base(name) == "go.sum" {
			continue
		}
		text, ok := tr.text(t, name)
		if !ok {
			continue
		}
		lower := strings.ToLower(text)
		for _, b := range bans {
			if b.find(text, lower) == nil {
				continue
			}
			for i, line := range strings.Split(text, "\n") {
				if found := b.pattern.FindString(line); found != "" && !excepted(spoken, name+": "+found) {
					t.Errorf("%s:%d: %q: %s (or give the reason in `spoken` in internal/check/text_test.go)", name, i+1, found, b.reason)
				}
			}
		}
	}
}

// The patterns match what they are for, and not what looks like it.
func TestBans(t *testing.T) {
	match := func(line string) bool {
		for _, b := range bans {
			if b.find(line, strings.ToLower(line)) != nil {
				return true
			}
		}
		return false
	}
	for _, line := range []string{
		"// TO" + "DO: later", "x // FIX" + "ME", "see /wo" + "rk/main/conn.go", "GOPROXY=https://proxy." + "golang.org", "as iss" + "ue 2 says", "Iss" + "ue #17",
		"a HA" + "CK", "/tmp/" + "bash_" + "jobs/1", "https://quay" + ".io/x", "an XX" + "X here", "by Cla" + "ude",
		"found in an earlier se" + "ssion", "the br" + "ief says", "Co-auth" + "ored-by: x", "https://py" + "pi.org/simple", "docker" + ".io/library/debian",
	} {
		if !match(line) {
			t.Errorf("%q is not found", line)
		}
	}
	for _, line := range []string{
		"kvm:///session", "the guest agent", "mktemp /tmp/x.XXXXXX", "a work/main directory", "pkg.go.dev/github.com/polyvisor/polyvisor", "golang.org/x/sys",
		"a brief pause", "in its own session", "todos are not here", "issues a reset", "a helper process runs the network",
	} {
		if match(line) {
			t.Errorf("%q is found", line)
		}
	}
}

var (
	markdownLink = regexp.MustCompile(`\]\(([^()\s]+)(?:\s+"[^"]*")?\)|^\[[^\]]+\]:\s+(\S+)`)
	fenced       = regexp.MustCompile("(?ms)^```.*?^```")
	codeSpan     = regexp.MustCompile("`[^`\n]*`")
)

func links(markdown string) []string {
	markdown = codeSpan.ReplaceAllString(fenced.ReplaceAllString(markdown, ""), "")
	var found []string
	for _, line := range strings.Split(markdown, "\n") {
		for _, m := range markdownLink.FindAllStringSubmatch(line, -1) {
			found = append(found, m[1]+m[2])
		}
	}
	return found
}

func TestLinksPointSomewhere(t *testing.T) {
	tr := load(t)
	for _, name := range tr.names {
		if path.Ext(name) != ".md" {
			continue
		}
		text, _ := tr.text(t, name)
		for _, link := range links(text) {
			u, err := url.Parse(link)
			if err != nil {
				t.Errorf("%s: link %q: %v", name, link, err)
				continue
			}
			if u.IsAbs() || u.Path == "" { // another site, or a heading of this file
				continue
			}
			target := path.Join(path.Dir(name), u.Path)
			if strings.HasPrefix(u.Path, "/") {
				target = strings.TrimPrefix(u.Path, "/")
			}
			if target == ".." || strings.HasPrefix(target, "../") {
				t.Errorf("%s: link %q leaves the repository", name, link)
			} else if _, err := os.Stat(filepath.Join(tr.root, target)); err != nil {
				t.Errorf("%s: link %q: there is no %s", name, link, target)
			}
		}
	}
}

func TestLinks(t *testing.T) {
	got := strings.Join(links("a [b](c.md) [d](e#f \"title\")\n[ref]: g.md\n```\n[no](x)\n```\n`[no](y)` ![i](z.png)\n"), " ")
	if got != "c.md e#f g.md z.png" {
		t.Errorf("found %q", got)
	}
}
