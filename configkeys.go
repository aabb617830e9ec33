package polyvisor

import (
	"encoding/json"
	"fmt"
	"strings"
)

// checkKeys refuses a key that an object of a value in JSON has twice; of two,
// encoding/json would silently take the last. path is the value's, for messages.
// The text has been decoded as a Config before, which bounds its depth.
func checkKeys(dec *json.Decoder, path string) error {
	t, err := dec.Token()
	if err != nil {
		return err
	}
	d, nested := t.(json.Delim)
	if !nested {
		return nil
	}
	keys := make(map[string]bool)
	for dec.More() {
		inner := path
		if d == '{' {
			t, err := dec.Token()
			if err != nil {
				return err
			}
			key := t.(string) // or the decoder would have refused it
			if inner = key; path != "" {
				inner = path + "." + key
			}
			if !strings.EqualFold(path, "labels") { // whose keys are the user's
				key = foldKey(key)
			}
			if keys[key] {
				return fmt.Errorf("field %q is given twice; keep one", inner)
			}
			keys[key] = true
		}
		if err := checkKeys(dec, inner); err != nil {
			return err
		}
	}
	_, err = dec.Token() // the end of the object or array
	return err
}

// foldKey makes the spellings that encoding/json takes for one field the same:
// it does not distinguish upper from lower case.
func foldKey(key string) string { return strings.ToLower(strings.ToUpper(key)) }
