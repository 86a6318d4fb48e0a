// Package open makes the storage driver that a configuration asks for.
package open

import (
	"context"
	"errors"
	"time"

	"berth/configuration"
	"berth/storage"
	"berth/storage/cached"
	"berth/storage/filesystem"
	"berth/storage/measured"
	"berth/storage/memory"
	"berth/storage/traced"
)

// emptyDirWait is how long a process waits for another one that has its emptydir. No second one can serve it, and the next one
// of the same folder begins when the first is gone.
const emptyDirWait = 2 * time.Second

// Options say what the keys of a storage are to the caches over it, and who is told of what is done. A nil function is
// not called, and stands for no key.
type Options struct {
	Calls  measured.Report            // of the driver, below the cache
	Spans  traced.Start               // likewise
	Cache  func(key string, hit bool) // see [cached.Options]
	Data   func(key string) bool      // objects that are not kept in memory
	Stable func(key string) bool      // objects that may be kept while others change the storage, see [cached.NewShared]
	Epoch  string                     // the key by which others are told of deletions
	Warn   func(text string)          // of what is amiss with the storage
}

// A Store is an open storage.
type Store struct {
	Driver    storage.Driver // for writing, and for reading what must be true now
	Reads     storage.Driver // for reading what may be a few seconds old; Driver, where this process has the storage to itself
	Exclusive bool           // this process has the storage to itself
	close     func() error
}

// Close waits for nothing: stop using the drivers before.
func (s *Store) Close() error { return s.close() }

// Open opens the storage of a configuration. What is small of it is kept in memory, as far as the configuration allows.
func Open(ctx context.Context, c configuration.Storage, o Options) (*Store, error) {
	s := &Store{close: func() error { return nil }}
	var files *filesystem.Driver
	var err error
	switch {
	case c.S3 != nil:
		return openRemote(ctx, c, o, openS3)
	case c.GCS != nil:
		return openRemote(ctx, c, o, openGCS)
	case c.Azure != nil:
		return openRemote(ctx, c, o, openAzure)
	case c.InMemory != nil:
		s.Driver, s.Exclusive = o.measure(memory.New()), true
		s.Reads = s.Driver
		return s, nil
	case c.Filesystem != nil:
		s.Exclusive = !c.Filesystem.Shared
		files, err = filesystem.Open(ctx, filesystem.Options{
			Root: c.Filesystem.RootDirectory, Shared: c.Filesystem.Shared, LockWait: c.Filesystem.LockWait, Warn: o.Warn,
		})
	case c.EmptyDir != nil:
		s.Exclusive = true
		files, err = filesystem.OpenEmptyDir(ctx, filesystem.Options{
			Root: c.EmptyDir.RootDirectory, Limit: int64(c.EmptyDir.SizeLimit), LockWait: emptyDirWait, Warn: o.Warn,
		})
	default:
		err = errors.New("the configuration names no storage")
	}
	if err != nil {
		return nil, err
	}
	s.close = files.Close
	s.keep(o.measure(files), int64(c.Cache.Size), o)
	return s, nil
}

// keep puts a cache of a size in bytes, 0 for none, over a driver. A process without one has to tell those that have one what it
// deletes.
func (s *Store) keep(d storage.Driver, size int64, o Options) {
	s.Driver, s.Reads = d, d
	options := cached.Options{Bytes: size, Skip: o.Data, Report: o.Cache}
	switch {
	case s.Exclusive && size > 0:
		s.Driver = cached.New(d, &options)
		s.Reads = s.Driver
	case !s.Exclusive && o.Stable != nil:
		shared := cached.NewShared(d, o.Epoch, o.Stable, &cached.SharedOptions{Options: options})
		if s.Driver = shared; size > 0 {
			s.Reads = shared.Reads()
		}
	}
}

func (o Options) measure(d storage.Driver) storage.Driver {
	if o.Spans != nil {
		d = traced.New(d, o.Spans)
	}
	if o.Calls != nil {
		d = measured.New(d, o.Calls)
	}
	return d
}

// A closer is a driver over a service elsewhere.
type closer interface {
	storage.Driver
	Close() error
}

// openRemote opens a storage that any number of processes may use.
func openRemote(ctx context.Context, c configuration.Storage, o Options, open func(context.Context, configuration.Storage, func(string)) (closer, error)) (*Store, error) {
	d, err := open(ctx, c, o.Warn)
	if err != nil {
		return nil, err
	}
	s := &Store{close: d.Close}
	s.keep(o.measure(d), int64(c.Cache.Size), o)
	return s, nil
}
