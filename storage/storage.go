// Package storage defines what Berth asks of a place to keep bytes: five methods over whole objects under flat keys.
//
// Everything above this package is written against [Driver]; everything below it (filesystem, memory, object stores)
// passes one suite, storagetest.Test, which is the specification of these methods. Decorators (cached, measured, …) are
// drivers around a driver; [As] finds an optional ability through them.
package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync/atomic"
	"time"
)

// The classes of errors a driver returns, besides fs.ErrNotExist and the errors of a context. Drivers wrap them with
// the operation and the key; callers use errors.Is.
var (
	// ErrConflict says that a condition did not hold: nothing was changed by this call. After a lost reply it may also
	// be the echo of the caller's own write, so a caller that needs to know reads the object back.
	ErrConflict = errors.New("the condition did not hold")
	// ErrUnavailable says that the store could not do it now. The call may or may not have taken effect.
	ErrUnavailable = errors.New("the storage is unavailable")
	// ErrReadOnly is an ErrUnavailable for all changes, while reading goes on. The call had no effect.
	ErrReadOnly = fmt.Errorf("%w: it is read-only", ErrUnavailable)
	// ErrNoSpace says that the store is full (bytes, inodes or quota). The call had no effect.
	ErrNoSpace = errors.New("no space left in the storage")
	// ErrInvalidKey says that a key is not one a driver can hold; see [CheckKey].
	ErrInvalidKey = errors.New("invalid storage key")
)

// A Rev names one content of one key: no two contents ever held by a key share a Rev. It is opaque to callers.
type Rev string

// Info describes an object.
type Info struct {
	Key     string
	Size    int64     // bytes
	ModTime time.Time // when it was last written, by the clock of the store
	Rev     Rev       // may be empty in a listing
}

// A Driver keeps whole objects under flat, slash-separated keys. Objects appear complete or not at all and are replaced
// whole: there is no rename, no append and there are no directories. When Put or Delete returns nil, the change is on
// stable storage.
//
// Drivers are safe for concurrent use, by several processes at once where their configuration says so. Errors match
// fs.ErrNotExist, [ErrConflict], [ErrUnavailable], [ErrNoSpace] or a context error; retries happen inside drivers.
type Driver interface {
	// Open reads n bytes of an object from the offset off; n < 0 means to the end. A range that reaches past the end is
	// cut at the end, and an offset at or past the end yields an empty reader; a negative offset is an error. The reader
	// serves one content, even when the key is replaced or deleted meanwhile. Info describes the whole object. The
	// reader may also be an io.Seeker (over the whole object) when the range is the whole object.
	Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, Info, error)
	// Stat describes an object.
	Stat(ctx context.Context, key string) (Info, error)
	// Put writes an object whole. The size is that of r, or -1 when it is not known; a reader that ends early, or goes
	// on, makes the put fail with nothing written. cond decides whether it may take place; it is checked, at the latest,
	// at the moment the object appears.
	Put(ctx context.Context, key string, r io.Reader, size int64, cond Cond) (Info, error)
	// Delete removes an object. Deleting what is not there is no error, unless cond is a [Match], which is then an
	// [ErrConflict].
	Delete(ctx context.Context, key string, cond Cond) error
	// List yields the objects whose key begins with prefix and is greater than after, in the byte order of whole keys.
	// It stops at the first error. An object that comes or goes while listing may or may not be seen; all others are, also
	// those that are replaced meanwhile.
	List(ctx context.Context, prefix, after string) iter.Seq2[Info, error]
}

// A Cond is a condition on the present content of a key. The zero Cond always holds.
type Cond struct {
	kind condKind
	rev  Rev
}

type condKind uint8

const (
	always condKind = iota
	absent
	match
)

// Absent holds when the key has no object.
func Absent() Cond { return Cond{kind: absent} }

// Match holds when the key has an object and its Rev is r.
func Match(r Rev) Cond { return Cond{kind: match, rev: r} }

// IsAlways reports whether c is the zero Cond, which always holds.
func (c Cond) IsAlways() bool { return c.kind == always }

// IsAbsent reports whether c asks that there be no object.
func (c Cond) IsAbsent() bool { return c.kind == absent }

// Rev returns the Rev that c asks for, if it is a [Match].
func (c Cond) Rev() (Rev, bool) { return c.rev, c.kind == match }

// Holds reports whether c holds for a key with the given content; exists is false when it has none.
func (c Cond) Holds(exists bool, rev Rev) bool {
	switch c.kind {
	case absent:
		return !exists
	case match:
		return exists && rev == c.rev
	default:
		return true
	}
}

// Content is a body that is in memory. A driver may take its bytes without reading it, and may look at them even after the put
// has returned: nobody changes them.
type Content struct {
	*bytes.Reader
	Bytes []byte
}

// NewContent makes a body of bytes that nobody changes any more.
func NewContent(b []byte) Content { return Content{bytes.NewReader(b), b} }

// An Object is one member of [PutAll]. Nobody changes its body any more.
type Object struct {
	Key  string
	Body []byte
	Cond Cond
}

// A Batcher makes several small objects durable for little more than the price of one.
type Batcher interface {
	// PutAll is as the function of that name.
	PutAll(ctx context.Context, objects []Object) ([]Info, error)
}

// PutAll puts small objects in order, each only when all before it were put, and returns an Info for each that was. It
// stops at the first error; what was put by then stays, and is durable. Through a crash, too, no object survives
// without those before it.
func PutAll(ctx context.Context, d Driver, objects ...Object) ([]Info, error) {
	if b, ok := As[Batcher](d); ok {
		return b.PutAll(ctx, objects)
	}
	infos := make([]Info, 0, len(objects))
	for _, o := range objects {
		info, err := d.Put(ctx, o.Key, NewContent(o.Body), int64(len(o.Body)), o.Cond)
		if err != nil {
			return infos, err
		}
		infos = append(infos, info)
	}
	return infos, nil
}

// A BulkDeleter removes many objects for less than one call each.
type BulkDeleter interface {
	// DeleteAll is as the function of that name.
	DeleteAll(ctx context.Context, keys []string) error
}

// DeleteAll removes objects whatever they are: what needs a condition is deleted by [Driver.Delete]. After an error any of
// them may be gone.
func DeleteAll(ctx context.Context, d Driver, keys ...string) error {
	if b, ok := As[BulkDeleter](d); ok {
		return b.DeleteAll(ctx, keys)
	}
	for _, key := range keys {
		if err := d.Delete(ctx, key, Cond{}); err != nil {
			return err
		}
	}
	return nil
}

// A Tidier removes what calls that were cut short left behind where no listing shows it, such as parts of uploads.
type Tidier interface {
	// Tidy removes leftovers that were begun before a time, and returns how many there were and their bytes, as far as known.
	// What would become an object that keep reports true of stays: somebody may still be writing it. Nil: nothing stays.
	Tidy(ctx context.Context, before time.Time, keep func(key string) bool) (n int, bytes int64, err error)
}

// A Compacter keeps something of objects that were deleted, until it is told that nobody needs it.
type Compacter interface {
	// Compact removes what is kept of deleted objects under a prefix, and returns how many there were. Nobody else may use
	// the store meanwhile.
	Compact(ctx context.Context, prefix string) (n int, err error)
}

// A Clock tells the time by which a store dates objects, also where there is no room for one.
type Clock interface {
	Now() (time.Time, error)
}

// A Namer lists keys for less than it takes to describe their objects.
type Namer interface {
	// Keys is as the function of that name.
	Keys(ctx context.Context, prefix, after string) iter.Seq2[string, error]
}

// Keys yields what [Driver.List] would, but keys only.
func Keys(ctx context.Context, d Driver, prefix, after string) iter.Seq2[string, error] {
	if n, ok := d.(Namer); ok { // not through decorators: they are to see the call
		return n.Keys(ctx, prefix, after)
	}
	return func(yield func(string, error) bool) {
		for info, err := range d.List(ctx, prefix, after) {
			if !yield(info.Key, err) {
				return
			}
		}
	}
}

// A Signer makes URLs by which clients read objects from the store itself, without asking it anything.
type Signer interface {
	// SignedURL is as the function of that name.
	SignedURL(ctx context.Context, key string, expiry time.Duration) (string, error)
}

// SignedURL returns a URL at which whoever has it may GET an object, also in ranges, until it expires. The object must be
// there and have a byte at least. The error is errors.ErrUnsupported for a store that has no such URLs: read the object then.
func SignedURL(ctx context.Context, d Driver, key string, expiry time.Duration) (string, error) {
	if s, ok := As[Signer](d); ok {
		return s.SignedURL(ctx, key, expiry)
	}
	return "", errors.ErrUnsupported
}

// A Copy is an object in memory. Info and Body are not to be changed.
type Copy struct {
	Info Info
	Body []byte
	memo atomic.Pointer[any]
}

// Remember keeps what a reader worked out from the body, for [Copy.Recall]: a cache that returns the same Copy again
// keeps that as well. The last value remembered stays.
func (c *Copy) Remember(v any) { c.memo.Store(&v) }

// Recall returns what was remembered, nil if nothing was.
func (c *Copy) Recall() any {
	if v := c.memo.Load(); v != nil {
		return *v
	}
	return nil
}

// A Copier is a driver that keeps objects in memory.
type Copier interface {
	// Copy returns an object of at most limit bytes, from memory if possible; a larger one is an error.
	Copy(ctx context.Context, key string, limit int64) (*Copy, error)
}

// ReadAll reads an object of at most limit bytes; a larger one is an error. The bytes are not to be changed.
func ReadAll(ctx context.Context, d Driver, key string, limit int64) ([]byte, Info, error) {
	c, err := ReadCopy(ctx, d, key, limit)
	if err != nil {
		return nil, Info{}, err
	}
	return c.Body, c.Info, nil
}

// ReadCopy is [ReadAll] for readers that remember what they work out.
func ReadCopy(ctx context.Context, d Driver, key string, limit int64) (*Copy, error) {
	if c, ok := d.(Copier); ok { // not through decorators: they are to see the call
		return c.Copy(ctx, key, limit)
	}
	r, info, err := d.Open(ctx, key, 0, -1)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if info.Size > limit {
		return nil, fmt.Errorf("read %s: it has %d bytes, more than the %d allowed", key, info.Size, limit)
	}
	c := &Copy{Info: info, Body: make([]byte, info.Size)}
	if _, err := io.ReadFull(r, c.Body); err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	return c, nil
}

// As finds the first driver in d's chain of decorators that is a T. A decorator offers the driver it wraps by a method
// Unwrap() Driver; one that must see every call of an ability implements it.
func As[T any](d Driver) (T, bool) {
	for d != nil {
		if t, ok := d.(T); ok {
			return t, true
		}
		w, ok := d.(interface{ Unwrap() Driver })
		if !ok {
			break
		}
		d = w.Unwrap()
	}
	var zero T
	return zero, false
}

// MaxKey is the length of the longest key, in bytes.
const MaxKey = 900

// CheckKey returns an error that matches [ErrInvalidKey] unless key is one that every driver can hold: at most
// [MaxKey] bytes, of parts between slashes, each of 1 to 255 bytes out of letters, digits and "!-._", none of them "."
// or "..".
func CheckKey(key string) error {
	if key == "" || len(key) > MaxKey {
		return fmt.Errorf("%w: %d bytes long", ErrInvalidKey, len(key))
	}
	for rest, more := key, true; more; {
		var part string
		if part, rest, more = strings.Cut(rest, "/"); !validPart(part) {
			return fmt.Errorf("%w: %q", ErrInvalidKey, key)
		}
	}
	return nil
}

func validPart(part string) bool {
	if part == "" || len(part) > 255 || part == "." || part == ".." {
		return false
	}
	for i := range len(part) {
		if c := part[i]; keyBytes[c/64]>>(c%64)&1 == 0 {
			return false
		}
	}
	return true
}

// keyBytes has a bit for each byte: those in keys are set.
var keyBytes = func() (set [4]uint64) {
	for _, c := range []byte("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!-._") {
		set[c/64] |= 1 << (c % 64)
	}
	return set
}()
