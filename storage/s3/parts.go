package s3

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"berth/storage"
)

const (
	// maxParts is how many parts an object may have.
	maxParts = 10_000
	// partsPerSize is after how many parts those of a body of unknown size become twice as large, so that 10,000 parts hold
	// 37,500 times the first: 366 GiB with parts of 10 MiB.
	partsPerSize = 2500
	// joinWithin bounds the joining of parts, which services take minutes for.
	joinWithin = 5 * time.Minute
	// abortWithin bounds the removal of parts after a failure.
	abortWithin = 30 * time.Second
)

// A buffer holds a part. It grows with what arrives, so that slow senders hold little.
type buffer struct{ bytes []byte }

// fill reads up to limit bytes and reports whether that is all.
func (b *buffer) fill(ctx context.Context, r io.Reader, limit int64) (done bool, err error) {
	b.bytes = b.bytes[:0]
	for int64(len(b.bytes)) < limit {
		if len(b.bytes) == cap(b.bytes) {
			b.grow(limit)
		}
		n, err := r.Read(b.bytes[len(b.bytes):min(int64(cap(b.bytes)), limit)])
		b.bytes = b.bytes[:len(b.bytes)+n]
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if err == io.EOF {
			return true, nil
		}
		if err != nil {
			return false, err
		}
	}
	return false, nil
}

// grow makes room: 16 KiB, 256 KiB, then all.
func (b *buffer) grow(limit int64) {
	size := int64(max(16<<10, 16*cap(b.bytes)))
	if size > 256<<10 {
		size = limit
	}
	b.bytes = append(make([]byte, 0, min(size, limit)), b.bytes...)
}

// An upload is an object that goes up in parts.
type upload struct {
	d    *Driver
	key  string
	id   *string
	turn chan struct{} // one for each part of it that is on its way

	mu    sync.Mutex
	etags []types.CompletedPart
	size  int64
}

// putParts puts an object of which the first part was read.
func (d *Driver) putParts(ctx context.Context, key string, first *buffer, limit int64, r io.Reader, cond storage.Cond) (storage.Info, error) {
	if expected, ok := cond.Rev(); ok && !isRev(expected) {
		return storage.Info{}, conflict("put", key)
	}
	u := &upload{d: d, key: key, turn: make(chan struct{}, perUpload)}
	if err := u.begin(ctx); err != nil {
		return storage.Info{}, err
	}
	err := u.sendAll(ctx, first, limit, r)
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
	in.ServerSideEncryption, in.SSEKMSKeyId = u.d.encryption()
	return u.d.do(ctx, call{operation: "put", key: u.key}, func(ctx context.Context) error {
		out, err := u.d.client.CreateMultipartUpload(ctx, in)
		if err == nil {
			u.id = out.UploadId
		}
		return err
	})
}

// sendAll reads the body and sends its parts, several at a time, and waits for them.
func (u *upload) sendAll(ctx context.Context, b *buffer, limit int64, r io.Reader) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var parts sync.WaitGroup
	defer parts.Wait()
	for number, done := 1, false; ; number++ {
		if err := u.enter(ctx); err != nil {
			return err
		}
		part := b
		parts.Go(func() {
			defer u.leave()
			if err := u.send(ctx, int32(number), part); err != nil {
				cancel(err)
			}
		})
		if done {
			break
		}
		if number == maxParts {
			return fmt.Errorf("put %s: it has more than %d parts; storage.s3.chunksize is too small for it", u.key, maxParts)
		}
		b = u.d.buffer()
		var err error
		if done, err = b.fill(ctx, r, u.partSize(number+1, limit)); err != nil {
			return u.cause(ctx, err)
		}
		if done && len(b.bytes) == 0 {
			break
		}
	}
	parts.Wait()
	return context.Cause(ctx)
}

// cause is why the context ended, or else what went wrong with the body.
func (u *upload) cause(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if errors.Is(err, storage.ErrUnavailable) {
		return err // of a part, which names the call
	}
	return fmt.Errorf("put %s: %w", u.key, err)
}

func (u *upload) partSize(number int, first int64) int64 {
	return first << ((number - 1) / partsPerSize)
}

// enter waits until a part may be sent: by this upload, and by all.
func (u *upload) enter(ctx context.Context) error {
	for _, slots := range []chan struct{}{u.turn, u.d.slots} {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			if slots == u.d.slots {
				<-u.turn
			}
			return u.cause(ctx, ctx.Err())
		}
	}
	return nil
}

// leave lets others send.
func (u *upload) leave() {
	<-u.d.slots
	<-u.turn
}

// buffer returns one that was used before, if there is one.
func (d *Driver) buffer() *buffer {
	if b, ok := d.buffers.Get().(*buffer); ok {
		return b
	}
	return &buffer{}
}

// send sends a part, and gives its buffer back unless an attempt that failed may still be reading it.
func (u *upload) send(ctx context.Context, number int32, part *buffer) error {
	body, tries := part.bytes, 0
	in := &s3.UploadPartInput{
		Bucket: &u.d.o.Bucket, Key: aws.String(u.d.name(u.key)), UploadId: u.id, PartNumber: &number, ContentLength: aws.Int64(int64(len(body))),
	}
	return u.d.do(ctx, call{operation: "put", key: u.key, bytes: len(body)}, func(ctx context.Context) error {
		tries++
		in.Body = bytes.NewReader(body)
		out, err := u.d.client.UploadPart(ctx, in)
		if err != nil {
			return err
		}
		if tries == 1 {
			u.d.buffers.Put(part)
		}
		u.mu.Lock()
		defer u.mu.Unlock()
		u.etags = append(u.etags, types.CompletedPart{ETag: out.ETag, PartNumber: &number})
		u.size += int64(len(body))
		return nil
	})
}

// join makes an object of the parts. When it is not known whether it did, nothing is removed.
func (u *upload) join(ctx context.Context, cond storage.Cond) (storage.Info, error) {
	slices.SortFunc(u.etags, func(a, b types.CompletedPart) int { return int(*a.PartNumber - *b.PartNumber) })
	in := &s3.CompleteMultipartUploadInput{
		Bucket: &u.d.o.Bucket, Key: aws.String(u.d.name(u.key)), UploadId: u.id, MultipartUpload: &types.CompletedMultipartUpload{Parts: u.etags},
	}
	if cond.IsAbsent() && !u.d.emulated {
		in.IfNoneMatch = aws.String("*")
	}
	if r, ok := cond.Rev(); ok && !u.d.emulated {
		in.IfMatch = aws.String(string(r))
	}
	c := call{operation: "put", key: u.key, conditional: !cond.IsAlways(), limit: joinWithin}
	err := u.d.do(ctx, c, func(ctx context.Context) error {
		_, err := u.d.client.CompleteMultipartUpload(ctx, in)
		return err
	})
	if errors.Is(err, errNoUpload) {
		return u.joined(ctx)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = conflict("put", u.key)
	}
	if errors.Is(err, storage.ErrConflict) {
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
	if err != nil || o.Size != u.size || !strings.HasSuffix(string(o.Rev), fmt.Sprintf(`-%d"`, len(u.etags))) {
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
	err := d.do(ctx, call{operation: "abort", key: name}, func(ctx context.Context) error {
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
