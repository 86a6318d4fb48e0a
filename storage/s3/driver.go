// Package s3 keeps objects in a bucket of S3, or of a service that speaks its protocol.
//
// Conditions are those of the service: If-None-Match and If-Match on PUT. An object of at most one part is one PUT; a larger
// one goes up in parts, several at a time. [Open] finds out what the service really does before anything relies on it.
//
// Two objects are not what they seem. One without bytes is a tombstone: it stands for a key that has no object, where the
// service has no conditional DELETE, and the driver hides it. An object that really is empty is therefore kept as
// [emptyBody] with a mark in its metadata.
package s3

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"sync"

	"github.com/aws/aws-sdk-go-v2/feature/cloudfront/sign"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"berth/storage"
	"berth/storage/remote"
)

// Options configure a Driver. Only Bucket is required, and Region unless there is an Endpoint.
type Options struct {
	Bucket   string
	Region   string
	Endpoint string // scheme and host; "" means that of AWS for the region
	// RedirectEndpoint is the scheme and host under which clients reach the service; "" means Endpoint.
	RedirectEndpoint string
	Root             string // put before every key, without slashes at its ends; "" means nothing

	Credentials Credentials
	TLS         TLS
	Proxy       string // the URL of a proxy; "" means what the environment says

	PathStyle    bool // the bucket is in the path, not in the host name
	DualStack    bool
	Accelerate   bool
	FIPS         bool
	Checksums    string // when_supported (the default) or when_required
	Encrypt      bool   // asks the service to encrypt what is put
	KeyID        string // of KMS, to encrypt with
	StorageClass string // "" means that of the service
	UserAgent    string // added to that of requests

	PartSize    int64 // bytes of a part, 5 MiB at least; 0 means 10 MiB
	Parallel    int   // parts on their way at a time, of all uploads together; 0 means 8
	Replicas    int   // 1 allows a bucket without conditional puts
	Conditional Trial // whether DELETE has conditions

	CloudFront *CloudFront

	// Warn is told of what is worth a warning, in one line. A nil one is not.
	Warn func(string)
	// Transport wraps what sends the requests to the service. A nil one does not.
	Transport func(http.RoundTripper) http.RoundTripper
}

// A Trial says whether the service can do something.
type Trial string

// The trials.
const (
	Find Trial = "auto" // trust AWS as far as it shows at the start that it can; no other service
	Yes  Trial = "true"
	No   Trial = "false"
)

const (
	defaultPartSize = 10 << 20
	defaultParallel = 8
)

// A Driver is a [storage.Driver] over a bucket. A Rev is an ETag: equal contents may share one. ErrUnavailable may mean that
// a call took effect, and a conditional call that met a lost reply of its own never answers ErrConflict.
//
// Uploads take the memory that [remote.Uploads] says.
type Driver struct {
	o       Options
	client  *s3.Client
	presign *s3.PresignClient
	cdn     *sign.URLSigner
	uploads *remote.Uploads
	service remote.Service

	emulated bool // conditions are decided here, under keyLocks
	direct   bool // DELETE has conditions
	bare     bool // PUT takes an ETag for another one unless its quotes are left out
	keyLocks [256]sync.Mutex
}

var (
	_ storage.Driver      = (*Driver)(nil)
	_ storage.BulkDeleter = (*Driver)(nil)
	_ storage.Signer      = (*Driver)(nil)
	_ storage.Tidier      = (*Driver)(nil)
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

// prepare makes a driver without asking the service anything.
func prepare(ctx context.Context, o Options) (*Driver, error) {
	o.PartSize = cmp.Or(o.PartSize, defaultPartSize)
	o.Parallel = cmp.Or(o.Parallel, defaultParallel)
	o.Conditional = cmp.Or(o.Conditional, Find)
	if o.Warn == nil {
		o.Warn = func(string) {}
	}
	d := &Driver{o: o, uploads: remote.NewUploads("storage.s3.chunksize", o.PartSize, maxParts, o.Parallel)}
	d.service.Judge = judge
	client, err := newClient(ctx, o)
	if err != nil {
		return nil, err
	}
	if o.CloudFront != nil {
		if d.cdn, err = o.CloudFront.signer(); err != nil {
			return nil, err
		}
	}
	d.client, d.presign = client, newPresigner(client, o.RedirectEndpoint)
	return d, nil
}

// Close has nothing to end. Open readers stay good.
func (d *Driver) Close() error { return nil }

// name is the key of an object in the bucket.
func (d *Driver) name(key string) string {
	if d.o.Root == "" {
		return key
	}
	return d.o.Root + "/" + key
}

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

// lock excludes other calls that decide about a key here.
func (d *Driver) lock(key string) (unlock func()) {
	var sum byte
	for i := range len(key) {
		sum = sum*31 + key[i]
	}
	d.keyLocks[sum].Lock()
	return d.keyLocks[sum].Unlock
}
