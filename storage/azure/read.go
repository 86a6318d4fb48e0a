package azure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"

	"berth/storage"
	"berth/storage/remote"
)

// Stat describes an object.
func (d *Driver) Stat(ctx context.Context, key string) (info storage.Info, err error) {
	if err := d.check(ctx, "stat", key); err != nil {
		return storage.Info{}, err
	}
	err = d.service.Do(ctx, remote.Call{Operation: "stat", Key: key}, func(ctx context.Context) error {
		out, err := d.blob(key).GetProperties(ctx, nil)
		if err == nil {
			info = describe(key, value(out.ContentLength), out.LastModified, out.ETag)
		}
		return err
	})
	return info, err
}

func describe(key string, size int64, modified *time.Time, etag *azcore.ETag) storage.Info {
	return storage.Info{Key: key, Size: size, ModTime: value(modified), Rev: rev(etag)}
}

// value is what p points to, if to anything.
func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

// rev makes a Rev of an ETag, which listings write without quotes.
func rev(etag *azcore.ETag) storage.Rev {
	text := string(value(etag))
	if text == "" || strings.HasPrefix(text, `"`) {
		return storage.Rev(text)
	}
	return storage.Rev(`"` + text + `"`)
}

// isRev reports whether a Rev can be one of ours.
func isRev(r storage.Rev) bool {
	return len(r) > 2 && r[0] == '"' && r[len(r)-1] == '"' && !strings.ContainsFunc(string(r), func(c rune) bool { return c <= ' ' || c > '~' })
}

// errPast says that an object has no byte at an offset.
var errPast = errors.New("the object ends before")

// Open reads an object. A read that breaks off goes on at its offset, if the object is still the same.
func (d *Driver) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, storage.Info, error) {
	if err := d.check(ctx, "open", key); err != nil {
		return nil, storage.Info{}, err
	}
	if off < 0 {
		return nil, storage.Info{}, fmt.Errorf("open %s: the offset %d is negative", key, off)
	}
	if n == 0 {
		return d.openNothing(ctx, key)
	}
	body, info, err := d.get(ctx, key, off, n, "")
	if errors.Is(err, errPast) {
		return d.openNothing(ctx, key)
	}
	if err != nil {
		return nil, storage.Info{}, err
	}
	resume := func(ctx context.Context, off, n int64) (io.ReadCloser, error) {
		body, _, err := d.get(ctx, key, off, n, info.Rev)
		if errors.Is(err, errPast) {
			err = conflict("open", key)
		}
		return body, err
	}
	return remote.NewReader(ctx, info, body, off, n, resume), info, nil
}

// openNothing opens a range without bytes.
func (d *Driver) openNothing(ctx context.Context, key string) (io.ReadCloser, storage.Info, error) {
	info, err := d.Stat(ctx, key)
	if err != nil {
		return nil, storage.Info{}, err
	}
	return http.NoBody, info, nil
}

// get asks for a range of an object, of the content of a Rev if there is one. The error matches errPast if it has no byte there.
func (d *Driver) get(ctx context.Context, key string, off, n int64, match storage.Rev) (body io.ReadCloser, info storage.Info, err error) {
	options := &blob.DownloadStreamOptions{Range: blob.HTTPRange{Offset: off, Count: max(n, 0)}}
	if n > 0 && off+n-1 < off {
		options.Range.Count = 0 // past the largest number is to the end
	}
	if match != "" {
		options.AccessConditions = ifMatch(match)
	}
	past := false
	body, err = d.service.Stream(ctx, remote.Call{Operation: "open", Key: key}, func(ctx context.Context) (io.ReadCloser, error) {
		out, err := d.blob(key).DownloadStream(ctx, options)
		if name, status := code(err); name == bloberror.InvalidRange || status == http.StatusRequestedRangeNotSatisfiable {
			past = true
			return http.NoBody, nil
		}
		if err != nil {
			return nil, err
		}
		info = describe(key, size(out), out.LastModified, out.ETag)
		if off > 0 && out.ContentRange == nil {
			_ = out.Body.Close()
			return nil, errors.New("the service ignores ranges")
		}
		return out.Body, nil
	})
	if past && err == nil {
		_ = body.Close()
		return nil, info, fmt.Errorf("open %s: %w", key, errPast)
	}
	return body, info, err
}

// size is that of the whole object of an answer, also to a request for a range.
func size(out blob.DownloadStreamResponse) int64 {
	if _, total, ok := strings.Cut(value(out.ContentRange), "/"); ok {
		if n, err := strconv.ParseInt(total, 10, 64); err == nil {
			return n
		}
	}
	return value(out.ContentLength)
}

// ifMatch asks for the content of a Rev.
func ifMatch(r storage.Rev) *blob.AccessConditions {
	etag := azcore.ETag(r)
	return &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfMatch: &etag}}
}

// access are the headers of a condition.
func access(cond storage.Cond) *blob.AccessConditions {
	if r, ok := cond.Rev(); ok {
		return ifMatch(r)
	}
	if cond.IsAbsent() {
		any := azcore.ETagAny
		return &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfNoneMatch: &any}}
	}
	return nil
}
