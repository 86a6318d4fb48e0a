// Package gcs keeps objects in a bucket of Google Cloud Storage, over HTTP.
//
// A Rev is a generation, and conditions are those on generations. An object of at most one chunk is one request; a larger
// one goes up in a resumable session of the client library. The service takes about one write a second to one object: a
// write that it refuses for that is repeated when there may be another one, see [pacer].
package gcs

import (
	"cmp"
	"context"
	"fmt"
	"net/http"

	gcs "cloud.google.com/go/storage"

	"berth/storage"
	"berth/storage/remote"
)

// Options configure a Driver. Only Bucket is required.
type Options struct {
	Bucket   string
	Endpoint string // scheme and host of an emulator or a private address; "" means those of Google
	Root     string // put before every key, without slashes at its ends; "" means nothing

	Credentials Credentials
	SkipVerify  bool   // trusts any certificate
	CA          string // a PEM file of authorities, in place of those of the system
	Proxy       string // the URL of a proxy; "" means what the environment says
	UserAgent   string // added to that of requests

	Project   string // that pays, where the bucket has those who ask pay
	KeyID     string // of KMS, to encrypt with; "" means that of the bucket
	ChunkSize int64  // bytes; 0 means 8 MiB

	// Warn is told of what is worth a warning, in one line. A nil one is not.
	Warn func(string)
	// Transport wraps what sends the requests to the service. A nil one does not.
	Transport func(http.RoundTripper) http.RoundTripper
}

const defaultChunkSize = 8 << 20

// A Driver is a [storage.Driver] over a bucket. ErrUnavailable may mean that a call took effect, and a conditional call that
// met a lost reply of its own never answers ErrConflict.
//
// An upload takes no more memory than two chunks, and one of at most a chunk little more than what has arrived.
type Driver struct {
	o       Options
	client  *gcs.Client
	bucket  *gcs.BucketHandle
	signer  *signer
	uploads *remote.Uploads
	service remote.Service
	pace    pacer
	paid    bool // by Options.Project
	named   bool // deletions name a generation, since their condition is ignored
}

var (
	_ storage.Driver      = (*Driver)(nil)
	_ storage.BulkDeleter = (*Driver)(nil)
	_ storage.Signer      = (*Driver)(nil)
)

// Open tries the bucket with objects of its own, which it removes, and returns a driver over it. It takes no longer than
// ten seconds. An error names the key of the configuration to fix.
func Open(ctx context.Context, o Options) (*Driver, error) {
	return remote.Open(ctx, "the bucket "+o.Bucket, func(ctx context.Context) (*Driver, error) {
		d, err := prepare(ctx, o)
		if err != nil {
			return nil, err
		}
		return d, d.probe(ctx)
	})
}

// maxParts is more than an object can have: a body is a stream here.
const maxParts = 1 << 30

// prepare makes a driver without asking the service anything.
func prepare(ctx context.Context, o Options) (*Driver, error) {
	o.ChunkSize = cmp.Or(o.ChunkSize, defaultChunkSize)
	if o.Warn == nil {
		o.Warn = func(string) {}
	}
	d := &Driver{o: o, uploads: remote.NewUploads("storage.gcs.chunksize", o.ChunkSize, maxParts, 1)}
	d.service.Judge = judge
	access, err := newAccess(ctx, o)
	if err != nil {
		return nil, err
	}
	if d.client, err = newClient(ctx, o, access.client); err != nil {
		return nil, err
	}
	if d.signer, err = newSigner(ctx, o, access); err != nil {
		return nil, err
	}
	d.bucket = d.client.Bucket(o.Bucket).Retryer(gcs.WithPolicy(gcs.RetryNever)) // retries are those of remote.Service
	return d, nil
}

// Close ends the connections that are idle. Open readers stay good.
func (d *Driver) Close() error {
	if err := d.client.Close(); err != nil {
		return fmt.Errorf("close the bucket: %w", err)
	}
	return nil
}

// name is the key of an object in the bucket.
func (d *Driver) name(key string) string {
	if d.o.Root == "" {
		return key
	}
	return d.o.Root + "/" + key
}

func (d *Driver) object(key string) *gcs.ObjectHandle { return d.bucket.Object(d.name(key)) }

// check returns an error unless a call about a key may begin.
func check(ctx context.Context, operation, key string) error {
	if err := storage.CheckKey(key); err != nil {
		return fmt.Errorf("%s: %w", operation, err)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s %s: %w", operation, key, err)
	}
	return nil
}

func conflict(operation, key string) error {
	return fmt.Errorf("%s %s: %w", operation, key, storage.ErrConflict)
}
