package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"berth/storage"
)

// Put writes an object: one of at most a part in one request, whose body is in memory before it begins; a larger one in
// parts. A condition on a larger one is checked before its parts are joined, and left to the service when they are: not all
// services look at it. Records are small, and data objects have keys of their own.
func (d *Driver) Put(ctx context.Context, key string, r io.Reader, size int64, cond storage.Cond) (storage.Info, error) {
	if err := check(ctx, "put", key); err != nil {
		return storage.Info{}, err
	}
	limit := d.o.PartSize
	if size >= 0 {
		r = &sized{r: r, left: size}
		limit = max(limit, size/(maxParts-1))
	}
	if 0 < size && size < limit {
		limit = size // whose last byte brings the end with it
	}
	b := &buffer{}
	done, err := b.fill(ctx, r, limit)
	if err != nil {
		return storage.Info{}, fmt.Errorf("put %s: %w", key, err)
	}
	if !done {
		return d.putParts(ctx, key, b, limit, r, cond)
	}
	if len(b.bytes) == 0 {
		return d.putSmall(ctx, key, payload{bytes: []byte(emptyBody), metadata: map[string]string{emptyMark: "1"}}, cond)
	}
	return d.putSmall(ctx, key, payload{bytes: b.bytes, size: int64(len(b.bytes))}, cond)
}

// sized is a reader that must have exactly as many bytes as were said.
type sized struct {
	r    io.Reader
	left int64
}

var (
	errShort = errors.New("the body is shorter than its size")
	errLong  = errors.New("the body is longer than its size")
)

// Read reads one byte more than it may return, to see whether it is there.
func (s *sized) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, s.end()
	}
	n, err := s.r.Read(p[:min(int64(len(p)), s.left)])
	s.left -= int64(n)
	if err == io.EOF && s.left > 0 {
		return n, errShort
	}
	if err == nil && s.left == 0 {
		err = s.end()
	}
	return n, err
}

// end reads what must be the end.
func (s *sized) end() error {
	var extra [1]byte
	for range 100 { // as often as bufio tries
		if n, err := s.r.Read(extra[:]); n > 0 {
			return errLong
		} else if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// A payload is the body of one request.
type payload struct {
	bytes    []byte
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
	err = d.do(ctx, call{operation: "stat", key: key}, func(ctx context.Context) error {
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
		Bucket: &d.o.Bucket, Key: aws.String(d.name(key)), ContentLength: aws.Int64(int64(len(p.bytes))), Metadata: p.metadata,
		ContentType: aws.String("application/octet-stream"), StorageClass: types.StorageClass(d.o.StorageClass),
	}
	in.ServerSideEncryption, in.SSEKMSKeyId = d.encryption()
	if cond.IsAbsent() {
		in.IfNoneMatch = aws.String("*")
	}
	if r, ok := cond.Rev(); ok {
		in.IfMatch = aws.String(string(r))
	}
	var out *s3.PutObjectOutput
	c := call{operation: "put", key: key, bytes: len(p.bytes), conditional: !cond.IsAlways()}
	err := d.do(ctx, c, func(ctx context.Context) (err error) {
		in.Body = bytes.NewReader(p.bytes)
		out, err = d.client.PutObject(ctx, in)
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
