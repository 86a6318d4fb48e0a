package s3

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"berth/storage"
	"berth/storage/remote"
)

const (
	// maxParts is how many parts an object may have: 10,000 of them, which grow, hold 37,500 times the first, 366 GiB with parts
	// of 10 MiB.
	maxParts = 10_000
	// joinWithin bounds the joining of parts, which services take minutes for.
	joinWithin = 5 * time.Minute
	// abortWithin bounds the removal of parts after a failure.
	abortWithin = 30 * time.Second
)

// An upload is an object that goes up in parts.
type upload struct {
	d   *Driver
	key string
	id  *string

	mu    sync.Mutex
	parts []types.CompletedPart
	size  int64
}

// putParts puts an object of which the first part was read.
func (d *Driver) putParts(ctx context.Context, key string, body *remote.Body, cond storage.Cond) (storage.Info, error) {
	if expected, ok := cond.Rev(); ok && !isRev(expected) {
		return storage.Info{}, conflict("put", key)
	}
	u := &upload{d: d, key: key}
	if err := u.begin(ctx); err != nil {
		return storage.Info{}, err
	}
	err := d.uploads.Send(ctx, key, body, u.send)
	if err == nil && !cond.IsAlways() {
		if d.emulated {
			defer d.lock(key)()
		}
		err = d.holds(ctx, "put", key, cond)
	}
	if err != nil {
		u.abort(ctx)
		return storage.Info{}, err
	}
	return u.join(ctx, cond)
}

func (u *upload) begin(ctx context.Context) error {
	in := &s3.CreateMultipartUploadInput{
		Bucket: &u.d.o.Bucket, Key: aws.String(u.d.name(u.key)),
		ContentType: aws.String("application/octet-stream"), StorageClass: types.StorageClass(u.d.o.StorageClass),
	}
	if u.d.o.checksums() {
		in.ChecksumAlgorithm = types.ChecksumAlgorithmCrc32 // what the SDK sends with parts: AWS joins no others
	}
	in.ServerSideEncryption, in.SSEKMSKeyId = u.d.encryption()
	return u.d.service.Do(ctx, remote.Call{Operation: "put", Key: u.key}, func(ctx context.Context) error {
		out, err := u.d.client.CreateMultipartUpload(ctx, in)
		if err == nil {
			u.id = out.UploadId
		}
		return err
	})
}

func (u *upload) send(ctx context.Context, part *remote.Part) error {
	number, size := int32(part.Number), int64(part.Size())
	in := &s3.UploadPartInput{
		Bucket: &u.d.o.Bucket, Key: aws.String(u.d.name(u.key)), UploadId: u.id, PartNumber: &number, ContentLength: &size,
	}
	return u.d.service.Do(ctx, remote.Call{Operation: "put", Key: u.key, Bytes: part.Size()}, func(ctx context.Context) error {
		in.Body = part.Body()
		out, err := u.d.client.UploadPart(ctx, in)
		if err != nil {
			return err
		}
		u.mu.Lock()
		defer u.mu.Unlock()
		// A service that knows no checksums answers with none, and may not want to be told one.
		u.parts = append(u.parts, types.CompletedPart{ETag: out.ETag, ChecksumCRC32: out.ChecksumCRC32, PartNumber: &number})
		u.size += size
		return nil
	})
}

// join makes an object of the parts. When it is not known whether it did, nothing is removed.
func (u *upload) join(ctx context.Context, cond storage.Cond) (storage.Info, error) {
	slices.SortFunc(u.parts, func(a, b types.CompletedPart) int { return int(*a.PartNumber - *b.PartNumber) })
	in := &s3.CompleteMultipartUploadInput{
		Bucket: &u.d.o.Bucket, Key: aws.String(u.d.name(u.key)), UploadId: u.id, MultipartUpload: &types.CompletedMultipartUpload{Parts: u.parts},
	}
	if cond.IsAbsent() && !u.d.emulated {
		in.IfNoneMatch = aws.String("*")
	}
	if r, ok := cond.Rev(); ok && !u.d.emulated {
		in.IfMatch = u.d.ifMatch(r)
	}
	c := remote.Call{Operation: "put", Key: u.key, Conditional: !cond.IsAlways(), Limit: joinWithin}
	uncertain := false
	err := u.d.service.Do(ctx, c, func(ctx context.Context) error {
		_, err := u.d.client.CompleteMultipartUpload(ctx, in)
		uncertain = uncertain || err != nil && judge(err).Uncertain
		return err
	})
	if errors.Is(err, errNoUpload) {
		return u.joined(ctx)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = conflict("put", u.key)
	}
	if err != nil && !uncertain {
		u.abort(ctx)
	}
	if err != nil {
		return storage.Info{}, err
	}
	o, err := u.d.look(ctx, u.key)
	if err == nil && o.Size != u.size {
		err = fmt.Errorf("put %s: %w: the service has %d bytes of %d", u.key, storage.ErrUnavailable, o.Size, u.size)
	}
	return o.Info, err
}

// joined finds out whether an attempt whose reply was lost joined the parts.
func (u *upload) joined(ctx context.Context) (storage.Info, error) {
	o, err := u.d.look(ctx, u.key)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return storage.Info{}, err
	}
	if err != nil || o.Size != u.size || !strings.HasSuffix(string(o.Rev), fmt.Sprintf(`-%d"`, len(u.parts))) {
		return storage.Info{}, fmt.Errorf("put %s: %w: the service has lost its parts", u.key, storage.ErrUnavailable)
	}
	return o.Info, nil
}

// abort removes the parts. Those that stay are removed by [Driver.Tidy].
func (u *upload) abort(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortWithin)
	defer cancel()
	_ = u.d.abort(ctx, u.d.name(u.key), u.id)
}

// abort removes the parts of an upload; that there is none is no error.
func (d *Driver) abort(ctx context.Context, name string, id *string) error {
	in := &s3.AbortMultipartUploadInput{Bucket: &d.o.Bucket, Key: &name, UploadId: id}
	err := d.service.Do(ctx, remote.Call{Operation: "abort", Key: name}, func(ctx context.Context) error {
		_, err := d.client.AbortMultipartUpload(ctx, in)
		return err
	})
	if errors.Is(err, errNoUpload) {
		return nil
	}
	return err
}

// random returns a text that nobody else has.
func random() string { return strings.ToLower(rand.Text()) }
