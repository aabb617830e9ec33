package vmmproc

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Logger takes what a server has to say to its operator: a message and pairs of a key
// and a value. A *slog.Logger is one. It is for any goroutine.
type Logger interface {
	Info(msg string, pairs ...any)
	Warn(msg string, pairs ...any)
	Error(msg string, pairs ...any)
}

// noLog is the Logger of a server whose owner wants to hear nothing.
type noLog struct{}

func (noLog) Info(string, ...any)  {}
func (noLog) Warn(string, ...any)  {}
func (noLog) Error(string, ...any) {}

// lineLog writes lines as slog.TextHandler does, which would be a fortieth of the VM
// process. Each line is one Write.
type lineLog struct{ w io.Writer }

func (l lineLog) Info(msg string, pairs ...any)  { l.line("INFO", msg, pairs) }
func (l lineLog) Warn(msg string, pairs ...any)  { l.line("WARN", msg, pairs) }
func (l lineLog) Error(msg string, pairs ...any) { l.line("ERROR", msg, pairs) }

// logTime is RFC 3339 in milliseconds.
const logTime = "2006-01-02T15:04:05.000Z07:00"

func (l lineLog) line(level, msg string, pairs []any) {
	b := append([]byte("time="), time.Now().Format(logTime)...)
	b = append(append(b, " level="...), level...)
	b = append(append(b, " msg="...), quoted(msg)...)
	for i := 0; i+1 < len(pairs); i += 2 {
		b = append(append(b, ' '), quoted(fmt.Sprint(pairs[i]))...)
		b = append(append(b, '='), quoted(fmt.Sprint(pairs[i+1]))...)
	}
	_, _ = l.w.Write(append(b, '\n'))
}

// quoted gives a word as it is and everything else in quotes, so that a line can be
// taken apart again.
func quoted(s string) string {
	special := func(r rune) bool {
		return r == ' ' || r == '"' || r == '=' || r == utf8.RuneError || !unicode.IsPrint(r)
	}
	if s == "" || strings.ContainsFunc(s, special) {
		return strconv.Quote(s)
	}
	return s
}
