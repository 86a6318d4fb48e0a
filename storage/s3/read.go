package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"berth/storage"
	"berth/storage/remote"
)

// emptyBody is what an object without bytes is kept as, since one without bytes in the bucket is a tombstone. It has
// emptyMark in its metadata; a listing does not show that, so that a rare length is best.
const (
	emptyBody = "\x00\xff"
	emptyMark = "berth-empty"
)

// An object is what the bucket has under a key.
type object struct {
	storage.Info
	tombstone bool
	empty     bool // emptyBody
}

// Stat describes an object. It reads its first byte: unlike those of HEAD, errors of GET say what is missing.
func (d *Driver) Stat(ctx context.Context, key string) (storage.Info, error) {
	if err := check(ctx, "stat", key); err != nil {
		return storage.Info{}, err
	}
	o, err := d.look(ctx, key)
	if err != nil {
		return storage.Info{}, err
	}
	if o.tombstone {
		return storage.Info{}, absent("stat", key)
	}
	return o.Info, nil
}

func absent(operation, key string) error {
	return fmt.Errorf("%s %s: %w", operation, key, fs.ErrNotExist)
}

// look describes what the bucket has under a key, a tombstone too.
func (d *Driver) look(ctx context.Context, key string) (o object, err error) {
	in := &s3.GetObjectInput{Bucket: &d.o.Bucket, Key: aws.String(d.name(key)), Range: aws.String("bytes=0-0")}
	err = d.service.Do(ctx, remote.Call{Operation: "stat", Key: key}, func(ctx context.Context) error {
		out, err := d.client.GetObject(ctx, in)
		if unsatisfiable(err) {
			o = object{tombstone: true}
			return nil
		}
		if err != nil {
			return err
		}
		_, _ = io.Copy(io.Discard, io.LimitReader(out.Body, 64)) // so that the connection can be used again
		o = describe(key, out)
		return out.Body.Close()
	})
	return o, err
}

// unsatisfiable reports whether an answer is 416: the object has no byte at the offset.
func unsatisfiable(err error) bool {
	_, status := code(err)
	return status == http.StatusRequestedRangeNotSatisfiable
}

// describe makes an object of an answer.
func describe(key string, out *s3.GetObjectOutput) object {
	size := aws.ToInt64(out.ContentLength)
	if _, total, ok := strings.Cut(aws.ToString(out.ContentRange), "/"); ok {
		if n, err := strconv.ParseInt(total, 10, 64); err == nil {
			size = n
		}
	}
	o := object{Info: storage.Info{Key: key, Size: size, ModTime: aws.ToTime(out.LastModified), Rev: rev(out.ETag)}}
	o.tombstone = size == 0
	if o.empty = size == int64(len(emptyBody)) && isEmptyMark(out.Metadata); o.empty {
		o.Size = 0
	}
	return o
}

func isEmptyMark(metadata map[string]string) bool {
	for name := range metadata {
		if strings.EqualFold(name, emptyMark) {
			return true
		}
	}
	return false
}

// rev makes a Rev of an ETag, which some services write without quotes in some places.
func rev(etag *string) storage.Rev {
	text := aws.ToString(etag)
	if text == "" || strings.HasPrefix(text, `"`) {
		return storage.Rev(text)
	}
	return storage.Rev(`"` + text + `"`)
}

// isRev reports whether a Rev can be one of ours.
func isRev(r storage.Rev) bool {
	return len(r) > 2 && r[0] == '"' && r[len(r)-1] == '"' && !strings.ContainsFunc(string(r), func(c rune) bool { return c <= ' ' || c > '~' })
}

// Open reads an object. A read that breaks off goes on at its offset, if the object is still the same.
func (d *Driver) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, storage.Info, error) {
	if err := check(ctx, "open", key); err != nil {
		return nil, storage.Info{}, err
	}
	if off < 0 {
		return nil, storage.Info{}, fmt.Errorf("open %s: the offset %d is negative", key, off)
	}
	if n == 0 {
		info, err := d.Stat(ctx, key)
		return http.NoBody, info, err
	}
	body, o, err := d.get(ctx, key, off, n, "")
	switch {
	case unsatisfiable(err):
		info, err := d.Stat(ctx, key)
		if err == nil && off < info.Size {
			err = fmt.Errorf("open %s: it was replaced meanwhile: %w", key, storage.ErrUnavailable)
		}
		return http.NoBody, info, err
	case err != nil:
		return nil, storage.Info{}, err
	case o.tombstone:
		return nil, storage.Info{}, errors.Join(absent("open", key), body.Close())
	case o.empty:
		return http.NoBody, o.Info, body.Close()
	}
	resume := func(ctx context.Context, off, n int64) (io.ReadCloser, error) {
		body, _, err := d.get(ctx, key, off, n, o.Rev)
		if unsatisfiable(err) {
			err = conflict("open", key)
		}
		return body, err
	}
	return remote.NewReader(ctx, o.Info, body, off, n, resume), o.Info, nil
}

// get asks for a range of an object, of the content of a Rev if there is one.
func (d *Driver) get(ctx context.Context, key string, off, n int64, match storage.Rev) (body io.ReadCloser, o object, err error) {
	in := &s3.GetObjectInput{Bucket: &d.o.Bucket, Key: aws.String(d.name(key))}
	if off > 0 || n > 0 {
		in.Range = aws.String(byteRange(off, n))
	}
	if match != "" {
		in.IfMatch = aws.String(string(match))
	}
	var past error // kept as it is: judge knows no class for it
	body, err = d.service.Stream(ctx, remote.Call{Operation: "open", Key: key}, func(ctx context.Context) (io.ReadCloser, error) {
		out, err := d.client.GetObject(ctx, in)
		if past = nil; unsatisfiable(err) {
			past = err
			return http.NoBody, nil
		}
		if err != nil {
			return nil, err
		}
		o = describe(key, out)
		if in.Range != nil && out.ContentRange == nil && off > 0 {
			_ = out.Body.Close()
			return nil, fmt.Errorf("the service ignores ranges")
		}
		return out.Body, nil
	})
	if past != nil {
		_ = body.Close()
		return nil, object{}, past
	}
	return body, o, err
}

// byteRange writes a range for HTTP; one that would pass the largest number goes to the end.
func byteRange(off, n int64) string {
	if last := off + n - 1; n > 0 && last >= off {
		return fmt.Sprintf("bytes=%d-%d", off, last)
	}
	return fmt.Sprintf("bytes=%d-", off)
}
