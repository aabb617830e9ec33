//go:build linux

package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// sendArtifacts writes one tar archive in which the things of paths[i] are named i or i/...; only regular
// files and directories are sent.
func sendArtifacts(w io.Writer, paths []string) error {
	tw := tar.NewWriter(w)
	var errs []error
	for i, path := range paths {
		err := filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(path, p)
			if err != nil {
				return err
			}
			return sendOne(tw, p, filepath.Join(strconv.Itoa(i), rel), d)
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("artifact %s: %w", path, err))
		}
	}
	return errors.Join(append(errs, tw.Close())...)
}

func sendOne(tw *tar.Writer, path, name string, d fs.DirEntry) error {
	if !d.Type().IsRegular() && !d.IsDir() {
		return nil
	}
	info, err := d.Info()
	if err != nil {
		return err
	}
	h, err := tar.FileInfoHeader(info, "")
	if err != nil {
		return err
	}
	h.Name = name
	if d.IsDir() {
		h.Name += "/"
		return tw.WriteHeader(h)
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	// A file that grows meanwhile is cut at the size announced.
	_, err = io.CopyN(tw, f, h.Size)
	return err
}
