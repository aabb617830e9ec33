package libvirt

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/digitalocean/go-libvirt"
	"github.com/google/uuid"
	"libvirt.org/go/libvirtxml"

	"github.com/polyvisor/polyvisor"
)

// probe asks whether the hypervisor has a procedure, by calling it for a domain that
// does not exist, or with a file that does not: the answer is that, or that there is
// no such procedure, and nothing has happened.
type probe struct {
	feature polyvisor.Feature
	name    string // libvirt's
	call    func(ctx context.Context, s *session, d *libvirt.Domain) error
}

// nowhere is a path that no host has.
const nowhere = "/nonexistent/polyvisor/probe"

var probes = []probe{
	{polyvisor.FeatureSuspend, "virDomainSuspend", func(ctx context.Context, s *session, d *libvirt.Domain) error { return s.Suspend(ctx, d) }},
	{polyvisor.FeatureSuspend, "virDomainResume", func(ctx context.Context, s *session, d *libvirt.Domain) error { return s.Resume(ctx, d) }},
	{polyvisor.FeatureShutdown, "virDomainShutdown", func(ctx context.Context, s *session, d *libvirt.Domain) error { return s.Shutdown(ctx, d) }},
	{polyvisor.FeatureReboot, "virDomainReboot", func(ctx context.Context, s *session, d *libvirt.Domain) error { return s.Reboot(ctx, d) }},
	{polyvisor.FeatureTransient, "virDomainCreateXML", func(ctx context.Context, s *session, _ *libvirt.Domain) error {
		_, err := s.CreateXML(ctx, "<nothing/>", 0)
		return err
	}},
	{polyvisor.FeatureSave, "virDomainSave", func(ctx context.Context, s *session, d *libvirt.Domain) error { return s.Save(ctx, d, nowhere) }},
	{polyvisor.FeatureSave, "virDomainRestore", func(ctx context.Context, s *session, _ *libvirt.Domain) error { return s.RestorePlain(ctx, nowhere) }},
	{polyvisor.FeatureCoreDump, "virDomainCoreDump", func(ctx context.Context, s *session, d *libvirt.Domain) error {
		return s.CoreDump(ctx, d, nowhere, libvirt.DumpMemoryOnly)
	}},
	{polyvisor.FeatureMemory, "virDomainSetMemoryFlags", func(ctx context.Context, s *session, d *libvirt.Domain) error {
		return s.SetMemory(ctx, d, 1<<20, libvirt.DomainMemConfig)
	}},
	{polyvisor.FeatureVCPUs, "virDomainSetVcpusFlags", func(ctx context.Context, s *session, d *libvirt.Domain) error {
		return s.SetVCPUs(ctx, d, 1, libvirt.DomainVCPUConfig)
	}},
	{polyvisor.FeatureVCPUInfo, "virDomainGetVcpus", func(ctx context.Context, s *session, d *libvirt.Domain) error {
		_, _, err := s.VCPUs(ctx, d, 1, 1)
		return err
	}},
	{polyvisor.FeatureVCPUPin, "virDomainPinVcpuFlags", func(ctx context.Context, s *session, d *libvirt.Domain) error {
		return s.Pin(ctx, d, 0, []byte{1}, libvirt.DomainAffectConfig)
	}},
	{polyvisor.FeatureDevices, "virDomainAttachDeviceFlags", func(ctx context.Context, s *session, d *libvirt.Domain) error {
		return s.Attach(ctx, d, "<rng model='virtio'/>", libvirt.DomainDeviceModifyConfig)
	}},
	{polyvisor.FeatureDevices, "virDomainDetachDeviceFlags", func(ctx context.Context, s *session, d *libvirt.Domain) error {
		return s.Detach(ctx, d, "<rng model='virtio'/>", libvirt.DomainDeviceModifyConfig)
	}},
	{polyvisor.FeatureXML, "virDomainGetXMLDesc", func(ctx context.Context, s *session, d *libvirt.Domain) error {
		_, err := s.XML(ctx, d, 0)
		return err
	}},
	{polyvisor.FeatureLabels, "virDomainSetMetadata", func(ctx context.Context, s *session, d *libvirt.Domain) error {
		return s.SetMetadata(ctx, d, "<probe/>", "polyvisor", nowhere, libvirt.DomainAffectConfig)
	}},
	{polyvisor.FeatureAutostart, "virDomainGetAutostart", func(ctx context.Context, s *session, d *libvirt.Domain) error {
		_, err := s.Autostart(ctx, d)
		return err
	}},
	{polyvisor.FeatureRename, "virDomainRename", func(ctx context.Context, s *session, d *libvirt.Domain) error { return s.Rename(ctx, d, "probe") }},
	{polyvisor.FeatureStats, "virConnectGetAllDomainStats", func(ctx context.Context, s *session, d *libvirt.Domain) error {
		_, err := s.Stats(ctx, []libvirt.Domain{*d}, libvirt.DomainStatsState, 0)
		return err
	}},
	{polyvisor.FeatureConsole, "virDomainOpenConsole", func(ctx context.Context, s *session, d *libvirt.Domain) error {
		stream, err := s.OpenConsole(ctx, d, 0)
		if err == nil {
			_ = stream.Close()
		}
		return err
	}},
}

// probesAtOnce is how many probes are under way at a time; a daemon takes five calls of
// a connection at a time unless it is configured otherwise.
const probesAtOnce = 4

// ask makes all probes and says why features are missing.
func ask(ctx context.Context, s *session, hypervisor string) (map[polyvisor.Feature]string, error) {
	absent := make([]bool, len(probes))
	var (
		mu     sync.Mutex
		wg     sync.WaitGroup
		failed error
	)
	slots := make(chan struct{}, probesAtOnce)
	for n, p := range probes {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			err := p.call(ctx, s, &libvirt.Domain{Name: "polyvisor-probe", UUID: libvirt.UUID(uuid.New()), ID: -1})
			answer := number(err)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil && answer == 0:
				failed = s.failed(err)
			case answer == libvirt.ErrNoSupport, answer == libvirt.ErrInvalidArg, answer == libvirt.ErrArgumentUnsupported,
				answer == libvirt.ErrOperationDenied && lacks(hypervisor, p.name):
				absent[n] = true
			}
		})
	}
	wg.Wait()
	missing := make(map[polyvisor.Feature]string)
	for n, p := range probes {
		if absent[n] && missing[p.feature] == "" {
			missing[p.feature] = fmt.Sprintf("libvirt's driver for %s does not have %s, or not all of it", hypervisor, p.name)
		}
	}
	return missing, failed
}

// asked has what the probes of this program have told, so that a daemon is probed once
// and not for each connection: it writes an error into its log for each.
var asked struct {
	mu   sync.Mutex
	list map[askedOf]map[polyvisor.Feature]string
}

// askedOf is a hypervisor of a daemon in a version. A daemon that is replaced by another
// version is another.
type askedOf struct {
	target, hypervisor string
	version, daemon    uint64
}

// missing says why features are missing. What a connection that may write has found out
// counts for read-only ones too, which cannot ask for as much.
func (d *driver) missing(ctx context.Context, s *session) (map[polyvisor.Feature]string, error) {
	of := askedOf{target: fmt.Sprintf("%+v", *d.target), hypervisor: d.host.hypervisor}
	var err error
	if of.daemon, err = s.LibVersion(ctx); err != nil {
		return nil, s.failed(err)
	}
	if of.version, err = s.Version(ctx); err != nil && number(err) == 0 {
		return nil, s.failed(err)
	}
	asked.mu.Lock()
	known, ok := asked.list[of]
	asked.mu.Unlock()
	if ok {
		return maps.Clone(known), nil
	}
	found, err := ask(ctx, s, d.host.hypervisor)
	if err != nil || d.opts.ReadOnly {
		return found, err
	}
	asked.mu.Lock()
	defer asked.mu.Unlock()
	if asked.list == nil || len(asked.list) > maxAsked {
		asked.list = make(map[askedOf]map[polyvisor.Feature]string)
	}
	asked.list[of] = maps.Clone(found)
	return found, nil
}

// maxAsked bounds the memory of a program that talks to very many hosts.
const maxAsked = 1024

// lacking are the functions that a hypervisor is known not to have, for read-only
// connections: there libvirt refuses what would change something before it looks.
var lacking = map[string][]string{
	testHypervisor: {"virDomainOpenConsole", "virDomainAttachDeviceFlags", "virDomainDetachDeviceFlags", "virDomainPinVcpuFlags"},
}

func lacks(hypervisor, function string) bool {
	return slices.Contains(lacking[hypervisor], function)
}

// Reasons for what no libvirt host can do.
const (
	reasonOpenFiles = "a file is opened by the hypervisor, on its own host; give a path"
	reasonNoElement = "libvirt has no setting for it"
)

// never are the features that no hypervisor has through libvirt.
var never = map[polyvisor.Feature]string{
	polyvisor.FeatureGuestStates:    "the state is libvirt's, whose drivers tell a guest that waits as running, and one that shuts down for a moment at most",
	polyvisor.FeatureOpenFiles:      reasonOpenFiles,
	polyvisor.FeatureVirtioConsole:  "libvirt has no call that tells a guest the size of a terminal; DefineXML takes a virtio console",
	polyvisor.FeatureConsoleFiles:   "libvirt connects a serial port to one thing, which is the console here; use the console or its log",
	polyvisor.FeatureHypervisorLog:  "libvirt keeps the logs of hypervisors in files of its own choice",
	polyvisor.FeaturePortForwards:   "it takes libvirt 9.0 with passt and a guest that was tried with it; use XML",
	polyvisor.FeatureHostLoopback:   "libvirt has no word for it; let the host's program listen on an address that the domain's network reaches",
	polyvisor.FeatureInstanceID:     reasonNoElement,
	polyvisor.FeatureMemoryBacking:  reasonNoElement,
	polyvisor.FeatureVCPUConfig:     "libvirt's shares of CPU time are for a whole domain, not for one virtual CPU",
	polyvisor.FeatureProtected:      "libvirt's launchSecurity names one vendor's way, which a Config does not; use XML",
	polyvisor.FeatureHypervisorAuth: reasonNoElement,
	polyvisor.FeatureVsockStreams:   "libvirt's protocol has no call for them; a program on the hypervisor's host uses AF_VSOCK with the CID of the Config",
	polyvisor.FeatureExec:           "libvirt's protocol has no call for commands in guests but one that passes words on to another agent; see docs/drivers/libvirt.md",
	polyvisor.FeaturePreserve:       "libvirt's drivers keep a guest that has ended after a crash at most; use XML",
	polyvisor.FeatureRenameRestart:  "no driver of libvirt obeys it",
}

// ofConfigs are features that are settings of a Config and stand for nothing to call.
var ofConfigs = []polyvisor.Feature{
	polyvisor.FeatureLinuxBoot, polyvisor.FeatureBuiltinGuest, polyvisor.FeatureConsoleLog, polyvisor.FeatureLifecyclePolicy, polyvisor.FeatureFirmware,
	polyvisor.FeatureMaxMemory, polyvisor.FeatureBalloon, polyvisor.FeatureMaxVCPUs, polyvisor.FeatureTopology, polyvisor.FeatureDisks,
	polyvisor.FeatureNICs, polyvisor.FeatureShares, polyvisor.FeatureRNG, polyvisor.FeatureVsock,
}

// capabilities declares what the host can do.
func (h *host) capabilities(missing map[polyvisor.Feature]string, listens bool) polyvisor.Capabilities {
	caps := polyvisor.Capabilities{Arch: h.arch, OSType: h.osType, MaxVCPUs: h.maxVCPUs, Reasons: make(map[polyvisor.Feature]string)}
	for f, why := range missing {
		caps.Reasons[f] = why
	}
	if h.noGuests() {
		caps.Reasons[polyvisor.FeatureCoreDump] = "what libvirt's test hypervisor writes is no core file"
	}
	for f, why := range never {
		caps.Reasons[f] = why
	}
	for _, f := range ofConfigs {
		if why := h.lacksSetting(f); why != "" {
			caps.Reasons[f] = why
		}
	}
	if !listens {
		caps.Reasons[polyvisor.FeatureEvents] = fmt.Sprintf("libvirt's driver for %s tells no events", h.hypervisor)
	}
	for _, f := range polyvisor.Features() {
		if caps.Reasons[f] == "" {
			caps.Features = append(caps.Features, f)
		}
	}
	return caps
}

// lacksSetting says why a setting of a Config does not work on the host, nothing if it
// does.
func (h *host) lacksSetting(f polyvisor.Feature) string {
	if h.hypervisor != "QEMU" && h.hypervisor != testHypervisor {
		switch f {
		case polyvisor.FeatureLinuxBoot, polyvisor.FeatureBuiltinGuest, polyvisor.FeatureDisks, polyvisor.FeatureNICs, polyvisor.FeatureMaxMemory, polyvisor.FeatureMaxVCPUs:
			return ""
		}
		return fmt.Sprintf("what %s makes of it is not known; use XML", h.hypervisor)
	}
	if h.caps == nil {
		return ""
	}
	no := func(supported string) string {
		if supported == "no" {
			return fmt.Sprintf("%s on this host does not have it", h.hypervisor)
		}
		return ""
	}
	switch f {
	case polyvisor.FeatureFirmware:
		if h.caps.OS.Loader != nil {
			return no(h.caps.OS.Loader.Supported)
		}
	case polyvisor.FeatureDisks:
		if d := h.caps.Devices; d != nil && d.Disk != nil {
			return no(d.Disk.Supported)
		}
	case polyvisor.FeatureRNG:
		if d := h.caps.Devices; d != nil && d.RNG != nil {
			return no(d.RNG.Supported)
		}
	case polyvisor.FeatureShares:
		if d := h.caps.Devices; d != nil && d.FileSystem != nil {
			if !offers(d.FileSystem.Enums, "driverType", "virtiofs") {
				return fmt.Sprintf("%s on this host does not have virtiofs", h.hypervisor)
			}
			return no(d.FileSystem.Supported)
		}
	}
	return ""
}

// offers says whether a list of values has one.
func offers(enums []libvirtxml.DomainCapsEnum, name, value string) bool {
	for _, e := range enums {
		if e.Name == name && slices.Contains(e.Values, value) {
			return true
		}
	}
	return false
}
