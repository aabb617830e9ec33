package polyvisor_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
)

func TestInfo(t *testing.T) {
	info := polyvisor.Info{State: polyvisor.Running, ID: 3, Memory: 512 * polyvisor.MiB, VCPUs: 2, CPUTime: 1234567 * time.Microsecond}
	assert.Equal(t, "running, 2 vCPUs, 512MiB, CPU time 1.235s", info.String())
	data, err := json.Marshal(info)
	require.NoError(t, err)
	assert.JSONEq(t, `{"state":"running","id":3,"persistent":false,"max_memory":0,"memory":536870912,"vcpus":2,"cpu_time_ns":1234567000}`, string(data))
	info.LastStop = &polyvisor.Stop{Reason: polyvisor.StopCrash, Detail: "triple fault", Time: time.Unix(0, 0).UTC()}
	data, err = json.Marshal(info)
	require.NoError(t, err)
	assert.Contains(t, string(data), `"last_stop":{"reason":"crash","detail":"triple fault","time":"1970-01-01T00:00:00Z"}`)
	var back polyvisor.Info
	require.NoError(t, json.Unmarshal(data, &back))
	assert.Equal(t, info, back)
}

func TestMaxCPUs(t *testing.T) {
	n := polyvisor.Node{CPUs: 7, NUMANodes: 2, Sockets: 1, Cores: 4, Threads: 2}
	assert.Equal(t, 16, n.MaxCPUs(), "active or not")
}

func TestVersionNumber(t *testing.T) {
	assert.Equal(t, uint64(11_010_002), polyvisor.VersionNumber(11, 10, 2))
}

func TestVersionNumbers(t *testing.T) {
	for _, tt := range []struct {
		text string
		want uint64
	}{
		{"KVM API 12, Linux 6.1.0-56-cloud-amd64", 6_001_000}, {"fake 1.2", 1_002_000}, {"libvirt 11.10.2, QEMU 10.0.3", 11_010_002},
		{"", 0}, {"twelve", 0}, {"12", 0}, {"1.2000.3", 0}, {"99999999999999999999.1.1", 0}, {"v1.2.3", 1_002_003}, {"(1.2.3)", 1_002_003},
	} {
		_, n := polyvisor.Version{Hypervisor: tt.text}.Numbers()
		assert.Equal(t, tt.want, n, "%q", tt.text)
	}
	library, _ := polyvisor.Version{Library: polyvisor.LibraryVersion}.Numbers()
	assert.NotZero(t, library)
}

// Features lists every constant of its type, once.
func TestFeatures(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "feature.go", nil, 0)
	require.NoError(t, err)
	var want []polyvisor.Feature
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if ok && len(spec.Values) == 1 {
			word, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			require.NoError(t, err)
			assert.Regexp(t, `^[a-z]+(-[a-z]+)*$`, word)
			want = append(want, polyvisor.Feature(word))
		}
		return !ok
	})
	assert.NotEmpty(t, want)
	assert.Equal(t, want, polyvisor.Features())
}
