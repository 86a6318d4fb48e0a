package gcs

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	gcs "cloud.google.com/go/storage"
	"google.golang.org/api/iterator"

	"berth/storage"
	"berth/storage/remote"
)

// pageSize is how many objects one request lists, the most that the service does.
const pageSize = 1000

// List asks for pages, in the order of bytes, in which the service has them.
func (d *Driver) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		query := gcs.Query{Prefix: d.name(prefix), Projection: gcs.ProjectionNoACL}
		if after != "" {
			query.StartOffset = d.name(after) // which is itself not wanted
		}
		for token := ""; ; {
			page, next, err := d.page(ctx, query, token)
			if err != nil {
				yield(storage.Info{}, err)
				return
			}
			for _, info := range page {
				if strings.HasPrefix(info.Key, prefix) && info.Key > after && !yield(info, nil) {
					return
				}
			}
			if token = next; token == "" {
				return
			}
		}
	}
}

// page lists one page, of the keys that are ours.
func (d *Driver) page(ctx context.Context, query gcs.Query, token string) (page []storage.Info, next string, err error) {
	if err := query.SetAttrSelection([]string{"Name", "Size", "Updated", "Generation"}); err != nil {
		return nil, "", fmt.Errorf("list %s: %w", query.Prefix, err)
	}
	err = d.service.Do(ctx, remote.Call{Operation: "list", Key: query.Prefix}, func(ctx context.Context) (err error) {
		var found []*gcs.ObjectAttrs
		next, err = iterator.NewPager(d.bucket.Objects(ctx, &query), pageSize, token).NextPage(&found)
		page = page[:0]
		for _, attrs := range found {
			key, ours := strings.CutPrefix(attrs.Name, d.name(""))
			if ours && storage.CheckKey(key) == nil {
				page = append(page, storage.Info{Key: key, Size: attrs.Size, ModTime: attrs.Updated, Rev: rev(attrs.Generation)})
			}
		}
		if status, _ := answered(err); status == 404 && !errors.Is(err, gcs.ErrBucketNotExist) {
			return fmt.Errorf("%w: %v", errNoBucket, err)
		}
		return err
	})
	return page, next, err
}
