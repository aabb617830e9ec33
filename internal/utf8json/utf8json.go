// Package utf8json finds what is not UTF-8 in JSON text. RFC 8259, section 8.1,
// demands UTF-8; encoding/json silently puts U+FFFD in the place of anything
// else, so that a name would be stored that nobody has written.
package utf8json

import (
	"fmt"
	"unicode/utf8"
)

// Check names the first byte that is not part of valid UTF-8 and its offset;
// nil if there is none.
func Check(data []byte) error {
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n == 1 {
			return fmt.Errorf("byte %#02x at offset %d is not UTF-8; save the text as UTF-8", data[i], i)
		}
		i += n
	}
	return nil
}
