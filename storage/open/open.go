// Package open makes the storage driver that a configuration asks for.
package open

import (
	"context"
	"errors"
	"strings"

	"berth/configuration"
	"berth/storage"
	"berth/storage/cached"
	"berth/storage/filesystem"
	"berth/storage/measured"
	"berth/storage/memory"
	"berth/storage/s3"
)

// Options say what the keys of a storage are to the caches over it, and who is told of what is done. A nil function is
// not called, and stands for no key.
type Options struct {
	Calls  measured.Report            // of the driver, below the cache
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
		return openS3(ctx, c, o)
	case c.InMemory != nil:
		s.Driver, s.Exclusive = o.measure(memory.New()), true
		s.Reads = s.Driver
		return s, nil
	case c.Filesystem != nil:
		s.Exclusive = !c.Filesystem.Shared
		files, err = filesystem.Open(ctx, filesystem.Options{
			Root: c.Filesystem.RootDirectory, Shared: c.Filesystem.Shared, LockWait: c.Filesystem.LockWait,
		})
	case c.EmptyDir != nil:
		s.Exclusive = true
		files, err = filesystem.OpenEmptyDir(ctx, filesystem.Options{
			Root: c.EmptyDir.RootDirectory, Limit: int64(c.EmptyDir.SizeLimit),
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

// keep puts a cache of a size in bytes, 0 for none, over a driver.
func (s *Store) keep(d storage.Driver, size int64, o Options) {
	s.Driver, s.Reads = d, d
	options := cached.Options{Bytes: size, Skip: o.Data, Report: o.Cache}
	switch {
	case size <= 0:
	case s.Exclusive:
		s.Driver = cached.New(d, &options)
		s.Reads = s.Driver
	case o.Stable != nil:
		shared := cached.NewShared(d, o.Epoch, o.Stable, &cached.SharedOptions{Options: options})
		s.Driver, s.Reads = shared, shared.Reads()
	}
}

func (o Options) measure(d storage.Driver) storage.Driver {
	if o.Calls == nil {
		return d
	}
	return measured.New(d, o.Calls)
}

func openS3(ctx context.Context, c configuration.Storage, o Options) (*Store, error) {
	bucket, err := s3.Open(ctx, s3Options(c, o.Warn))
	if err != nil {
		return nil, err
	}
	s := &Store{close: bucket.Close}
	s.keep(o.measure(bucket), int64(c.Cache.Size), o)
	return s, nil
}

// s3Options are those of the configuration.
func s3Options(c configuration.Storage, warn func(string)) s3.Options {
	o := s3.Options{
		Bucket: c.S3.Bucket, Region: c.S3.Region, Endpoint: c.S3.Endpoint(), RedirectEndpoint: c.S3.Redirects(), Root: c.S3.Folder(),
		Credentials: s3.Credentials{
			AccessKey: c.S3.AccessKey.Reveal(), SecretKey: c.S3.SecretKey.Reveal(), SessionToken: c.S3.SessionToken.Reveal(),
			File: c.S3.CredentialsConfigPath,
		},
		TLS: s3.TLS{SkipVerify: c.S3.SkipVerify, CA: c.S3.RootCA}, Proxy: c.S3.Proxy.Reveal(),
		PathStyle: c.S3.ForcePathStyle || c.S3.RegionEndpoint != "" && !c.S3.VirtualHostedStyle,
		DualStack: c.S3.UseDualStack, Accelerate: c.S3.Accelerate, FIPS: c.S3.UseFIPSEndpoint, Checksums: c.S3.Checksums,
		Encrypt: c.S3.Encrypt, KeyID: c.S3.KeyID, UserAgent: c.S3.UserAgent,
		PartSize: int64(c.S3.ChunkSize), Parallel: c.S3.UploadConcurrency, Replicas: c.Replicas, Conditional: s3.Trial(c.S3.ConditionalDelete),
		Warn: warn,
	}
	if class := c.S3.StorageClass; !strings.EqualFold(class, "NONE") {
		o.StorageClass = strings.ToUpper(class)
	}
	if purging := c.Maintenance.UploadPurging; purging.Enabled && !purging.DryRun && !c.Maintenance.ReadOnly.Enabled {
		o.Abandoned = purging.Age
	}
	if cdn := c.S3.CloudFront; cdn != nil {
		o.CloudFront = &s3.CloudFront{BaseURL: cdn.BaseURL, PrivateKey: cdn.PrivateKey, KeyPairID: cdn.KeyPairID, Duration: cdn.Duration}
	}
	return o
}
