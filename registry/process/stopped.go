package process

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
	"berth/registry/admin"
	"berth/registry/gc"
	"berth/storage/open"
)

// A Stopped is a store that this process opened itself, since no server serves it.
type Stopped struct {
	Exclusive bool // this process has the store to itself
	Collector *gc.Collector
	config    *configuration.Config
	store     *open.Store
}

// Close waits for nothing: let calls of the collector end before.
func (s *Stopped) Close() error { return s.store.Close() }

// CollectionStatus says how the collections of the store are.
func (s *Stopped) CollectionStatus(ctx context.Context) (admin.GCStatus, error) {
	return collectionStatus(ctx, s.config, s.Collector)
}

// stoppedWait is how long a command waits for a process that has the store and may be about to end.
const stoppedWait = 2 * time.Second

// OpenStopped opens the store of a configuration: to look at it, or to change it too. What is wrong elsewhere in the
// configuration does not matter. A store that one process alone can have is refused while a server has it. warn is
// told of what is amiss with it.
func OpenStopped(ctx context.Context, path string, environ []string, change bool, warn func(string)) (*Stopped, error) {
	file, err := configuration.Path(path, environ, configuration.DefaultPaths())
	if err != nil {
		return nil, err
	}
	c, err := configuration.LoadSections(file, environ, "storage", "gc")
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
	store, err := open.Open(ctx, c.Storage, storeOptions(nil, func(error) {}, warn))
	if err != nil {
		return nil, err
	}
	reg, err := registry.Open(ctx, store.Driver, &registry.Options{
		Grace: c.GC.Grace, UploadAge: c.Storage.Maintenance.UploadPurging.Age, ReadOnly: func() bool { return !change },
		Secret: []byte("for uploads, of which this process makes none"),
	})
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	o, driver := collectorOptions(c, store)
	collector := gc.New(driver, reg, o)
	return &Stopped{Exclusive: store.Exclusive, Collector: collector, config: c, store: store}, nil
}

// checkKept refuses a storage of which nothing is left while no server runs, and one whose files the server could not read any
// more if this process wrote some of them.
func checkKept(c configuration.Storage, change bool) error {
	if c.InMemory != nil || c.EmptyDir != nil {
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
