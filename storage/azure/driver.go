// Package azure keeps objects as block blobs in a container of Azure Blob Storage.
//
// Conditions are those of the service: If-None-Match and If-Match on ETags, for puts and deletes alike. An object of at most
// one part is one Put Blob; a larger one goes up in blocks, several at a time, of which a list makes a blob. [Open] finds out
// whether the account does what the driver relies on: one with a hierarchical namespace lists by folders, and is refused.
package azure

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"berth/storage"
	"berth/storage/remote"
)

// Options configure a Driver. Account and Container are required.
type Options struct {
	Account   string
	Container string
	Realm     string // of the cloud; "" means core.windows.net
	Endpoint  string // the URL of the blob service of the account; "" means https://<Account>.blob.<Realm>
	Root      string // put before every key, without slashes at its ends; "" means nothing

	Credentials Credentials
	TLS         TLS

	PartSize int64 // bytes of a block; 0 means 10 MiB
	Parallel int   // blocks on their way at a time, of all uploads together; 0 means 8

	// Warn is told of what is worth a warning, in one line. A nil one is not.
	Warn func(string)
	// Transport wraps what sends the requests to the service, and those for tokens. A nil one does not.
	Transport func(http.RoundTripper) http.RoundTripper
}

// TLS says whom to trust.
type TLS struct {
	SkipVerify bool
	CA         string // a PEM file of authorities, in place of those of the system
}

const (
	defaultRealm    = "core.windows.net"
	defaultPartSize = 10 << 20
	defaultParallel = 8
	// maxBlocks is how many blocks a blob may have.
	maxBlocks = 50_000
)

// A Driver is a [storage.Driver] over a container. A Rev is an ETag, which the service never uses twice for a blob.
// ErrUnavailable may mean that a call took effect. Uploads take the memory that [remote.Uploads] says.
type Driver struct {
	o       Options
	client  *container.Client
	sign    signer
	uploads *remote.Uploads
	service remote.Service
	dotless bool // names lose dots at the ends of their parts
}

var (
	_ storage.Driver      = (*Driver)(nil)
	_ storage.BulkDeleter = (*Driver)(nil)
	_ storage.Signer      = (*Driver)(nil)
)

// Open tries the container with objects of its own, which it removes, and returns a driver over it. It takes no longer than
// ten seconds. An error names the key of the configuration to fix.
func Open(ctx context.Context, o Options) (*Driver, error) {
	return remote.Open(ctx, fmt.Sprintf("the container %s of the account %s", o.Container, o.Account), func(ctx context.Context) (*Driver, error) {
		d, err := prepare(o)
		if err != nil {
			return nil, err
		}
		return d, d.probe(ctx)
	})
}

// prepare makes a driver without asking the service anything.
func prepare(o Options) (*Driver, error) {
	o.Realm = cmp.Or(o.Realm, defaultRealm)
	o.Endpoint = strings.TrimSuffix(cmp.Or(o.Endpoint, "https://"+o.Account+".blob."+o.Realm), "/")
	o.PartSize = cmp.Or(o.PartSize, defaultPartSize)
	o.Parallel = cmp.Or(o.Parallel, defaultParallel)
	if o.Warn == nil {
		o.Warn = func(string) {}
	}
	d := &Driver{o: o, uploads: remote.NewUploads("storage.azure.chunksize", o.PartSize, maxBlocks, o.Parallel)}
	d.service.Judge = judge
	var err error
	d.client, d.sign, err = newClient(o)
	return d, err
}

// Close does nothing: there is nothing in the background.
func (d *Driver) Close() error { return nil }

// name is the name of the blob of a key.
func (d *Driver) name(key string) string {
	if d.o.Root == "" {
		return key
	}
	return d.o.Root + "/" + key
}

func (d *Driver) blob(key string) *blockblob.Client { return d.client.NewBlockBlobClient(d.name(key)) }

// check returns an error unless a call about a key may begin.
func (d *Driver) check(ctx context.Context, operation, key string) error {
	err := storage.CheckKey(key)
	if err == nil && d.dotless && strings.Contains(key+"/", "./") {
		err = fmt.Errorf("%w: %q: this service has no names with a dot at the end", storage.ErrInvalidKey, key)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", operation, err)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s %s: %w", operation, key, err)
	}
	return nil
}

// errNoBlocks says that blocks which were sent are not there any more: somebody else wrote the same blob.
var errNoBlocks = fmt.Errorf("%w: the service does not have these blocks any more", storage.ErrUnavailable)

func conflict(operation, key string) error {
	return fmt.Errorf("%s %s: %w", operation, key, storage.ErrConflict)
}
