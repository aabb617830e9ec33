package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"unicode"

	"github.com/polyvisor/polyvisor"
)

// The exit codes. A run that did not end in a shutdown has exitStop plus the
// number of its StopReason; a command that a signal ended has exitSignal plus
// the number of the signal.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
	exitStop    = 10
	exitTimeout = 124
	exitSignal  = 128
)

// stopCode is the exit code for the end of a domain's run.
func stopCode(r polyvisor.StopReason) int {
	switch {
	case r == polyvisor.StopShutdown:
		return exitOK
	case r < 0 || int(r) >= len(polyvisor.StopReasons()):
		return exitStop + int(polyvisor.StopUnrecognised)
	}
	return exitStop + int(r)
}

// exitError ends the command with a code. Without an error nothing is printed.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// usage is an error in how the command was called.
func usage(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

// advised is an error with what to do about it.
type advised struct {
	error
	advice string
}

func (e *advised) Unwrap() error { return e.error }

// advise adds what to do about an error, nil if there is none.
func advise(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &advised{err, fmt.Sprintf(format, args...)}
}

// exitCode reports the error of a command and gives the code for it.
func (a *app) exitCode(ctx context.Context, err error) int {
	if err == nil {
		return exitOK
	}
	code, silent := exitFailure, false
	var exit *exitError
	var sig *signalError
	switch {
	case errors.As(err, &exit):
		code, silent = exit.code, exit.err == nil
	case errors.As(context.Cause(ctx), &sig):
		code = exitSignal + int(sig.sig)
		if advice := adviceFor(err); advice != "" {
			err = advise(sig, "%s", advice)
		} else {
			err = sig
		}
	case errors.Is(err, errOutput) && errors.Is(err, syscall.EPIPE):
		code, silent = exitSignal+int(syscall.SIGPIPE), true
	case !a.ran:
		code = exitUsage
	}
	if !silent {
		a.complain(err)
	}
	return code
}

// complain prints an error on one line.
func (a *app) complain(err error) {
	text := strings.ReplaceAll(err.Error(), "\n", "; ") // between errors that are joined
	if advice := adviceFor(err); advice != "" {
		text += "; " + advice
	}
	a.note("%s", text)
}

// note tells the user something on one line of standard error. Control
// characters, which a hostile guest or file could have put there, are dropped.
func (a *app) note(format string, args ...any) {
	// Nobody is left to be told if this fails.
	_, _ = fmt.Fprintf(a.stderr, "polyvisor: %s\n", oneLine(fmt.Sprintf(format, args...)))
}

// oneLine replaces runs of white space and control characters by one space.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), " ")
}

// adviceFor says what to do about an error: what the command added to it, else
// what fits its code. The messages of the library have a remedy of their own
// where it does not depend on the command line.
func adviceFor(err error) string {
	var adv *advised
	if errors.As(err, &adv) {
		return adv.advice
	}
	var e *polyvisor.Error
	if !errors.As(err, &e) {
		return ""
	}
	switch {
	case e.Code == polyvisor.CodeNotFound && e.Op == "lookup":
		return "\"polyvisor list --all\" shows the domains there are"
	case e.Code == polyvisor.CodeNotFound && (e.Op == "start" || e.Op == "create"):
		if strings.HasPrefix(e.Err.Error(), "kernel:") {
			return "mend the path, or take \"run --kernel auto\" for the newest kernel of this host"
		}
		return "mend the path or make what it names"
	case e.Code == polyvisor.CodeExists && (e.Op == string(polyvisor.OpSave) || e.Op == string(polyvisor.OpCoreDump)):
		return "choose another file"
	case e.Code == polyvisor.CodeExists && e.Op == "attach device":
		return "\"polyvisor update-device\" changes the one there is, \"polyvisor detach-device\" removes it"
	case e.Code == polyvisor.CodeExists && e.Op == string(polyvisor.OpRename):
		if saysChooseName(e) {
			return ""
		}
		return "choose another name"
	case e.Code == polyvisor.CodeExists && e.Domain != "" && saysChooseName(e):
		return fmt.Sprintf("\"polyvisor undefine --destroy %s\" removes the domain", e.Domain)
	case e.Code == polyvisor.CodeExists && e.Domain != "":
		return fmt.Sprintf("choose another name, or remove the domain with \"polyvisor undefine --destroy %s\"", e.Domain)
	case e.Code == polyvisor.CodeBusy && e.Op == string(polyvisor.OpConsole):
		return "--force takes the console over"
	case e.Code == polyvisor.CodeReadOnly:
		return "leave --readonly out"
	case e.Code == polyvisor.CodePermission && strings.Contains(e.Err.Error(), "early connection"):
		return "leave --early out"
	case e.Code == polyvisor.CodePermission && (e.Op == "start" || e.Op == "create") && aboutFile(e):
		return "mend the permissions of the file and of the directories above it"
	case e.Op == string(polyvisor.OpExec) || e.Op == string(polyvisor.OpWaitReady):
		return "" // it is about the guest
	case e.Code == polyvisor.CodePermission, e.Code == polyvisor.CodeNoResource:
		return "\"polyvisor doctor\" shows what this host lacks"
	}
	return ""
}

// aboutFile tells that the error is about a file that boots the domain.
func aboutFile(e *polyvisor.Error) bool {
	what, _, _ := strings.Cut(e.Err.Error(), ":")
	return what == "kernel" || what == "initrd" || what == "console log"
}

// saysChooseName tells that the driver has given this advice itself.
func saysChooseName(e *polyvisor.Error) bool {
	return strings.Contains(e.Err.Error(), "choose another name")
}
