package utf8json_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/polyvisor/polyvisor/internal/utf8json"
)

func TestCheck(t *testing.T) {
	for text, want := range map[string]string{
		"":                        "",
		`{"name": "caf\u00e9 é"}`: "",
		"\ufffd \U0010ffff":       "",
		"é\xff":                   "byte 0xff at offset 2 is not UTF-8; save the text as UTF-8",
		"\xed\xa0\x80":            "byte 0xed at offset 0 is not UTF-8; save the text as UTF-8",
		"a\xe2\x82":               "byte 0xe2 at offset 1 is not UTF-8; save the text as UTF-8",
	} {
		err := utf8json.Check([]byte(text))
		if want == "" {
			assert.NoError(t, err, "%q", text)
			continue
		}
		assert.EqualError(t, err, want, "%q", text)
	}
}
