package gcs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"

	gcs "cloud.google.com/go/storage"

	"berth/storage"
	"berth/storage/remote"
)

// Stat describes an object. It reads its first byte: only answers of GET say in a code whether the object or the bucket is
// missing.
func (d *Driver) Stat(ctx context.Context, key string) (storage.Info, error) {
	if err := check(ctx, "stat", key); err != nil {
		return storage.Info{}, err
	}
	return d.look(ctx, "stat", key)
}

func (d *Driver) look(ctx context.Context, operation, key string) (info storage.Info, err error) {
	empty := false
	err = d.service.Do(ctx, remote.Call{Operation: operation, Key: key}, func(ctx context.Context) error {
		r, err := d.object(key).NewRangeReader(ctx, 0, 1)
		if empty = unsatisfiable(err); empty {
			return nil
		}
		if err != nil {
			return err
		}
		_, _ = io.Copy(io.Discard, io.LimitReader(r, 64)) // so that the connection can be used again
		info = describe(key, r)
		return r.Close()
	})
	if err == nil && empty {
		return d.attributes(ctx, operation, key)
	}
	return info, err
}

// attributes describes an object without bytes, of which no range can be read.
func (d *Driver) attributes(ctx context.Context, operation, key string) (info storage.Info, err error) {
	err = d.service.Do(ctx, remote.Call{Operation: operation, Key: key}, func(ctx context.Context) error {
		attrs, err := d.object(key).Attrs(ctx)
		if err == nil {
			info = storage.Info{Key: key, Size: attrs.Size, ModTime: attrs.Updated, Rev: rev(attrs.Generation)}
		}
		return err
	})
	return info, err
}

func describe(key string, r *gcs.Reader) storage.Info {
	return storage.Info{Key: key, Size: r.Attrs.Size, ModTime: r.Attrs.LastModified, Rev: rev(r.Attrs.Generation)}
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
		info, err := d.look(ctx, "open", key)
		return http.NoBody, info, err
	}
	body, info, err := d.get(ctx, key, off, n, 0)
	switch {
	case errors.Is(err, errPast):
		info, err := d.look(ctx, "open", key)
		return http.NoBody, info, err
	case err != nil:
		return nil, storage.Info{}, err
	}
	same, _ := generation(info.Rev)
	resume := func(ctx context.Context, off, n int64) (io.ReadCloser, error) {
		body, _, err := d.get(ctx, key, off, n, same)
		if errors.Is(err, errPast) {
			err = conflict("open", key)
		}
		return body, err
	}
	return remote.NewReader(ctx, info, body, off, n, resume), info, nil
}

// errPast says that an object has no byte at an offset.
var errPast = errors.New("the offset is past the end")

// get asks for a range of an object, of one generation unless that is 0.
func (d *Driver) get(ctx context.Context, key string, off, n, only int64) (body io.ReadCloser, info storage.Info, err error) {
	object := d.object(key)
	if only != 0 {
		object = object.Generation(only)
	}
	if n < 0 || off+n < off {
		n = -1
	}
	past := false
	body, err = d.service.Stream(ctx, remote.Call{Operation: "open", Key: key}, func(ctx context.Context) (io.ReadCloser, error) {
		r, err := object.NewRangeReader(ctx, off, n)
		if past = unsatisfiable(err); past {
			return http.NoBody, nil
		}
		if err != nil {
			return nil, err
		}
		info = describe(key, r)
		return r, nil
	})
	if past && err == nil {
		_ = body.Close()
		return nil, storage.Info{}, errPast
	}
	return body, info, err
}

// holds looks at the condition of a call, which is a conflict if it does not hold.
func (d *Driver) holds(ctx context.Context, operation, key string, cond storage.Cond) error {
	info, err := d.look(ctx, operation, key)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !cond.Holds(err == nil, info.Rev) {
		return conflict(operation, key)
	}
	return nil
}
