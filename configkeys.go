package polyvisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// checkKeys refuses a key that an object of a value in JSON has twice, or not as it is spelt:
// encoding/json would silently take the last of two, and does not tell upper from lower case. path is the value's, for messages.
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
			if path != "labels" && key != strings.ToLower(strings.ToUpper(key)) { // the keys of labels are the user's
				return fmt.Errorf("unknown field %q; the names of fields are written in lower case", inner)
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

// readable puts what encoding/json says of a value of the wrong kind in words of JSON, not of Go.
func readable(err error) error {
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) {
		return err
	}
	want := "an object"
	switch wrong.Type.Kind() {
	case reflect.String:
		want = "a string"
	case reflect.Bool:
		want = "true or false"
	case reflect.Slice, reflect.Array:
		want = "an array"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		want = "a whole number from 0 up that is not too large"
	}
	if wrong.Field == "" {
		return fmt.Errorf("have %s, want %s", wrong.Value, want)
	}
	return fmt.Errorf("field %q: have %s, want %s", wrong.Field, wrong.Value, want)
}
