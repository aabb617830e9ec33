//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/polyvisor/polyvisor/internal/nestedvm/wire"
)

// lastWords bounds the wait for the host to connect, and to end the machine once everything was said.
const lastWords = 10 * time.Second

// agent does the work that the host sends and returns when the machine may be powered off.
func agent() {
	if err := serve(); err != nil {
		fmt.Fprintf(os.Stderr, "nested agent: %v\n", err)
		os.Exit(1)
	}
}

func serve() error {
	kvm := make(chan error, 1)
	go func() { kvm <- setUpKVM() }() // takes a good half second, beside the wait for the host
	if err := loadModules("transport"); err != nil {
		return err
	}
	port, err := openPort()
	if err != nil {
		return err
	}
	defer port.Close()
	w := wire.NewWriter(port)
	spec, err := readSpec(port)
	if err != nil {
		return err
	}
	ready := wire.Ready{Kernel: kernelRelease(), Uptime: uptime()}
	if err := errors.Join(configure(spec.Now), <-kvm); err != nil {
		ready.Fault = err.Error()
	}
	if err := w.JSON(wire.KindReady, ready); err != nil {
		return fmt.Errorf("tell the host that the machine is up: %w", err)
	}
	go sayAlive(w)
	if ready.Fault == "" {
		if err := runAll(w, spec); err != nil {
			return err
		}
	}
	// The port keeps what was written in memory until the host takes it, and the host ends the machine
	// when it has all; powering off at once could lose the last frames.
	time.Sleep(lastWords)
	return nil
}

// sayAlive gives signs of life until the machine ends. A host that does not take them is gone.
func sayAlive(w *wire.Writer) {
	for range time.Tick(wire.AlivePeriod) {
		if err := w.Frame(wire.KindAlive, nil); err != nil {
			return
		}
	}
}

func runAll(w *wire.Writer, spec wire.Spec) error {
	for i, c := range spec.Commands {
		if err := w.JSON(wire.KindStart, wire.Start{Index: i}); err != nil {
			return fmt.Errorf("tell the host that a command starts: %w", err)
		}
		if err := w.JSON(wire.KindExit, runCommand(w, i, c, spec.Env)); err != nil {
			return fmt.Errorf("tell the host the exit code: %w", err)
		}
	}
	var done wire.Done
	if err := sendArtifacts(wire.Stream{W: w, Kind: wire.KindTar}, spec.Artifacts); err != nil {
		done.Fault = err.Error()
	}
	if err := w.JSON(wire.KindDone, done); err != nil {
		return fmt.Errorf("tell the host that all is done: %w", err)
	}
	return nil
}

// readSpec reads the one frame that the host sends.
func readSpec(port io.Reader) (wire.Spec, error) {
	var spec wire.Spec
	k, p, err := wire.NewReader(patientReader{port}).Next()
	switch {
	case err != nil:
		return spec, fmt.Errorf("read the commands from the host: %w", err)
	case k != wire.KindSpec:
		return spec, fmt.Errorf("the host sent frame kind %d where the commands were expected", k)
	}
	d := json.NewDecoder(bytes.NewReader(p))
	d.DisallowUnknownFields()
	if err := d.Decode(&spec); err != nil {
		return spec, fmt.Errorf("commands from the host: %w", err)
	}
	for i, c := range spec.Commands {
		if len(c.Args) == 0 {
			return spec, fmt.Errorf("command %d from the host is empty", i)
		}
	}
	return spec, nil
}

// patientReader waits while the host end of the port is not connected: reads then say io.EOF.
type patientReader struct{ r io.Reader }

func (p patientReader) Read(b []byte) (int, error) {
	for deadline := time.Now().Add(lastWords); ; time.Sleep(time.Millisecond) {
		n, err := p.r.Read(b)
		if n > 0 || !errors.Is(err, io.EOF) || time.Now().After(deadline) {
			return n, err
		}
	}
}
