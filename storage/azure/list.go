package azure

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"berth/storage"
	"berth/storage/remote"
)

// List yields objects by pages of up to five thousand. The service cannot begin a listing at a key: what comes before after is
// read and dropped, so that the cost of a late page is that of all before it, one request for each five thousand objects.
func (d *Driver) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		if !isPrefix(prefix) {
			return
		}
		seen, marker := "", (*string)(nil)
		for {
			page, next, err := d.page(ctx, prefix, marker)
			if err != nil {
				yield(storage.Info{}, err)
				return
			}
			for _, found := range page {
				key := strings.TrimPrefix(value(found.Name), d.name(""))
				if key <= seen && seen != "" {
					yield(storage.Info{}, fmt.Errorf("list %s: the service lists %q after %q, which is not the order of their bytes", prefix, key, seen))
					return
				}
				seen = key
				if info, ok := listed(key, found); ok && key > after && !yield(info, nil) {
					return
				}
			}
			if value(next) == "" {
				return
			}
			marker = next
		}
	}
}

// isPrefix reports whether keys may begin so.
func isPrefix(prefix string) bool {
	return prefix == "" || storage.CheckKey(prefix) == nil || storage.CheckKey(prefix+"x") == nil
}

// listed describes a blob of a listing that is an object of ours.
func listed(key string, found *container.BlobItem) (storage.Info, bool) {
	if storage.CheckKey(key) != nil || found.Properties == nil {
		return storage.Info{}, false
	}
	p := found.Properties
	return describe(key, value(p.ContentLength), p.LastModified, p.ETag), true
}

// page is one request of a listing. A page may be empty and have a next one.
func (d *Driver) page(ctx context.Context, prefix string, marker *string) (page []*container.BlobItem, next *string, err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, fmt.Errorf("list %s: %w", prefix, err)
	}
	name := d.name(prefix)
	err = d.service.Do(ctx, remote.Call{Operation: "list", Key: prefix}, func(ctx context.Context) error {
		out, err := d.client.NewListBlobsFlatPager(&container.ListBlobsFlatOptions{Prefix: &name, Marker: marker}).NextPage(ctx)
		if page, next = nil, out.NextMarker; out.Segment != nil {
			page = out.Segment.BlobItems
		}
		return err
	})
	return page, next, err
}
