package cli

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/kvm/image"
)

// Exit codes of image check beyond those of all commands.
const (
	exitCorrupt = 4
	exitLeaks   = 5
)

func (a *app) imageCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "image",
		Short: "Make, describe, convert, resize and check disk images",
		Long: `Image works with files that hold the disks of virtual machines, in the formats
raw and qcow2. It needs no hypervisor. Files are locked while they are used, so
that an image of a running domain is not changed.`,
		Example: "  polyvisor image create disk.qcow2 10GiB\n  polyvisor image info disk.qcow2",
		Args:    wants(0, "create, info, convert, resize or check"),
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(a.imageCreateCommand(), a.imageInfoCommand(), a.imageConvertCommand(), a.imageResizeCommand(), a.imageCheckCommand())
	return c
}

// formatFlag gives a command a flag for a format of images.
func formatFlag(cmd *cobra.Command, to *string, name, short, without, text string) {
	cmd.Flags().StringVarP(to, name, short, without, text)
	_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions([]string{"raw", "qcow2"}, cobra.ShellCompDirectiveNoFileComp))
}

func (a *app) imageCreateCommand() *cobra.Command {
	var format, backing, backingFormat string
	var cluster size
	var force bool
	c := &cobra.Command{
		Use:   "create FILE [SIZE]",
		Short: "Make an empty image",
		Long: `Create makes an image of a disk that is all zeroes. It takes little room until
something is written. With --backing the disk begins with the contents of another
image, which must not change from then on; the size may then be left out.`,
		Example: "  polyvisor image create disk.qcow2 10GiB\n  polyvisor image create --backing base.qcow2 --backing-format qcow2 disk.qcow2",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && backing != "" {
				return nil
			}
			return wants(2, "a file and a size")(cmd, args)
		},
		RunE: a.action(func(_ context.Context, args []string) error {
			var bytes polyvisor.Bytes
			if len(args) > 1 {
				var err error
				if bytes, err = parseSize(args[1:]); err != nil {
					return usage("image create: %w", err)
				}
			}
			if backing != "" && backingFormat == "" {
				return usage("image create: --backing needs --backing-format, which says what the file is")
			}
			return image.Create(args[0], int64(bytes), image.CreateOptions{Format: image.Format(format), ClusterSize: int64(cluster),
				Backing: backing, BackingFormat: image.Format(backingFormat), Force: force})
		}),
	}
	formatFlag(c, &format, "format", "f", "qcow2", "format of the image: raw or qcow2")
	formatFlag(c, &backingFormat, "backing-format", "F", "", "format of the backing file: raw or qcow2")
	c.Flags().StringVarP(&backing, "backing", "b", "", "image that the new one is based on, counted from its directory")
	c.Flags().Var(&cluster, "cluster-size", "size of the clusters of a qcow2 image (default 64KiB)")
	c.Flags().BoolVar(&force, "force", false, "replace a file that is there")
	return c
}

func (a *app) imageInfoCommand() *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:     "info FILE",
		Short:   "Describe an image",
		Long:    `Info shows what an image is and how large. The image may be in use.`,
		Example: "  polyvisor image info disk.qcow2\n  polyvisor image info -o json disk.qcow2",
		Args:    wants(1, "a file"),
	}
	output := outputFlag(c)
	formatFlag(c, &format, "format", "f", "", "format of the image: raw or qcow2 (default: what it looks like)")
	c.RunE = a.action(func(_ context.Context, args []string) error {
		d, err := image.Info(args[0], image.Format(format))
		if err != nil {
			return err
		}
		if *output == formatJSON {
			return a.printJSON(d)
		}
		rows := [][]string{{"File:", d.Path}, {"Format:", string(d.Format)}, {"Disk:", bytesOf(d.Size)}, {"File size:", bytesOf(d.FileSize)}, {"Used:", bytesOf(d.Used)}}
		if d.Format == image.QCOW2 {
			rows = append(rows, []string{"Version:", strconv.Itoa(d.Version)}, []string{"Cluster size:", bytesOf(d.ClusterSize)}, []string{"Compression:", d.Compression})
		}
		if d.Backing != "" {
			rows = append(rows, []string{"Based on:", d.Backing}, []string{"Its format:", d.BackingFormat})
		}
		if d.Snapshots > 0 {
			rows = append(rows, []string{"Snapshots:", strconv.Itoa(d.Snapshots)})
		}
		if d.Dirty {
			rows = append(rows, []string{"State:", "not closed"})
		}
		if d.Corrupt {
			rows = append(rows, []string{"State:", "damaged"})
		}
		return a.printTable(rows)
	})
	return c
}

func bytesOf(n int64) string { return fmt.Sprintf("%s (%d bytes)", polyvisor.Bytes(n), n) }

func (a *app) imageConvertCommand() *cobra.Command {
	var from, to string
	var cluster size
	var force, backing bool
	c := &cobra.Command{
		Use:   "convert FROM TO",
		Short: "Copy an image, into another format",
		Long: `Convert copies a disk to a new image, without what is zero. The new file is there
once it is complete and on stable storage; if the copy fails or is interrupted,
nothing of it is left.`,
		Example: "  polyvisor image convert disk.img disk.qcow2\n  polyvisor image convert --to raw disk.qcow2 disk.img",
		Args:    wants(2, "an image and a new file"),
		RunE: a.action(func(ctx context.Context, args []string) error {
			p := a.newProgress("convert")
			err := image.Convert(ctx, args[0], args[1], image.ConvertOptions{From: image.Format(from), To: image.Format(to), ClusterSize: int64(cluster),
				Backing: backing, Force: force, Progress: p.update})
			p.end()
			return err
		}),
	}
	formatFlag(c, &from, "from", "f", "", "format of the image: raw or qcow2 (default: what it looks like)")
	formatFlag(c, &to, "to", "t", "qcow2", "format of the new file: raw or qcow2")
	c.Flags().Var(&cluster, "cluster-size", "size of the clusters of a qcow2 image (default 64KiB)")
	c.Flags().BoolVar(&backing, "allow-backing", false, "read also the files that the image says it is based on, whichever they are")
	c.Flags().BoolVar(&force, "force", false, "replace a file that is there")
	return c
}

func (a *app) imageResizeCommand() *cobra.Command {
	var format string
	var shrink, backing bool
	c := &cobra.Command{
		Use:   "resize FILE SIZE",
		Short: "Change the size of a disk",
		Long: `Resize changes the size of the disk in an image that is not in use. What comes in
is zero; partitions and file systems stay as they are. A smaller size loses what
is beyond the new end and needs --shrink.`,
		Example: "  polyvisor image resize disk.qcow2 20GiB",
		Args:    wants(2, "a file and a size"),
		RunE: a.action(func(_ context.Context, args []string) error {
			bytes, err := parseSize(args[1:])
			if err != nil {
				return usage("image resize: %w", err)
			}
			return image.Resize(args[0], int64(bytes), image.ResizeOptions{Format: image.Format(format), Shrink: shrink, Backing: backing})
		}),
	}
	formatFlag(c, &format, "format", "f", "", "format of the image: raw or qcow2 (default: what it looks like)")
	c.Flags().BoolVar(&shrink, "shrink", false, "make the disk smaller: what is beyond the new end is lost")
	c.Flags().BoolVar(&backing, "allow-backing", false, "read also the files that the image says it is based on, whichever they are")
	return c
}

func (a *app) imageCheckCommand() *cobra.Command {
	var repair bool
	c := &cobra.Command{
		Use:   "check FILE",
		Short: "Verify the tables of a qcow2 image",
		Long: `Check compares what the tables of a qcow2 image refer to with its reference
counts. Leaked clusters, as a crash leaves them, cost room and nothing else;
--repair gives them back. The exit code is 4 if the image is damaged, 5 if
clusters are leaked, and 0 if all is well.`,
		Example: "  polyvisor image check disk.qcow2\n  polyvisor image check --repair disk.qcow2",
		Args:    wants(1, "a file"),
	}
	output := outputFlag(c)
	c.Flags().BoolVar(&repair, "repair", false, "give leaked clusters back, if the image is not damaged")
	c.RunE = a.action(func(ctx context.Context, args []string) error {
		p := a.newProgress("check")
		r, err := image.Check(ctx, args[0], repair, p.update)
		p.end()
		if err != nil {
			return err
		}
		if *output == formatJSON {
			err = a.printJSON(r)
		} else {
			err = a.printCheck(r)
		}
		switch {
		case err != nil:
			return err
		case r.Corruptions > 0:
			return &exitError{exitCorrupt, fmt.Errorf("%s is damaged: qemu-img check -r all may repair it; else restore it", r.Path)}
		case r.Leaks > r.Repaired:
			return &exitError{exitLeaks, fmt.Errorf("%s has leaked clusters, which cost room alone; --repair gives them back", r.Path)}
		}
		return nil
	})
	return c
}

func (a *app) printCheck(r image.CheckResult) error {
	for _, p := range r.Problems {
		if err := a.say("%s", p); err != nil {
			return err
		}
	}
	n := func(n int64) string { return strconv.FormatInt(n, 10) }
	return a.printTable([][]string{{"Corruptions:", n(r.Corruptions)}, {"Leaked clusters:", n(r.Leaks)}, {"Repaired:", n(r.Repaired)},
		{"Clusters with data:", n(r.Allocated)}, {"Of them compressed:", n(r.Compressed)}, {"Cluster size:", bytesOf(r.ClusterSize)}})
}
