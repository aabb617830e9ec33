package polyvisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Early gives a connection for machines that run before a host is fully up
// (AVirtualizationService_create with early): only the domains that the *.xml
// files of the directory define exist for it to make, and none may be defined,
// created or restored otherwise. They are defined when the connection is
// opened; files without a UUID give their domain the one it has, or a random
// one. Needs FeatureXML.
func Early(dir string) Option { return func(o *options) { o.early = dir } }

var errEarly = fmt.Errorf("%w: an early connection runs the domains that its directory defines, and no others", ErrPermission)

// defineEarly defines the domains of an early connection.
func (c *Conn) defineEarly(ctx context.Context, dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.xml"))
	if err == nil && len(files) == 0 {
		_, err = os.Stat(dir)
	}
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: directory of early domains: %w", ErrNotFound, err)
	}
	if err != nil {
		return fmt.Errorf("%w: directory of early domains: %w", ErrInvalidConfig, err)
	}
	for _, file := range files {
		if err := c.defineEarlyFile(ctx, file); err != nil {
			return fmt.Errorf("early domain %s: %w", file, err)
		}
	}
	return nil
}

func (c *Conn) defineEarlyFile(ctx context.Context, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if _, raw := As[XMLDefiner](c.driver); raw {
		_, err := c.DefineXML(ctx, string(text))
		return err
	}
	config, err := c.parseXML(string(text))
	if err != nil {
		return err
	}
	if old, err := c.Domain(ctx, config.Name); err == nil && config.UUID == (Config{}).UUID {
		config.UUID = old.UUID()
	}
	_, err = c.Define(ctx, config)
	return err
}
