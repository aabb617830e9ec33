package polyvisor_test

import (
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/hashicorp/go-multierror"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
)

func fullConfig() *polyvisor.Config {
	return &polyvisor.Config{
		Name: "web", UUID: uuid.MustParse("1b4e28ba-2fa1-11d2-883f-0016d3cca427"), Title: "the web server",
		Memory: 512 * polyvisor.MiB, MaxMemory: polyvisor.GiB, VCPUs: 2, MaxVCPUs: 4,
		Boot:    polyvisor.Boot{Kernel: polyvisor.Path("/boot/vmlinuz"), Initrd: polyvisor.Path("/boot/initrd.img"), CommandLine: "console=ttyS0"},
		Console: polyvisor.ConsoleConfig{Log: "/var/log/web"},

		OnPoweroff: polyvisor.ActionRestart, OnReboot: polyvisor.ActionDestroy, OnCrash: polyvisor.ActionRestart,
	}
}

func TestConfigJSON(t *testing.T) {
	data, err := json.Marshal(fullConfig())
	require.NoError(t, err)
	assert.JSONEq(t, `{
		"name": "web", "uuid": "1b4e28ba-2fa1-11d2-883f-0016d3cca427", "title": "the web server",
		"memory": 536870912, "max_memory": 1073741824, "vcpus": 2, "max_vcpus": 4,
		"boot": {"kernel": "/boot/vmlinuz", "initrd": "/boot/initrd.img", "cmdline": "console=ttyS0"},
		"console": {"log": "/var/log/web"},
		"on_poweroff": "restart", "on_reboot": "destroy", "on_crash": "restart"
	}`, string(data))
	back, err := polyvisor.ParseConfig(data)
	require.NoError(t, err)
	assert.Equal(t, fullConfig(), back)

	data, err = json.Marshal(&polyvisor.Config{Name: "web"})
	require.NoError(t, err)
	assert.JSONEq(t, `{"name": "web"}`, string(data), "what is zero is left out")
	back, err = polyvisor.ParseConfig([]byte(`{"name": "web", "memory": "1GiB"}`))
	require.NoError(t, err)
	assert.Equal(t, &polyvisor.Config{Name: "web", Memory: polyvisor.GiB}, back)
}

func TestParseConfigErrors(t *testing.T) {
	for in, want := range map[string]string{
		"":                                "it is empty",
		" \n":                             "it is empty",
		"null":                            "want a JSON object",
		"[]":                              "cannot unmarshal array",
		`"web"`:                           "cannot unmarshal string",
		`{"name": "web"`:                  "unexpected EOF",
		`{"name": "web"} {}`:              "more data after the JSON object",
		`{"name": "web"}}`:                "more data after the JSON object",
		`{"name": "web", "memroy": 1}`:    `unknown field "memroy"`,
		`{"name": 7}`:                     "cannot unmarshal number",
		`{"name": "web", "memory": -1}`:   "want a whole number of bytes",
		`{"name": "web", "memory": "1X"}`: `size "1X"`,
		`{"name": "web", "vcpus": 1.5}`:   "cannot unmarshal number",
		`{"name": "web", "uuid": "x"}`:    "invalid UUID",
		`{"boot": {"kernel": {}}}`:        "cannot unmarshal object",
		`{"boot": {"kernal": "x"}}`:       `unknown field "kernal"`,
	} {
		t.Run(in, func(t *testing.T) {
			c, err := polyvisor.ParseConfig([]byte(in))
			require.ErrorIs(t, err, polyvisor.ErrInvalidConfig)
			assert.ErrorContains(t, err, want)
			assert.Nil(t, c)
		})
	}
}

func TestOpenFileHasNoJSON(t *testing.T) {
	c := &polyvisor.Config{Name: "web", Boot: polyvisor.Boot{Kernel: polyvisor.OpenFile(os.Stdin)}}
	_, err := json.Marshal(c)
	require.ErrorContains(t, err, "open file /dev/stdin has no JSON form; give its path")
	assert.Equal(t, "/dev/stdin", c.Boot.Kernel.String())
	assert.Equal(t, "/x", polyvisor.Path("/x").String())
}

func TestWithDefaults(t *testing.T) {
	var empty polyvisor.Config
	a, b := empty.WithDefaults(), empty.WithDefaults()
	assert.Equal(t, polyvisor.DefaultMemory, a.Memory)
	assert.Equal(t, polyvisor.DefaultVCPUs, a.VCPUs)
	assert.NotEqual(t, a.UUID, b.UUID)
	assert.Equal(t, polyvisor.Config{}, empty)
	assert.Equal(t, a, a.WithDefaults(), "a second time changes nothing")
	assert.Equal(t, fullConfig(), fullConfig().WithDefaults(), "what is set stays")
}

func TestValidate(t *testing.T) {
	valid := func(change func(*polyvisor.Config)) polyvisor.Config {
		c := fullConfig()
		change(c)
		return *c
	}
	for _, tt := range []struct {
		name   string
		config polyvisor.Config
		want   []string // all problems; none: valid
	}{
		{"full", *fullConfig(), nil},
		{"only a name", polyvisor.Config{Name: "web"}, nil},
		{"longest name", polyvisor.Config{Name: strings.Repeat("n", 255)}, nil},
		{"any script", polyvisor.Config{Name: "Рэмо ☃ .x -", Title: "任意"}, nil},
		{"longest title", polyvisor.Config{Name: "a", Title: strings.Repeat("t", 255)}, nil},
		{"empty", polyvisor.Config{}, []string{"name: empty: every domain needs a name"}},
		{"long name", polyvisor.Config{Name: strings.Repeat("n", 256)}, []string{"name: 256 bytes long, at most 255 are allowed"}},
		{"dot", polyvisor.Config{Name: "."}, []string{`name: "." is reserved`}},
		{"dots", polyvisor.Config{Name: ".."}, []string{`name: ".." is reserved`}},
		{"slash", polyvisor.Config{Name: "../x"}, []string{`name: "../x" contains a slash`}},
		{"NUL", polyvisor.Config{Name: "a\x00"}, []string{`name: "a\x00" contains a control character`}},
		{"escape", polyvisor.Config{Name: "a\x1b[2J"}, []string{"contains a control character"}},
		{"C1", polyvisor.Config{Name: "a\u009b"}, []string{"contains a control character"}},
		{"not UTF-8", polyvisor.Config{Name: "a\xff"}, []string{`name: "a\xff" is not UTF-8`}},
		{"long title", polyvisor.Config{Name: "a", Title: strings.Repeat("t", 256)}, []string{"title: want one line"}},
		{"two lines", polyvisor.Config{Name: "a", Title: "a\nb"}, []string{"title: want one line"}},
		{"odd memory", polyvisor.Config{Name: "a", Memory: 4097}, []string{"memory: 4097B is not a multiple of 4KiB"}},
		{"negative", polyvisor.Config{Name: "a", VCPUs: -3}, []string{"vcpus: -3 is negative"}},
		{"initrd alone", valid(func(c *polyvisor.Config) { c.Boot.Kernel = polyvisor.File{} }), []string{"boot.initrd: needs boot.kernel"}},
		{"path and file", valid(func(c *polyvisor.Config) { c.Boot.Kernel.Open = os.Stdin }), []string{"boot.kernel: both a path and an open file"}},
		{"NUL in paths", valid(func(c *polyvisor.Config) {
			c.Boot = polyvisor.Boot{Kernel: polyvisor.Path("a\x00"), Initrd: polyvisor.Path("b\x00"), CommandLine: "c\x00"}
			c.Console.Log = "d\x00"
		}), []string{"boot.kernel: the path contains a NUL", "boot.initrd: the path contains a NUL", "boot.cmdline: contains a NUL", "console.log: the path contains a NUL"}},
		// What JSON cannot carry would come back as another path.
		{"paths not UTF-8", valid(func(c *polyvisor.Config) {
			c.Boot = polyvisor.Boot{Kernel: polyvisor.Path("a\xff"), Initrd: polyvisor.Path("b\xff"), CommandLine: "c\xff"}
			c.Console.Log = "d\xff"
		}), []string{"boot.kernel: the path is not UTF-8", "boot.initrd: the path is not UTF-8", "boot.cmdline: is not UTF-8", "console.log: the path is not UTF-8"}},
		{"actions", polyvisor.Config{Name: "a", OnPoweroff: "x", OnReboot: "y", OnCrash: "z"}, []string{
			`on_poweroff: "x" is not an action; want "destroy", "restart", "preserve" or "rename-restart"`, `on_reboot: "y"`, `on_crash: "z"`}},
		{"everything", polyvisor.Config{Memory: 1, VCPUs: -1, Title: "\n", OnCrash: "z"}, []string{"name: ", "title: ", "memory: ", "vcpus: ", "on_crash: "}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.config.Validate()
			if tt.want == nil {
				require.NoError(t, err)
				data, err := json.Marshal(tt.config)
				require.NoError(t, err)
				back, err := polyvisor.ParseConfig(data)
				require.NoError(t, err)
				assert.Equal(t, tt.config, *back, "a valid Config survives JSON")
				return
			}
			require.ErrorIs(t, err, polyvisor.ErrInvalidConfig)
			var all *multierror.Error
			require.True(t, errors.As(err, &all))
			assert.Len(t, all.Errors, len(tt.want))
			for _, want := range tt.want {
				assert.ErrorContains(t, err, want)
			}
			assert.NotContains(t, err.Error(), "\n", "one line")
		})
	}
}

func FuzzParseConfig(f *testing.F) {
	full, err := json.Marshal(fullConfig())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(full)
	for _, s := range []string{
		`{"name":"web"}`, `{"name":"web","memory":"512MiB"}`, `{"name":"\ud800"}`, `{"NAME":"x","name":"y"}`, `null`, `{} {}`, `{"boot":null}`,
		`{"boot":{"kernel":null}}`, `{"uuid":"urn:uuid:1b4e28ba-2fa1-11d2-883f-0016d3cca427"}`, `{"memory":null}`, `{"console":{"log":"\u0000"}}`, `{"vcpus":1e2}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := polyvisor.ParseConfig(data)
		if err != nil {
			if c != nil || polyvisor.CodeOf(err) != polyvisor.CodeInvalidConfig {
				t.Errorf("%v, %v", c, err)
			}
			return
		}
		out, err := json.Marshal(c)
		if err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
		again, err := polyvisor.ParseConfig(out)
		if err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		if !reflect.DeepEqual(again, c) {
			t.Errorf("%+v came back as %+v", c, again)
		}
		before := c.Clone()
		if (c.Validate() == nil) != (c.WithDefaults().Validate() == nil) {
			t.Error("defaults change whether it is valid")
		}
		if !reflect.DeepEqual(c, before) {
			t.Error("Validate or WithDefaults changed it")
		}
	})
}
