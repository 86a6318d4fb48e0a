package configuration

import (
	"path/filepath"
	"strings"

	"berth/configuration/strict"
)

// Admin is the section http.admin.
type Admin struct {
	// Turns the socket for commands off.
	Disabled bool `yaml:"disabled" default:"false"`
	// The path of the Unix socket through which commands reach the server; nobody but its user and root can open it. Without
	// one it is `admin/socket` in the `rootdirectory` of the storage, unless that is `shared`; a storage without a folder has
	// none.
	Socket string `yaml:"socket" example:"/run/berth/socket"`
}

func (a Admin) check(c strict.Checking) {
	if a.Socket != "" && (!strings.Contains(a.Socket, "/") || strings.ContainsRune(a.Socket, 0)) {
		c.Fail("socket", "must be the path of a socket such as /run/berth/socket, not %s", strict.Quote(a.Socket))
	}
	if a.Socket != "" && a.Disabled {
		c.Fail("socket", "is given, but http.admin.disabled turns it off; keep one")
	}
}

// AdminSocket returns the path of the socket for commands, "" for none, and whether it was configured rather than found.
func (c *Config) AdminSocket() (path string, configured bool) {
	root := ""
	switch {
	case c.HTTP.Admin.Disabled:
		return "", false
	case c.HTTP.Admin.Socket != "":
		return c.HTTP.Admin.Socket, true
	case c.Storage.Filesystem != nil && !c.Storage.Filesystem.Shared:
		root = c.Storage.Filesystem.RootDirectory
	case c.Storage.EmptyDir != nil:
		root = c.Storage.EmptyDir.RootDirectory
	default:
		return "", false
	}
	return filepath.Join(root, "admin", "socket"), false
}
