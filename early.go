package polyvisor

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
)

// Early gives a connection for machines that run before a host is fully up
// (AVirtualizationService_create with early): the domains that the *.xml files
// of the directory describe are defined when the connection is opened, and on
// it no other can be defined, created, restored or started, and none undefined
// or renamed. A file without a UUID gives its domain the one that a domain of
// its name has already, or a random one. Needs FeatureXML, and a connection
// that is not read-only. Only Open takes it.
func Early(dir string) Option { return func(o *options) { o.early = &dir } }

// maxEarlyFile is the most that a file of an early domain may hold.
const maxEarlyFile = 1 << 20

// early holds the domains that an early connection may start; it is nil for
// other connections.
type early map[uuid.UUID]bool

var errEarly = fmt.Errorf("%w: an early connection runs the domains that its directory defines, and no others", ErrPermission)

// permits checks an operation on a domain.
func (e early) permits(op Op, id uuid.UUID) error {
	if e == nil {
		return nil
	}
	switch op {
	case OpStart:
		if !e[id] {
			return errEarly
		}
	case OpUndefine, OpRename:
		return errEarly
	}
	return nil
}

// defineEarly defines the domains of an early connection.
func (c *Conn) defineEarly(ctx context.Context, dir string) (early, error) {
	if err := c.need(FeatureXML); err != nil {
		return nil, err
	}
	files, err := os.ReadDir(dir) // sorted, so that the same fails first each time
	if err != nil {
		return nil, fmt.Errorf("directory of early domains: %w", hostError(err))
	}
	domains := make(early)
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".xml") {
			continue
		}
		file := filepath.Join(dir, f.Name())
		id, err := c.defineEarlyFile(ctx, file)
		switch {
		case err != nil:
			return nil, fmt.Errorf("early domain %s: %w", file, err)
		case domains[id]:
			return nil, fmt.Errorf("early domain %s: %w: another file of the directory describes the same domain", file, ErrExists)
		}
		domains[id] = true
	}
	return domains, nil
}

func (c *Conn) defineEarlyFile(ctx context.Context, file string) (uuid.UUID, error) {
	text, err := readEarlyFile(file)
	if err != nil {
		return uuid.Nil, hostError(err)
	}
	if d, raw := As[XMLDefiner](c.driver); raw {
		if text, err = c.keepUUID(ctx, text); err != nil {
			return uuid.Nil, err
		}
		if err := c.writable(); err != nil {
			return uuid.Nil, err
		}
		inst, err := d.DefineXML(ctx, text)
		if err != nil {
			return uuid.Nil, err
		}
		return inst.UUID(), nil
	}
	config, err := c.parseXML(text)
	if err != nil {
		return uuid.Nil, err
	}
	if config.UUID == uuid.Nil {
		if config.UUID, err = c.uuidOf(ctx, config.Name); err != nil {
			return uuid.Nil, err
		}
	}
	inst, err := c.makeDomain(ctx, config, false, StartOptions{})
	if err != nil {
		return uuid.Nil, err
	}
	return inst.UUID(), nil
}

// uuidOf gives the UUID of the domain of that name, zero if there is none.
func (c *Conn) uuidOf(ctx context.Context, name string) (uuid.UUID, error) {
	if name == "" {
		return uuid.Nil, nil // refused later, with everything else
	}
	inst, err := c.driver.Lookup(ctx, Key{Name: name})
	switch {
	case errors.Is(err, ErrNotFound):
		return uuid.Nil, nil
	case err != nil:
		return uuid.Nil, err
	}
	return inst.UUID(), nil
}

// keepUUID writes the UUID of the domain that exists already into domain XML
// that has none, where a driver takes XML as it is.
func (c *Conn) keepUUID(ctx context.Context, text string) (string, error) {
	var domain struct {
		XMLName xml.Name `xml:"domain"`
		Name    string   `xml:"name"`
		UUID    string   `xml:"uuid"`
	}
	if err := xml.Unmarshal([]byte(text), &domain); err != nil {
		return "", fmt.Errorf("%w: not domain XML: %w", ErrInvalidConfig, err)
	}
	if domain.UUID != "" {
		return text, nil
	}
	id, err := c.uuidOf(ctx, domain.Name)
	if err != nil || id == uuid.Nil {
		return text, err
	}
	// Behind the start tag of the root, which Unmarshal has just found.
	d := xml.NewDecoder(strings.NewReader(text))
	for {
		t, err := d.Token()
		if err != nil {
			return "", fmt.Errorf("%w: not domain XML: %w", ErrInvalidConfig, err)
		}
		if _, ok := t.(xml.StartElement); ok {
			at := d.InputOffset()
			return text[:at] + "<uuid>" + id.String() + "</uuid>" + text[at:], nil
		}
	}
}

// readEarlyFile reads a file of limited size that is not a pipe or device.
func readEarlyFile(file string) (string, error) {
	if s, err := os.Stat(file); err != nil {
		return "", err
	} else if !s.Mode().IsRegular() {
		return "", fmt.Errorf("%w: not a regular file", ErrInvalidConfig)
	}
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxEarlyFile+1))
	if len(text) > maxEarlyFile {
		return "", fmt.Errorf("%w: more than %s", ErrInvalidConfig, Bytes(maxEarlyFile))
	}
	return string(text), err
}

// hostError makes the errors of this process's own file accesses match the
// sentinels.
func hostError(err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w: %w", ErrPermission, err)
	case CodeOf(err) == CodeUnknown:
		return fmt.Errorf("%w: %w", ErrInvalidConfig, err)
	}
	return err
}
