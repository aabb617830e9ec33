package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/domainxml"
	"github.com/polyvisor/polyvisor/internal/utf8json"
)

// maxInput bounds a file of configuration in bytes, so that a wrong file (a
// disk, an endless device) is refused instead of being read into memory.
const maxInput = domainxml.MaxSize

// input is a file with a configuration or a device, in JSON or XML.
type input struct {
	name string // for messages
	dir  string // from which relative paths count
	text string
}

// readInput reads a file or, for "-", standard input.
func (a *app) readInput(name string) (*input, error) {
	in, from := &input{name: name, dir: "."}, a.stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, adviseInput(fmt.Errorf("configuration: %w", err)) // it names the file
		}
		defer f.Close()
		from, in.dir = f, filepath.Dir(name)
	}
	data, err := io.ReadAll(io.LimitReader(from, maxInput+1))
	if err != nil {
		return nil, adviseInput(in.wrap(err))
	}
	if len(data) > maxInput {
		return nil, in.wrap(fmt.Errorf("more than %s; is it the right file?", polyvisor.Bytes(maxInput)))
	}
	in.text = string(data)
	return in, nil
}

// adviseInput says what to do about a file that cannot be read.
func adviseInput(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return advise(err, "make it readable for this user")
	}
	return advise(err, "name a file in JSON or XML, or - for standard input; \"polyvisor define --help\" tells what it holds")
}

func (in *input) wrap(err error) error {
	return fmt.Errorf("configuration %s: %w", in.name, err)
}

// isXML reports whether the text begins as XML does; no JSON begins so.
func (in *input) isXML() bool {
	return strings.HasPrefix(strings.TrimLeft(in.text, "\ufeff \t\r\n"), "<")
}

// config reads a Config, of either format. Relative paths are made absolute.
func (in *input) config() (*polyvisor.Config, error) {
	parse := func(s string) (*polyvisor.Config, error) { return polyvisor.ParseConfig([]byte(s)) }
	if in.isXML() {
		parse = domainxml.Parse
	}
	c, err := parse(in.text)
	if err == nil {
		err = absolute(c, in.dir)
	}
	if err != nil {
		return nil, in.wrap(err)
	}
	return c, nil
}

// deviceView is a device in JSON: one of the fields is set.
type deviceView struct {
	Disk  *polyvisor.Disk  `json:"disk"`
	NIC   *polyvisor.NIC   `json:"nic"`
	Share *polyvisor.Share `json:"share"`
	RNG   *polyvisor.RNG   `json:"rng"`
}

// device reads a device in JSON.
func (in *input) device() (polyvisor.Device, error) {
	var v deviceView
	dec := json.NewDecoder(strings.NewReader(in.text))
	dec.DisallowUnknownFields()
	err := utf8json.Check([]byte(in.text))
	if err == nil {
		err = dec.Decode(&v)
	}
	if err == nil {
		if _, end := dec.Token(); !errors.Is(end, io.EOF) {
			err = errors.New("more data after the JSON object")
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil // said below
	}
	var dev polyvisor.Device
	c := &polyvisor.Config{}
	n := 0
	if v.Disk != nil {
		c.Disks = []polyvisor.Disk{*v.Disk}
		dev, n = &c.Disks[0], n+1
	}
	if v.NIC != nil {
		dev, n = v.NIC, n+1
	}
	if v.Share != nil {
		c.Shares = []polyvisor.Share{*v.Share}
		dev, n = &c.Shares[0], n+1
	}
	if v.RNG != nil {
		dev, n = v.RNG, n+1
	}
	if err == nil && n != 1 {
		err = errors.New("want one device, such as {\"disk\": {\"target\": \"vdb\", \"source\": \"b.img\"}}; disk, nic, share or rng")
	}
	if err == nil {
		err = absolute(c, in.dir)
	}
	if err != nil {
		if !errors.Is(err, polyvisor.ErrInvalidConfig) { // as a MAC address says itself
			err = fmt.Errorf("%w: %w", polyvisor.ErrInvalidConfig, err)
		}
		return nil, in.wrap(err)
	}
	return dev, nil
}

// absolute makes the paths of a configuration independent of the working
// directory, which a domain does not keep: relative ones count from dir.
func absolute(c *polyvisor.Config, dir string) error {
	paths := []*string{&c.Console.Log}
	for _, f := range c.Files() {
		paths = append(paths, &f.File.Path)
	}
	for i := range c.Shares {
		paths = append(paths, &c.Shares[i].Source)
	}
	for _, p := range paths {
		if *p == "" || filepath.IsAbs(*p) {
			continue
		}
		abs, err := filepath.Abs(filepath.Join(dir, *p))
		if err != nil {
			return err
		}
		*p = abs
	}
	return nil
}
