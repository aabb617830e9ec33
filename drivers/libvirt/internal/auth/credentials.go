package auth

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/uri"
)

// credentials gives user and password: the user of the URI (unless it is ssh's),
// auth.conf, then the callback.
func (a *authenticator) credentials(ctx context.Context) (user, password string, err error) {
	if a.Target.Transport != uri.SSH {
		user = a.Target.User
	}
	host := a.Target.Host
	if host == "" {
		host = "localhost"
	}
	stored, where, err := a.stored(host)
	if err != nil {
		return "", "", err
	}
	if user == "" {
		user = stored.user
	}
	if stored.user == "" || stored.user == user {
		password = stored.password
	}
	if user != "" && password != "" {
		return user, password, nil
	}
	if a.Credentials == nil {
		missing := "password of " + user
		if user == "" {
			missing = "user name"
		}
		return "", "", fail(ErrConfig, "the daemon wants a user name and a password (SASL), and there is no %s: write authname= and password= into a section [credentials-NAME] of %s, and credentials=NAME into [auth-libvirt-%s]", missing, where, host)
	}
	about := host
	if user != "" {
		about = user + "@" + host
	}
	given, password, err := a.Credentials(ctx, CredentialSASL, about)
	if err != nil {
		return "", "", fail(ErrConfig, "credentials for %s: %w", about, err)
	}
	if given != "" {
		user = given
	}
	if user == "" {
		return "", "", fail(ErrConfig, "credentials for %s: no user name was given", about)
	}
	return user, password, nil
}

// stored looks in auth.conf, and names the file it looked in or would.
func (a *authenticator) stored(host string) (account, string, error) {
	file, given := a.file()
	if file == "" {
		return account{}, filepath.Join(a.Env.UserConfigDir(), "auth.conf"), nil
	}
	conf, err := loadConfig(file)
	if errors.Is(err, fs.ErrNotExist) && !given {
		return account{}, file, nil
	}
	if err != nil {
		return account{}, file, err
	}
	acc, err := conf.lookup("libvirt", host)
	return acc, file, err
}

// file finds auth.conf as docs/auth.rst says; given tells one that must be there.
func (a *authenticator) file() (name string, given bool) {
	if name := a.Env.Getenv("LIBVIRT_AUTH_FILE"); name != "" {
		return name, true
	}
	if a.Target.AuthFile != "" {
		return a.Target.AuthFile, true
	}
	for _, dir := range []string{a.Env.UserConfigDir(), filepath.Join(a.Env.Etc, "libvirt")} {
		name := filepath.Join(dir, "auth.conf")
		if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			return name, false
		}
	}
	return "", false
}
