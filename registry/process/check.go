package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/sirupsen/logrus"

	"berth/auth/certificate"
	"berth/auth/guard"
	"berth/configuration"
	"berth/metrics"
	"berth/registry/server"
	"berth/storage/filesystem"
)

// Check says why [Serve] would refuse a configuration that [Load] returned, as far as that can be known without opening its storage
// and without listening: an error joins all that it finds. It reads the files that auth and http.tls name, looks whose the folder of
// the storage is, and fetches the keys of the token server.
func Check(ctx context.Context, c *configuration.Config) error {
	told := func(metrics.Reloadable, string, error) {}
	var authorities *certificate.Authorities
	g, err := guard.Open(ctx, c, told)
	if err == nil {
		authorities = g.Authorities()
	}
	_, tlsErr := openTLS(c, authorities, told, logrus.New())
	return errors.Join(err, tlsErr, checkAddress(c), checkFolder(c))
}

func checkAddress(c *configuration.Config) error {
	if err := server.CheckAddress(c.HTTP.Net, c.HTTP.Addr, c.Auth.Configured()); err != nil {
		return c.At("http.addr", err)
	}
	return nil
}

// checkFolder asks for no right that the user of the server has and this one may lack.
func checkFolder(c *configuration.Config) error {
	var err error
	switch {
	case c.Storage.Filesystem != nil:
		err = filesystem.Check(c.Storage.Filesystem.RootDirectory)
	case c.Storage.EmptyDir != nil:
		err = filesystem.CheckEmptyDir(c.Storage.EmptyDir.RootDirectory)
	}
	if err == nil || errors.Is(err, fs.ErrPermission) {
		return nil
	}
	return c.At("storage."+c.Storage.Driver()+".rootdirectory", fmt.Errorf("%s: %w", place(c.Storage), err))
}
