package cli

import (
	"context"
	"log/slog"
	"strings"
)

// logger writes to standard error: everything with --verbose, else warnings, as
// the command's own notes.
func (a *app) logger() *slog.Logger {
	switch {
	case a.quiet:
		return slog.New(slog.DiscardHandler)
	case a.verbose:
		return slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return slog.New(&warnings{a: a})
}

// warnings is a slog.Handler that notes each record from slog.LevelWarn on in
// one line for people: the message, and what belongs to it.
type warnings struct {
	a      *app
	prefix string   // of the names of attributes: the groups
	fixed  []string // attributes of all records
}

func (*warnings) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }

func (w *warnings) Handle(_ context.Context, r slog.Record) error {
	words := append([]string{r.Message}, w.fixed...)
	r.Attrs(func(attr slog.Attr) bool {
		words = append(words, w.word(attr))
		return true
	})
	w.a.note("warning: %s", strings.Join(words, ", "))
	return nil
}

func (w *warnings) word(attr slog.Attr) string {
	return w.prefix + attr.Key + ": " + strings.ReplaceAll(attr.Value.Resolve().String(), "\n", "; ")
}

func (w *warnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	fixed := append([]string(nil), w.fixed...)
	for _, attr := range attrs {
		fixed = append(fixed, w.word(attr))
	}
	return &warnings{w.a, w.prefix, fixed}
}

func (w *warnings) WithGroup(name string) slog.Handler {
	if name == "" {
		return w
	}
	return &warnings{w.a, w.prefix + name + ".", w.fixed}
}
