package main

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// goTest returns what go test -json prints of packages of the sample module.
func goTest(t *testing.T, packages ...string) string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"test", "-json", "-vet=off"}, packages...)...)
	cmd.Dir = "testdata/sample"
	out, err := cmd.Output()
	if err != nil {
		require.ErrorAs(t, err, new(*exec.ExitError))
	}
	return string(out)
}

func summarizeString(t *testing.T, in, names string) (string, int) {
	t.Helper()
	var out bytes.Buffer
	code, err := summarize(nil, strings.NewReader(in), &out, names)
	require.NoError(t, err)
	return out.String(), code
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSuffix(s, "\n"), "\n")
	return lines[len(lines)-1]
}

func TestAllIsWell(t *testing.T) {
	out, code := summarizeString(t, goTest(t, "./good"), "")
	require.Zero(t, code, out)
	require.Equal(t, "total: 2 passed, 0 failed, 3 skipped", lastLine(out))
	require.Contains(t, out, "sample/good TestSkip: needs /dev/kvm: none here\n    second line\n")
	require.Contains(t, out, "sample/good TestSub/two: no reason given\n")
	require.NotContains(t, out, "said by a test that passes")
	require.NotContains(t, out, "said before")
}

func TestRequired(t *testing.T) {
	in := goTest(t, "./good")
	out, code := summarizeString(t, in, "libvirt,nested")
	require.Equal(t, 1, code)
	require.Equal(t, "total: 2 passed, 1 failed, 2 skipped", lastLine(out))
	require.Contains(t, out, `sample/good TestNested: skipped for want of "nested"`)

	out, code = summarizeString(t, in, "kvm")
	require.Equal(t, 1, code)
	require.Contains(t, out, `sample/good TestSkip: skipped for want of "kvm"`)

	ran := `{"Action":"run","Package":"sample/good","Test":"TestNested"}
{"Action":"pass","Package":"sample/good","Test":"TestNested"}
{"Action":"pass","Package":"sample/good"}
`
	for _, in := range []string{in + ran, ran + in} {
		out, code = summarizeString(t, in, "nested")
		require.Zero(t, code, out)
		require.Equal(t, "total: 3 passed, 0 failed, 2 skipped", lastLine(out), "a skip elsewhere is no skip")
	}
}

func TestFailures(t *testing.T) {
	for name, c := range map[string]struct {
		total string
		has   []string
		hasNo []string
	}{
		"bad": {
			"total: 3 passed, 2 failed, 0 skipped",
			[]string{"bad_test.go:6: one is wrong", "bad_test.go:12: only the parent is wrong", "--- FAIL: sample/bad TestSub/one\n"},
			[]string{"said by a test that passes", "=== RUN"},
		},
		"broken":   {"total: 0 passed, 1 failed, 0 skipped", []string{"undefined: undefinedName"}, nil},
		"panics":   {"total: 1 passed, 1 failed, 0 skipped", []string{"panic: goodness"}, nil},
		"mainexit": {"total: 1 passed, 1 failed, 0 skipped", []string{"leaked a thing"}, nil},
		"nowhere":  {"total: 0 passed, 1 failed, 0 skipped", []string{"directory not found", "FAIL  ./nowhere"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			out, code := summarizeString(t, goTest(t, "./"+name), "")
			require.Equal(t, 1, code, out)
			require.Equal(t, c.total, lastLine(out), out)
			for _, s := range c.has {
				require.Contains(t, out, s)
			}
			for _, s := range c.hasNo {
				require.NotContains(t, out, s)
			}
		})
	}
}

func TestInput(t *testing.T) {
	for name, c := range map[string]struct {
		in    string
		total string
		has   string
	}{
		"nothing":   {"", "total: 0 passed, 0 failed, 0 skipped", "no test events"},
		"no events": {"go: cannot find main module\n", "total: 0 passed, 0 failed, 0 skipped", "go: cannot find main module\n"},
		"cut in a test": {
			`{"Action":"run","Package":"p","Test":"TestX"}` + "\n" + `{"Action":"output","Package":"p","Test":"TestX","Output":"last words\n"}`,
			"total: 0 passed, 1 failed, 0 skipped", "last words",
		},
		"cut in a package": {
			`{"Action":"run","Package":"p","Test":"TestX"}` + "\n" + `{"Action":"pass","Package":"p","Test":"TestX"}` + "\n",
			"total: 1 passed, 1 failed, 0 skipped", "the input ended before this package did",
		},
		"repeated": {
			strings.Repeat(`{"Action":"run","Package":"p","Test":"TestX"}`+"\n"+`{"Action":"pass","Package":"p","Test":"TestX"}`+"\n", 3) +
				`{"Action":"fail","Package":"p"}`,
			"total: 3 passed, 1 failed, 0 skipped", "FAIL  p",
		},
	} {
		t.Run(name, func(t *testing.T) {
			out, code := summarizeString(t, c.in, "")
			require.Equal(t, 1, code)
			require.Equal(t, c.total, lastLine(out))
			require.Contains(t, out, c.has)
		})
	}
}

func TestMuchOutputIsCut(t *testing.T) {
	var in strings.Builder
	enc := json.NewEncoder(&in)
	require.NoError(t, enc.Encode(event{Action: "run", Package: "p", Test: "TestX"}))
	for range 40 {
		require.NoError(t, enc.Encode(event{Action: "output", Package: "p", Test: "TestX", Output: strings.Repeat("x", 100_000) + "\n"}))
	}
	require.NoError(t, enc.Encode(event{Action: "output", Package: "p", Test: "TestX", Output: "the end\n"}))
	require.NoError(t, enc.Encode(event{Action: fail, Package: "p", Test: "TestX"}))
	require.NoError(t, enc.Encode(event{Action: fail, Package: "p"}))
	out, code := summarizeString(t, in.String(), "")
	require.Equal(t, 1, code)
	require.Less(t, len(out), maxOutput+1000)
	require.Contains(t, out, "the end\n")
	require.Contains(t, out, "the beginning of the output is left out")
}

func TestMissingFile(t *testing.T) {
	var out bytes.Buffer
	code, err := summarize([]string{"testdata/none"}, nil, &out, "")
	require.Equal(t, 2, code)
	require.ErrorContains(t, err, "testdata/none")
}

func TestDefaultRequire(t *testing.T) {
	for _, c := range []struct{ require, ci, want string }{
		{"", "", ""}, {"", "true", "nested,libvirt"}, {"kvm", "true", "kvm"}, {"kvm,libvirt", "", "kvm,libvirt"},
	} {
		env := map[string]string{"POLYVISOR_REQUIRE": c.require, "CI": c.ci}
		require.Equal(t, c.want, defaultRequire(func(n string) string { return env[n] }), "%+v", c)
	}
}

func TestRequiredBy(t *testing.T) {
	for reason, want := range map[string]string{
		"needs the nested machine: x": "nested", "needs libvirt": "libvirt", "needs libvirtd to run": "",
		"needs /dev/kvm": "", "wants nested": "", "": "",
	} {
		require.Equal(t, want, requiredBy(reason, []string{"nested", "libvirt"}), reason)
	}
}

func FuzzTally(f *testing.F) {
	f.Add([]byte(`{"Action":"run","Package":"p","Test":"TestX"}` + "\n" + `{"Action":"skip","Package":"p"}`))
	f.Add([]byte(`{"Action":"build-fail"}{`))
	f.Fuzz(func(t *testing.T, in []byte) {
		var out bytes.Buffer
		code, err := summarize(nil, bytes.NewReader(in), &out, "nested")
		if err != nil || code != 0 && code != 1 {
			t.Fatalf("code %d, %v", code, err)
		}
		if !strings.HasPrefix(lastLine(out.String()), "total: ") {
			t.Fatalf("last line of %q", out.String())
		}
	})
}

// What was tried again is listed, whoever tried it, also after the end of its package.
func TestAgain(t *testing.T) {
	in := `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:1: AGAIN (1 of at most 2): the emulator lost the guest\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p"}
{"Action":"output","Package":"p","Output":"nestedtest: AGAIN in another machine: TestB, which failed as shown above\n"}
{"Action":"run","Package":"p","Test":"TestB"}
{"Action":"pass","Package":"p","Test":"TestB"}
{"Action":"pass","Package":"p"}
`
	out, code := summarizeString(t, in, "")
	require.Zero(t, code, out)
	require.Contains(t, out, "tried again, 2:\n  p TestA: a_test.go:1: AGAIN (1 of at most 2): the emulator lost the guest\n"+
		"  p: nestedtest: AGAIN in another machine: TestB, which failed as shown above\n")
	require.Equal(t, "total: 2 passed, 0 failed, 0 skipped", lastLine(out))
}
