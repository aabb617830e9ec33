//go:build !linux

package nestedvm

import (
	"context"
	"io/fs"
)

func run(context.Context, Config) (Result, error) { return Result{}, Available() }

func fileID(fs.FileInfo) (hostFile, bool) { return hostFile{}, false }
