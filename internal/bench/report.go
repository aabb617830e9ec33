package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
)

// section is one thing measured.
type section struct {
	Title string     `json:"title"`
	How   string     `json:"how"`
	Table [][]string `json:"-"` // the first row is the head
	Notes []string   `json:"notes,omitempty"`
	// Missing says why something could not be measured.
	Missing []string `json:"missing,omitempty"`
	Data    any      `json:"data,omitempty"`
}

// report is all that was measured.
type report struct {
	Start       time.Time     `json:"start"`
	Environment environment   `json:"environment"`
	Sections    []*section    `json:"sections"`
	Took        time.Duration `json:"took_ns"`
}

func (s *section) row(cells ...string) { s.Table = append(s.Table, cells) }

func (s *section) note(format string, a ...any) { s.Notes = append(s.Notes, fmt.Sprintf(format, a...)) }

func (s *section) missing(format string, a ...any) {
	s.Missing = append(s.Missing, fmt.Sprintf(format, a...))
}

// print writes the section for people.
func (s *section) print(w io.Writer) {
	fmt.Fprintf(w, "\n== %s\n", s.Title)
	for _, l := range wrap(s.How, 116) {
		fmt.Fprintf(w, "   %s\n", l)
	}
	if len(s.Table) > 1 {
		t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
		for _, r := range s.Table {
			fmt.Fprintf(t, "     %s\n", strings.Join(r, "\t"))
		}
		t.Flush()
	}
	for _, n := range s.Notes {
		fmt.Fprintf(w, "   %s\n", n)
	}
	for _, n := range s.Missing {
		fmt.Fprintf(w, "   NOT MEASURED: %s\n", n)
	}
}

// wrap breaks text at blanks.
func wrap(text string, width int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}

func (r *report) writeJSON(path string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

// How numbers are written.

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

func millis(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/1e6) }

func mebi(n uint64) string { return fmt.Sprintf("%.2f MiB", float64(n)/(1<<20)) }

func ratio(r float64) string { return fmt.Sprintf("%.2f", r) }
