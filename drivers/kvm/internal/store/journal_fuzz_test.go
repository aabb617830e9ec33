//go:build linux

package store

import (
	"os"
	"testing"
)

// Whatever is in the journal, a reader comes to its end, in order, and reads on
// behind it.
func FuzzJournal(f *testing.F) {
	f.Add([]byte(`{"type":"defined","name":"a"}`+"\n"), []byte("\n"))
	f.Add([]byte("{\"type\":\"stopped\",\"stop\":{\"reason\":\"crash\"}}\n\x00\x00\x00"), []byte("x\n\n"))
	f.Add([]byte("\x00\x00{}\nnull\n[]\n"), []byte(`{"type":"gap"}`+"\n"))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		s := testStore(t)
		j := openJournal(t, s)
		file, err := os.OpenFile(s.journal(), os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		for _, part := range [][]byte{first, second, []byte("\n")} {
			if _, err := file.Write(part); err != nil {
				t.Fatal(err)
			}
		}
		if err := appendEvent(s.journal(), Event{Type: EventDefined, Name: "the end of the test"}); err != nil {
			t.Fatal(err)
		}
		at := int64(0)
		for {
			events, err := j.Next()
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range events {
				if e.End < at {
					t.Fatalf("an event ends at %d, the one before at %d", e.End, at)
				}
				at = e.End
				if e.Name == "the end of the test" {
					return
				}
			}
		}
	})
}
