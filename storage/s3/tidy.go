package s3

import (
	"context"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"berth/storage"
	"berth/storage/remote"
)

// large begins the keys of objects that are large enough for parts (docs/design.md). Others may share the bucket.
const large = "data/"

// Tidy removes the parts of uploads that began before a time, but for what keep says. Their bytes are not known. A service that
// finds uploads by whole keys only, as MinIO does, shows none: there a lifecycle rule is needed.
func (d *Driver) Tidy(ctx context.Context, before time.Time, keep func(key string) bool) (n int, bytes int64, err error) {
	in := &s3.ListMultipartUploadsInput{Bucket: &d.o.Bucket, Prefix: aws.String(d.name(large))}
	for {
		var out *s3.ListMultipartUploadsOutput
		err = d.service.Do(ctx, remote.Call{Operation: "list uploads", Key: d.o.Root}, func(ctx context.Context) (err error) {
			out, err = d.client.ListMultipartUploads(ctx, in)
			return err
		})
		if err != nil {
			return n, 0, err
		}
		for _, u := range out.Uploads {
			if !strings.HasPrefix(aws.ToString(u.Key), d.name(large)) || u.Initiated == nil || !u.Initiated.Before(before) {
				continue
			}
			if keep != nil && keep(strings.TrimPrefix(*u.Key, d.name(""))) {
				continue
			}
			if err := d.abort(ctx, *u.Key, u.UploadId); err != nil {
				return n, 0, err
			}
			n++
		}
		if !aws.ToBool(out.IsTruncated) || out.NextKeyMarker == nil {
			return n, 0, nil
		}
		in.KeyMarker, in.UploadIdMarker = out.NextKeyMarker, out.NextUploadIdMarker
	}
}

// Compact removes tombstones.
func (d *Driver) Compact(ctx context.Context, prefix string) (n int, err error) {
	for after := ""; ; {
		page, more, err := d.page(ctx, prefix, after)
		if err != nil {
			return n, err
		}
		var dead []string
		for _, found := range page {
			after = strings.TrimPrefix(aws.ToString(found.Key), d.name(""))
			if aws.ToInt64(found.Size) == 0 && storage.CheckKey(after) == nil {
				dead = append(dead, after)
			}
		}
		if err := d.DeleteAll(ctx, dead); err != nil {
			return n, err
		}
		if n += len(dead); !more {
			return n, nil
		}
	}
}
