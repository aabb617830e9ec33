package check

import (
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// ban is a pattern that no text of the repository matches. Patterns are built
// from parts so that this file does not match them itself.
type ban struct {
	pattern *regexp.Regexp
	reason  string
}

func banned(reason string, parts ...string) ban {
	return ban{regexp.MustCompile(strings.Join(parts, "")), reason}
}

var bans = []ban{
	banned("finish it, or leave it out", `\b(TO`, `DO|FIX`, `ME|X`, `XX|HA`, `CK)\b`),
	banned("a path of one machine", `/wo`, `rk/(main|team|shared|wt|\.)`),
	banned("a path of one machine", `/tmp/`, `bash_`, `jobs`),
	banned("where modules come from is the user's setting", `\b(proxy|sum)\.`, `golang\.org\b`),
	banned("where packages come from is the user's setting", `(?i)\b(py`, `pi\.org|registry\.np`, `mjs\.org|crates\.`, `io|art`, `ifactory|jf`, `rog\.|docker`, `\.io|gh`, `cr\.io|qu`, `ay\.io)`),
	banned("the project does not speak of how it is planned", `(?i)\biss`, `ues?\s+#?[0-9]`),
	banned("the project does not speak of how it is planned", `(?i)\b(earlier|previous|next|later|past) se`, `ssions?\b|\b(this|the|my|your) br`, `ief('s)?\b`),
	banned("the project does not speak of who writes it", `(?i)\b(sub-?ag`, `ents?|co-?auth`, `ored-by|cla`, `ude|anth`, `ropic|chat`, `gpt|language mod`, `els?)\b`),
}

// spoken says where a banned phrase means something else.
var spoken = []exception{}

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
		for i, line := range strings.Split(text, "\n") {
			for _, b := range bans {
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
			if b.pattern.MatchString(line) {
				return true
			}
		}
		return false
	}
	for _, line := range []string{
		"// TO" + "DO: later", "x // FIX" + "ME", "see /wo" + "rk/main/conn.go", "GOPROXY=https://proxy." + "golang.org", "as iss" + "ue 2 says", "Iss" + "ue #17",
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

// awaited are files that the documentation may name before they exist.
var awaited = []exception{
	{"docs/vmm-protocol.md", "comes with the protocol's last message"},
	{"docs/cli.md", "comes with the command"},
	{"examples", "come with the driver"},
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
			} else if _, err := os.Stat(filepath.Join(tr.root, target)); err != nil && !excepted(awaited, target) {
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
