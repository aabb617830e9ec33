package polyvisor

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Early gives a connection for machines that run before a host is fully up
// (AVirtualizationService_create with early): the domains that the *.xml files
// of the directory describe are defined when the connection is opened. On it
// they can be started, stopped and used, and nothing else can be changed: no
// definition, no running domain's resources, and no other domain; what would
// is an ErrPermission. Start runs what the file said when the connection was
// opened: it defines the domain so again if another connection has changed it
// since, and when another does so at the very moment of the start, it destroys
// what was started and fails with ErrBusy; what was started may have run for a
// moment. Of drivers that take XML as it is (XMLDefiner) the last cannot be told,
// since they do not give back the text that they were given. A file without a UUID gives its domain the one that a domain of its
// name has already, or a random one. Needs FeatureXML, and a connection that is
// not read-only. Only Open takes it.
func Early(dir string) Option { return func(o *options) { o.early = &dir } }

// maxEarlyFile is the most that a file of an early domain may hold.
const maxEarlyFile = 1 << 20

// early holds the domains that an early connection may run; it is nil for
// other connections.
type early map[uuid.UUID]earlyDomain

// earlyDomain is a domain as its file describes it.
type earlyDomain struct {
	config *Config // with its defaults; nil if the driver takes XML as it is
	text   string  // XML with the UUID, for such a driver
}

var errEarly = fmt.Errorf("%w: an early connection runs the domains of its directory, as they are described there, and changes nothing else; use another connection", ErrPermission)

// permits checks an operation on a domain. What is not listed changes a
// definition or a run.
func (e early) permits(op Op, id uuid.UUID) error {
	if e == nil {
		return nil
	}
	switch op {
	case OpStart, OpSuspend, OpResume, OpShutdown, OpReboot, OpDestroy, OpConsole, OpSave, OpCoreDump,
		OpDialVsock, OpListenVsock, OpWaitReady, OpExec:
		if _, own := e[id]; own {
			return nil
		}
	}
	return errEarly
}

// describedEarly gives the domain that is to be started, as its file describes
// it: inst, or what defining it again gives. The caller has the domain's turn.
func (c *Conn) describedEarly(ctx context.Context, id uuid.UUID, inst Instance) (Instance, error) {
	want, own := c.early[id]
	if !own {
		return inst, nil // not an early connection
	}
	var err error
	if want.config == nil {
		// What such a driver stores is not the text that it was given, so there
		// is nothing to compare.
		inst, err = c.defineXML(ctx, want.text)
	} else {
		var same bool
		if same, err = hasConfig(ctx, inst, want.config); err != nil || same {
			return inst, err
		}
		inst, err = c.driver.Define(ctx, want.config.Clone())
	}
	if err != nil {
		return nil, fmt.Errorf("defining the early domain again as its file describes it: %w", err)
	}
	return inst, nil
}

// undoTime bounds the destruction of a run that must not be.
const undoTime = 30 * time.Second

// startedAsDescribed makes sure that the run of an early domain is the one that
// its file describes: between describedEarly and the start another connection
// may have changed the definition. What is not is destroyed.
func (c *Conn) startedAsDescribed(ctx context.Context, id uuid.UUID, inst Instance) error {
	want, own := c.early[id]
	if !own || want.config == nil {
		return nil
	}
	have, err := inst.Config(ctx)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil // it has ended and is undefined
	case err == nil:
		same, wrong := sameRun(have, want.config)
		if wrong == nil && same {
			return nil
		}
		if err = wrong; err == nil {
			err = fmt.Errorf("%w: another connection changed the early domain while it was started; what was started is not what its file describes and was destroyed; start it again", ErrBusy)
		}
	}
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	if e := inst.Destroy(undo); e != nil && !errors.Is(e, ErrNotFound) && !errors.Is(e, ErrInvalidState) {
		err = fmt.Errorf("%w; destroying it: %w", err, e)
	}
	return err
}

// sameRun tells whether a run is that of a definition. Others may change labels
// and autostart of a run, and an address that is left to the driver is its to
// choose.
func sameRun(have, want *Config) (bool, error) {
	have, want = have.Clone(), want.Clone()
	have.Labels, have.Autostart = want.Labels, want.Autostart
	if have.Vsock != nil && want.Vsock != nil && want.Vsock.CID == 0 {
		have.Vsock.CID = 0
	}
	return equalConfigs(have, want)
}

// hasConfig tells whether an inactive domain's definition is the given one.
func hasConfig(ctx context.Context, inst Instance, want *Config) (bool, error) {
	have, err := inst.Config(ctx)
	if err != nil {
		return false, err
	}
	return equalConfigs(have, want)
}

// equalConfigs compares Configs in the form in which definitions are stored,
// which knows no difference between an empty list and none.
func equalConfigs(have, want *Config) (bool, error) {
	a, err := json.Marshal(have)
	if err != nil {
		return false, err
	}
	b, err := json.Marshal(want)
	return bytes.Equal(a, b), err
}

// defineXML gives domain XML to a driver that takes it as it is.
func (c *Conn) defineXML(ctx context.Context, text string) (Instance, error) {
	d, err := offered[XMLDefiner](c, c.driver, FeatureXML)
	if err != nil {
		return nil, err
	}
	return d.DefineXML(ctx, text)
}

// defineEarly defines the domains of an early connection.
func (c *Conn) defineEarly(ctx context.Context, dir string) (early, error) {
	if err := c.need(FeatureXML); err != nil {
		return nil, err
	}
	if err := c.writable(); err != nil {
		return nil, fmt.Errorf("early domains are defined when the connection is opened: %w", err)
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
		id, domain, err := c.defineEarlyFile(ctx, file)
		if err == nil {
			if _, twice := domains[id]; twice {
				err = fmt.Errorf("%w: another file of the directory describes the same domain", ErrExists)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("early domain %s: %w", file, err)
		}
		domains[id] = domain
	}
	return domains, nil
}

func (c *Conn) defineEarlyFile(ctx context.Context, file string) (uuid.UUID, earlyDomain, error) {
	fail := func(err error) (uuid.UUID, earlyDomain, error) { return uuid.Nil, earlyDomain{}, err }
	text, err := readEarlyFile(file)
	if err != nil {
		return fail(hostError(err))
	}
	if _, raw := As[XMLDefiner](c.driver); raw {
		return c.defineEarlyXML(ctx, text)
	}
	config, err := c.parseXML(text)
	if err != nil {
		return fail(err)
	}
	if config.UUID == uuid.Nil {
		if config.UUID, err = c.uuidOf(ctx, config.Name); err != nil {
			return fail(err)
		}
	}
	if err := config.Validate(); err != nil {
		return fail(err)
	}
	full := config.WithDefaults()
	inst, err := c.makeDomain(ctx, full, false, StartOptions{})
	if err != nil {
		return fail(err)
	}
	return inst.UUID(), earlyDomain{config: full}, nil
}

func (c *Conn) defineEarlyXML(ctx context.Context, text string) (uuid.UUID, earlyDomain, error) {
	fail := func(err error) (uuid.UUID, earlyDomain, error) { return uuid.Nil, earlyDomain{}, err }
	name, given, err := identity(text)
	if err != nil {
		return fail(err)
	}
	id := uuid.Nil
	if !given {
		if id, err = c.uuidOf(ctx, name); err != nil {
			return fail(err)
		}
	}
	with, err := withUUID(text, id)
	if err != nil {
		return fail(err)
	}
	inst, err := c.defineXML(ctx, with)
	if err != nil {
		return fail(err)
	}
	if !given {
		if with, err = withUUID(text, inst.UUID()); err != nil {
			return fail(err)
		}
	}
	return inst.UUID(), earlyDomain{text: with}, nil
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

// identity reads the name in domain XML, and whether it has a UUID.
func identity(text string) (name string, given bool, err error) {
	var domain struct {
		XMLName xml.Name `xml:"domain"`
		Name    string   `xml:"name"`
		UUID    string   `xml:"uuid"`
	}
	if err := xml.Unmarshal([]byte(text), &domain); err != nil {
		return "", false, fmt.Errorf("%w: not domain XML: %w", ErrInvalidConfig, err)
	}
	return domain.Name, domain.UUID != "", nil
}

// withUUID writes a UUID that is not zero into domain XML that has none.
func withUUID(text string, id uuid.UUID) (string, error) {
	if id == uuid.Nil {
		return text, nil
	}
	// Behind the start tag of the root, which identity has found.
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
