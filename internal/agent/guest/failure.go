//go:build linux

package guest

import (
	"errors"
	"io/fs"
	"syscall"

	"github.com/polyvisor/polyvisor/internal/agent/proto"
)

// failureOf gives an error of the system its code.
func failureOf(err error) *proto.Failure {
	code := proto.FailOther
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR):
		code = proto.FailNotFound
	case errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS):
		code = proto.FailPermission
	case errors.Is(err, fs.ErrExist):
		code = proto.FailExists
	case errors.Is(err, syscall.E2BIG) || errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENAMETOOLONG) || errors.Is(err, syscall.EISDIR) || errors.Is(err, syscall.ELOOP):
		code = proto.FailInvalid
	case errors.Is(err, syscall.ENOMEM) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.EDQUOT):
		code = proto.FailResource
	}
	return &proto.Failure{Code: code, Message: err.Error()}
}
