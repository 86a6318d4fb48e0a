// Package open makes the storage driver that a configuration asks for.
package open

import (
	"context"
	"errors"

	"berth/configuration"
	"berth/storage"
	"berth/storage/cached"
	"berth/storage/filesystem"
	"berth/storage/measured"
	"berth/storage/memory"
)

// Reports are told what is done with a storage. A nil one is not.
type Reports struct {
	Calls measured.Report            // of the driver, below the cache
	Cache func(key string, hit bool) // see [cached.Options]
}

// Driver opens the storage of a configuration. A storage that this process has to itself is exclusive: what is small of
// it is kept in memory, as far as the configuration allows. Closing waits for nothing: stop using the driver before.
func Driver(ctx context.Context, c configuration.Storage, reports Reports) (d storage.Driver, closeStorage func() error, exclusive bool, err error) {
	var files *filesystem.Driver
	switch {
	case c.InMemory != nil:
		return reports.measure(memory.New()), func() error { return nil }, true, nil
	case c.Filesystem != nil:
		exclusive = !c.Filesystem.Shared
		files, err = filesystem.Open(ctx, filesystem.Options{
			Root: c.Filesystem.RootDirectory, Shared: c.Filesystem.Shared, LockWait: c.Filesystem.LockWait,
		})
	case c.EmptyDir != nil:
		exclusive = true
		files, err = filesystem.OpenEmptyDir(ctx, filesystem.Options{
			Root: c.EmptyDir.RootDirectory, Limit: int64(c.EmptyDir.SizeLimit),
		})
	default:
		err = errors.New("the configuration names no storage")
	}
	if err != nil {
		return nil, nil, false, err
	}
	if size := int64(c.Cache.Size); exclusive && size > 0 {
		return cached.New(reports.measure(files), &cached.Options{Bytes: size, Report: reports.Cache}), files.Close, exclusive, nil
	}
	return reports.measure(files), files.Close, exclusive, nil
}

func (r Reports) measure(d storage.Driver) storage.Driver {
	if r.Calls == nil {
		return d
	}
	return measured.New(d, r.Calls)
}
