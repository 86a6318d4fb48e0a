package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"berth/storage"
	"berth/storage/remote"
)

// Put writes an object: one of at most a part in one request, whose body is in memory before it begins; a larger one in
// parts. A condition on a larger one is checked before its parts are joined, and left to the service when they are: not all
// services look at it. Records are small, and data objects have keys of their own.
func (d *Driver) Put(ctx context.Context, key string, r io.Reader, size int64, cond storage.Cond) (storage.Info, error) {
	if err := check(ctx, "put", key); err != nil {
		return storage.Info{}, err
	}
	body, err := d.uploads.Read(ctx, r, size)
	if err != nil {
		return storage.Info{}, fmt.Errorf("put %s: %w", key, err)
	}
	all, whole := body.Whole()
	if !whole {
		return d.putParts(ctx, key, body, cond)
	}
	if all.Size() == 0 {
		return d.putSmall(ctx, key, payload{body: remote.PartOf([]byte(emptyBody)), metadata: map[string]string{emptyMark: "1"}}, cond)
	}
	if all.Size() > refusable && !cond.IsAlways() {
		if err := d.holds(ctx, "put", key, cond); err != nil {
			return storage.Info{}, err
		}
	}
	info, err := d.putSmall(ctx, key, payload{body: all, size: int64(all.Size())}, cond)
	if err == nil {
		all.Sent()
	}
	return info, err
}

// refusable is the size in bytes of the largest body that is sent without a look at its condition first: a service that refuses
// a larger one before it has read it may lose its answer with the connection, and what became of it is not known then.
const refusable = 1 << 20

// A payload is the body of one request.
type payload struct {
	body     *remote.Part
	size     int64 // that the object has for callers
	metadata map[string]string
}

// putSmall puts an object in one request.
func (d *Driver) putSmall(ctx context.Context, key string, p payload, cond storage.Cond) (storage.Info, error) {
	expected, matches := cond.Rev()
	switch {
	case matches && !isRev(expected):
		return storage.Info{}, conflict("put", key)
	case cond.IsAlways():
		return d.send(ctx, key, p, cond)
	case d.emulated:
		defer d.lock(key)()
		if err := d.holds(ctx, "put", key, cond); err != nil {
			return storage.Info{}, err
		}
		return d.send(ctx, key, p, storage.Cond{})
	case cond.IsAbsent():
		return d.create(ctx, key, p)
	}
	info, err := d.send(ctx, key, p, cond)
	if errors.Is(err, fs.ErrNotExist) {
		err = conflict("put", key)
	}
	return info, err
}

func conflict(operation, key string) error {
	return fmt.Errorf("%s %s: %w", operation, key, storage.ErrConflict)
}

// holds looks at the condition of a call, which is a conflict if it does not hold.
func (d *Driver) holds(ctx context.Context, operation, key string, cond storage.Cond) error {
	o, err := d.look(ctx, key)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !cond.Holds(err == nil && !o.tombstone, o.Rev) {
		return conflict(operation, key)
	}
	return nil
}

// revivals is how often create follows a key that others delete and make again.
const revivals = 8

// create puts an object where there is none, or a tombstone.
func (d *Driver) create(ctx context.Context, key string, p payload) (storage.Info, error) {
	for range revivals {
		info, err := d.send(ctx, key, p, storage.Absent())
		if !errors.Is(err, storage.ErrConflict) {
			return info, err
		}
		o, lookErr := d.lookForTombstone(ctx, key)
		switch {
		case errors.Is(lookErr, fs.ErrNotExist):
			continue
		case lookErr != nil:
			return storage.Info{}, lookErr
		case !o.tombstone:
			return storage.Info{}, err
		}
		if info, err = d.send(ctx, key, p, storage.Match(o.Rev)); !errors.Is(err, storage.ErrConflict) && !errors.Is(err, fs.ErrNotExist) {
			return info, err
		}
	}
	return storage.Info{}, fmt.Errorf("put %s: %w: others change it all the time", key, storage.ErrUnavailable)
}

// lookForTombstone is look by HEAD, which tells the Rev of a tombstone too.
func (d *Driver) lookForTombstone(ctx context.Context, key string) (o object, err error) {
	in := &s3.HeadObjectInput{Bucket: &d.o.Bucket, Key: aws.String(d.name(key))}
	err = d.service.Do(ctx, remote.Call{Operation: "stat", Key: key}, func(ctx context.Context) error {
		out, err := d.client.HeadObject(ctx, in)
		if err != nil {
			return err
		}
		o = object{Info: storage.Info{Rev: rev(out.ETag)}, tombstone: aws.ToInt64(out.ContentLength) == 0}
		return nil
	})
	return o, err
}

// send is one PUT. What it does not find is fs.ErrNotExist.
func (d *Driver) send(ctx context.Context, key string, p payload, cond storage.Cond) (storage.Info, error) {
	in := &s3.PutObjectInput{
		Bucket: &d.o.Bucket, Key: aws.String(d.name(key)), ContentLength: aws.Int64(int64(p.body.Size())), Metadata: p.metadata,
		ContentType: aws.String("application/octet-stream"), StorageClass: types.StorageClass(d.o.StorageClass),
	}
	in.ServerSideEncryption, in.SSEKMSKeyId = d.encryption()
	if cond.IsAbsent() {
		in.IfNoneMatch = aws.String("*")
	}
	if r, ok := cond.Rev(); ok {
		in.IfMatch = d.ifMatch(r)
	}
	var out *s3.PutObjectOutput
	c := remote.Call{Operation: "put", Key: key, Bytes: p.body.Size(), Conditional: !cond.IsAlways()}
	err := d.service.Do(ctx, c, func(ctx context.Context) (err error) {
		for range denials {
			in.Body = p.body.Body()
			if out, err = d.client.PutObject(ctx, in); err == nil || !isDenied(err) || remote.Sleep(ctx, remote.FirstDelay) != nil {
				return err
			}
		}
		return err
	})
	if err != nil {
		return storage.Info{}, err
	}
	written, ok := middleware.GetServerTime(out.ResultMetadata)
	if !ok {
		written = time.Now()
	}
	return storage.Info{Key: key, Size: p.size, ModTime: written, Rev: rev(out.ETag)}, nil
}

// denials is how often a put may be denied in a row. MinIO denies one whose folder goes at the same time with the last object of
// it, and the next may take place.
const denials = 3

func isDenied(err error) bool {
	name, _ := code(err)
	return name == "AccessDenied"
}

// ifMatch is the condition of a PUT.
func (d *Driver) ifMatch(r storage.Rev) *string {
	if d.bare {
		return aws.String(strings.Trim(string(r), `"`))
	}
	return aws.String(string(r))
}

// encryption is what is asked of the service for an object.
func (d *Driver) encryption() (types.ServerSideEncryption, *string) {
	switch {
	case d.o.KeyID != "":
		return types.ServerSideEncryptionAwsKms, &d.o.KeyID
	case d.o.Encrypt:
		return types.ServerSideEncryptionAes256, nil
	}
	return "", nil
}
