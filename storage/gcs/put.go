package gcs

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"strconv"
	"time"

	gcs "cloud.google.com/go/storage"

	"berth/storage"
	"berth/storage/remote"
)

// rev is the Rev of a generation.
func rev(generation int64) storage.Rev { return storage.Rev(strconv.FormatInt(generation, 10)) }

// generation returns the generation of a Rev, if that can be one of ours.
func generation(r storage.Rev) (int64, bool) {
	n, err := strconv.ParseInt(string(r), 10, 64)
	return n, err == nil && n > 0 && rev(n) == r
}

// under puts a condition on an object. It is not ok for one that cannot hold.
func under(o *gcs.ObjectHandle, cond storage.Cond) (_ *gcs.ObjectHandle, ok bool) {
	r, matches := cond.Rev()
	switch {
	case cond.IsAbsent():
		return o.If(gcs.Conditions{DoesNotExist: true}), true
	case matches:
		n, ok := generation(r)
		if !ok {
			return nil, false
		}
		return o.If(gcs.Conditions{GenerationMatch: n}), true
	}
	return o, true
}

// Put writes an object: one of at most a chunk in one request, whose body is in memory before it begins; a larger one in a
// session that takes a chunk at a time.
func (d *Driver) Put(ctx context.Context, key string, r io.Reader, size int64, cond storage.Cond) (storage.Info, error) {
	if err := check(ctx, "put", key); err != nil {
		return storage.Info{}, err
	}
	object, ok := under(d.object(key), cond)
	if !ok {
		return storage.Info{}, conflict("put", key)
	}
	body, err := d.uploads.Read(ctx, r, size)
	if err != nil {
		return storage.Info{}, fmt.Errorf("put %s: %w", key, err)
	}
	if all, whole := body.Whole(); whole {
		return d.putWhole(ctx, key, object, all, cond)
	}
	return d.putLarge(ctx, key, object, body.Reader(), cond)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// putWhole puts an object in one request.
func (d *Driver) putWhole(ctx context.Context, key string, object *gcs.ObjectHandle, body *remote.Part, cond storage.Cond) (info storage.Info, err error) {
	var sum uint32
	for page := range body.Pages() {
		sum = crc32.Update(sum, castagnoli, page)
	}
	w := write{remote.Call{Operation: "put", Key: key, Bytes: body.Size()}, cond}
	err = d.write(ctx, w, func(ctx context.Context) error {
		w := d.writer(ctx, object)
		w.SendCRC32C, w.CRC32C = true, sum
		_, err := io.Copy(w, body.Body())
		if closing := w.Close(); err == nil {
			err = closing
		}
		if err == nil {
			info, err = d.written(key, w, int64(body.Size()))
		}
		return missing(err)
	})
	if err == nil {
		body.Sent()
	}
	return info, err
}

func (d *Driver) writer(ctx context.Context, object *gcs.ObjectHandle) *gcs.Writer {
	w := object.NewWriter(ctx)
	w.ContentType, w.KMSKeyName, w.ChunkSize = "application/octet-stream", d.o.KeyID, 0
	return w
}

// errWrong says that the service has something else than it was sent.
var errWrong = fmt.Errorf("%w: the service has something else than what it was sent", storage.ErrUnavailable)

// written describes what a writer made.
func (d *Driver) written(key string, w *gcs.Writer, size int64) (storage.Info, error) {
	attrs := w.Attrs()
	if attrs == nil || attrs.Size != size || attrs.Generation <= 0 {
		return storage.Info{}, errWrong
	}
	return storage.Info{Key: key, Size: attrs.Size, ModTime: attrs.Updated, Rev: rev(attrs.Generation)}, nil
}

// missing makes errNoBucket of what a put does not find: only the bucket can be missing.
func missing(err error) error {
	if status, _ := answered(err); status == 404 || errors.Is(err, gcs.ErrObjectNotExist) {
		return fmt.Errorf("%w: %v", errNoBucket, err)
	}
	return err
}

// sessionLimit bounds a session as the service does, which forgets them after a week.
const sessionLimit = 7 * 24 * time.Hour

// putLarge puts an object that is not repeated as a whole: the library asks the service where to go on.
func (d *Driver) putLarge(ctx context.Context, key string, object *gcs.ObjectHandle, body io.Reader, cond storage.Cond) (info storage.Info, err error) {
	source := &source{Reader: body}
	w := write{remote.Call{Operation: "put", Key: key, Limit: sessionLimit}, cond}
	err = d.service.Do(ctx, w.Call, func(ctx context.Context) error {
		ctx, uncertain := withDoubt(ctx)
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		writer := d.writer(ctx, object.Retryer(sessionRetry...))
		writer.ChunkSize, writer.ChunkRetryDeadline = int(d.o.ChunkSize), remote.RetryBudget+attemptTime(d.o.ChunkSize)
		n, err := io.Copy(writer, source)
		if err != nil {
			cancel() // so that closing does not make an object of what there is
			_ = writer.CloseWithError(err)
		}
		if closing := writer.Close(); err == nil {
			err = closing
		}
		if err == nil {
			info, err = d.written(key, writer, n)
		}
		if !cond.IsAlways() && uncertain.Load() && refusal(verdictOf(err)) {
			err = fmt.Errorf("%w: a reply was lost and it is not known whose change was made", storage.ErrUnavailable)
		}
		switch {
		case source.err != nil:
			return broken{source.err}
		case err != nil:
			return once{missing(err)}
		}
		return nil
	})
	if source.err != nil {
		return storage.Info{}, fmt.Errorf("put %s: %w", key, source.err)
	}
	return info, err
}

// sessionRetry has the library repeat the requests of a session as calls are.
var sessionRetry = []gcs.RetryOption{gcs.WithPolicy(gcs.RetryAlways), gcs.WithErrorFunc(func(err error) bool { return err != nil && judge(err).Retry })}

// refusal reports whether a conditional change was refused, or may have been by an effect of its own.
func refusal(err error) bool {
	return errors.Is(err, storage.ErrConflict) || errors.Is(err, fs.ErrNotExist)
}

func verdictOf(err error) error {
	if err == nil {
		return nil
	}
	return judge(err).Class
}

// A source remembers why a body could not be read.
type source struct {
	io.Reader
	err error
}

// Read implements [io.Reader].
func (s *source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}
