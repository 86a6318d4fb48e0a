package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"berth/configuration"
	"berth/registry"
	"berth/registry/gc"
	"berth/storage/open"
)

// A stopped is a store that this process opened itself, since no server serves it.
type stopped struct {
	config    *configuration.Config
	store     *open.Store
	registry  *registry.Registry
	collector *gc.Collector
}

// stoppedWait is how long a command waits for a process that has the store and may be about to end.
const stoppedWait = 2 * time.Second

// openStopped opens the store of a configuration: to look at it, or to change it too. What is wrong elsewhere in the
// configuration does not matter. A store that one process alone can have is refused while a server has it.
func openStopped(ctx context.Context, env environment, file string, change bool) (*stopped, error) {
	file, err := configuration.Path(file, env.environ, configuration.DefaultPaths())
	if err != nil {
		return nil, err
	}
	c, err := configuration.LoadSections(file, env.environ, "storage", "gc")
	if err != nil {
		return nil, err
	}
	if err := checkKept(c.Storage, change); err != nil {
		return nil, err
	}
	if files := c.Storage.Filesystem; files != nil {
		files.LockWait = stoppedWait
	}
	c.Storage.Cache.Size = 0 // each record is read once
	s := &stopped{config: c}
	options := storeOptions(nil, func(error) {}, func(text string) { fmt.Fprintf(env.stderr, "berth: warning: %s\n", text) })
	if s.store, err = open.Open(ctx, c.Storage, options); err != nil {
		return nil, err
	}
	s.registry, err = registry.Open(ctx, s.store.Driver, &registry.Options{
		Grace: c.GC.Grace, UploadAge: c.Storage.Maintenance.UploadPurging.Age, ReadOnly: func() bool { return !change },
		Secret: []byte("for uploads, of which this process makes none"),
	})
	if err != nil {
		return nil, errors.Join(err, s.store.Close())
	}
	s.collector = gc.New(s.store.Driver, s.registry, collectorOptions(c, s.store))
	return s, nil
}

// checkKept refuses a storage of which nothing is left while no server runs, and one whose files the server could not read any
// more if this process wrote some of them.
func checkKept(c configuration.Storage, change bool) error {
	if c.Filesystem == nil && c.S3 == nil {
		return fmt.Errorf("of the storage %s nothing stays when its server stops", c.Driver())
	}
	if c.Filesystem == nil {
		return nil
	}
	root := c.Filesystem.RootDirectory
	info, err := os.Stat(root)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no storage at %s", root)
	}
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && change && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("the storage at %s belongs to the user number %d, and would get files that its server cannot change: run this command as that user", root, st.Uid)
	}
	return nil
}
