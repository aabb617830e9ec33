package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/polyvisor/polyvisor"
)

// deviceCommand is a command about a device of a domain, described in a file.
func (a *app) deviceCommand(c *cobra.Command, what string, typed func(*polyvisor.Domain, context.Context, polyvisor.Device) error,
	raw func(*polyvisor.Domain, context.Context, string) error) *cobra.Command {
	c.Args = wants(2, "a domain and a file with a device in JSON or XML, or - for standard input")
	c.ValidArgsFunction = a.completeDomainAndFile("", "json", "xml")
	c.RunE = a.action(func(ctx context.Context, args []string) error {
		in, err := a.readInput(args[1])
		if err != nil {
			return err
		}
		if in.isXML() {
			return a.withDomain(ctx, args[0], func(dom *polyvisor.Domain) error {
				return a.done(dom, "has its device "+what, raw(dom, ctx, in.text))
			})
		}
		dev, err := in.device()
		if err != nil {
			return err
		}
		return a.withDomain(ctx, args[0], func(dom *polyvisor.Domain) error {
			return a.done(dom, "has its device "+what, typed(dom, ctx, dev))
		})
	})
	return c
}

const aboutDeviceFile = `

FILE holds the device in libvirt's XML, such as <disk> or <interface>, or in JSON:
an object with one of the fields disk, nic, share and rng, as in "polyvisor
config". "-" is standard input.`

func (a *app) attachDeviceCommand() *cobra.Command {
	return a.deviceCommand(&cobra.Command{
		Use:   "attach-device NAME FILE|-",
		Short: "Add a device to a domain",
		Long: `Attach-device adds a device: to the running guest of an active domain, for the
rest of its run, and to the definition of an inactive one.` + aboutDeviceFile,
		Example: "  polyvisor attach-device web disk.xml\n  echo '{\"nic\": {\"network\": \"bridge\", \"source\": \"br0\"}}' | polyvisor attach-device web -",
	}, "attached", (*polyvisor.Domain).AttachDevice, (*polyvisor.Domain).AttachDeviceXML)
}

func (a *app) detachDeviceCommand() *cobra.Command {
	return a.deviceCommand(&cobra.Command{
		Use:   "detach-device NAME FILE|-",
		Short: "Remove a device from a domain",
		Long: `Detach-device removes the device of the same kind and name: the target of a disk,
the MAC address of an interface, the tag of a shared directory. It returns when
the guest has let go of it.` + aboutDeviceFile,
		Example: "  polyvisor detach-device web disk.xml\n  echo '{\"disk\": {\"target\": \"vdb\", \"source\": \"b.img\"}}' | polyvisor detach-device web -",
	}, "detached", (*polyvisor.Domain).DetachDevice, (*polyvisor.Domain).DetachDeviceXML)
}

func (a *app) updateDeviceCommand() *cobra.Command {
	return a.deviceCommand(&cobra.Command{
		Use:   "update-device NAME FILE|-",
		Short: "Change the settings of a domain's device",
		Long: `Update-device replaces the settings of the device of the same kind and name: the
target of a disk, the MAC address of an interface, the tag of a shared
directory.` + aboutDeviceFile,
		Example: "  polyvisor update-device web disk.xml",
	}, "updated", (*polyvisor.Domain).UpdateDevice, (*polyvisor.Domain).UpdateDeviceXML)
}
