package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"berth/storage"
	"berth/storage/remote"
)

// List yields objects by pages of a thousand. Each page begins after the last key of the one before.
func (d *Driver) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		if !isPrefix(prefix) {
			return
		}
		for after := after; ; {
			page, more, err := d.page(ctx, prefix, after)
			if err != nil {
				yield(storage.Info{}, err)
				return
			}
			for _, found := range page {
				key := strings.TrimPrefix(aws.ToString(found.Key), d.name(""))
				if key <= after {
					yield(storage.Info{}, fmt.Errorf("list %s: the service lists %q after %q, which is not the order of their bytes", prefix, key, after))
					return
				}
				after = key
				info, visible, err := d.listed(ctx, key, found)
				if visible && !yield(info, err) || err != nil {
					return
				}
			}
			if !more {
				return
			}
		}
	}
}

// isPrefix reports whether keys may begin so.
func isPrefix(prefix string) bool {
	return prefix == "" || storage.CheckKey(prefix) == nil || storage.CheckKey(prefix+"x") == nil
}

// listed describes an object of a listing that is one for callers.
func (d *Driver) listed(ctx context.Context, key string, found types.Object) (info storage.Info, visible bool, err error) {
	size := aws.ToInt64(found.Size)
	if size == 0 || storage.CheckKey(key) != nil {
		return info, false, nil
	}
	if size == int64(len(emptyBody)) {
		info, err = d.Stat(ctx, key) // is it really so long?
		return info, !errors.Is(err, fs.ErrNotExist), ignoreAbsent(err)
	}
	return storage.Info{Key: key, Size: size, ModTime: aws.ToTime(found.LastModified), Rev: rev(found.ETag)}, true, nil
}

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// page lists the objects that follow a key, one at least if there are more. A service may find nothing to show on its way, such
// as old versions of what was deleted, and say where it goes on; that is not the end.
func (d *Driver) page(ctx context.Context, prefix, after string) (page []types.Object, more bool, err error) {
	if err := ctx.Err(); err != nil {
		return nil, false, fmt.Errorf("list %s: %w", prefix, err)
	}
	in := &s3.ListObjectsV2Input{Bucket: &d.o.Bucket, Prefix: aws.String(d.name(prefix))}
	if after != "" {
		in.StartAfter = aws.String(d.name(after))
	}
	for {
		var next *string
		err = d.service.Do(ctx, remote.Call{Operation: "list", Key: prefix}, func(ctx context.Context) error {
			out, err := d.client.ListObjectsV2(ctx, in)
			if err == nil {
				page, more, next = out.Contents, aws.ToBool(out.IsTruncated), out.NextContinuationToken
			}
			return err
		})
		if err != nil || !more || len(page) > 0 {
			return page, more, err
		}
		if aws.ToString(next) == aws.ToString(in.ContinuationToken) { // also if there is none
			return nil, false, fmt.Errorf("list %s: %w: the service says that there is more after %q, and does not go on", prefix, storage.ErrUnavailable, after)
		}
		in.ContinuationToken = next
	}
}
