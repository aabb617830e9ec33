package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// errOutput is the class of errors of writing to standard output.
var errOutput = errors.New("standard output")

// format is the value of the flag --output.
type format string

const (
	formatTable format = "table"
	formatJSON  format = "json"
)

var _ pflag.Value = (*format)(nil)

func (f *format) String() string { return string(*f) }
func (f *format) Type() string   { return "table|json" }
func (f *format) Set(s string) error {
	switch format(s) {
	case formatTable, formatJSON:
		*f = format(s)
		return nil
	}
	return errors.New("want table or json")
}

// outputFlag gives a command the flag --output.
func outputFlag(cmd *cobra.Command) *format {
	f := formatTable
	cmd.Flags().VarP(&f, "output", "o", "output format; the names of the JSON fields are in docs/cli.md")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
	return &f
}

// write writes to standard output in one piece.
func (a *app) write(p []byte) error {
	if _, err := a.stdout.Write(p); err != nil {
		return fmt.Errorf("%w: %w", errOutput, err)
	}
	return nil
}

// say prints one line of result on standard output.
func (a *app) say(format string, args ...any) error {
	return a.write([]byte(oneLine(fmt.Sprintf(format, args...)) + "\n"))
}

func (a *app) printJSON(v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return err
	}
	return a.write(b.Bytes())
}

// printTable prints rows in aligned columns.
func (a *app) printTable(rows [][]string) error {
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			if i > 0 {
				_, _ = w.Write([]byte("\t"))
			}
			_, _ = w.Write([]byte(oneLine(cell)))
		}
		_, _ = w.Write([]byte("\n"))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return a.write(b.Bytes())
}
