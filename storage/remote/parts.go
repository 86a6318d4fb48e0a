package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"berth/storage"
)

// PerUpload is how many parts of one object are on their way at a time.
const PerUpload = 3

// Uploads sends bodies in parts, out of buffers that all share. An upload takes up to (PerUpload+1) × the size of a part of
// memory, and all together no more than their number plus the parts that are on their way at a time, times that size. It is
// safe for concurrent use.
type Uploads struct {
	key      string
	partSize int64
	maxParts int
	slots    chan struct{} // one for each part that is on its way
	pages    sync.Pool
}

// NewUploads sends parts of a size in bytes, no more than maxParts of an object and no more than parallel at a time. The key
// is that of the size in the configuration, for an error. Of a body of unknown size the parts become twice as large after
// every quarter of maxParts.
func NewUploads(key string, partSize int64, maxParts, parallel int) *Uploads {
	return &Uploads{key: key, partSize: partSize, maxParts: maxParts, slots: make(chan struct{}, parallel)}
}

// A Body is what a put was given, of which the first part was read.
type Body struct {
	first *Part
	limit int64 // of it
	rest  io.Reader
	whole bool
}

// Whole returns all of the body if that is no more than a part, whose sender says so by [Part.Sent].
func (b *Body) Whole() (*Part, bool) { return b.first, b.whole }

// Reader reads the body from its beginning, once, for a service that takes it as a stream. It does not keep what was read.
func (b *Body) Reader() io.Reader {
	first := b.first.Body()
	b.first = nil
	if b.whole {
		return first
	}
	return io.MultiReader(first, b.rest)
}

// Read reads the first part of a body of a size, -1 for unknown, which must then have that size.
func (u *Uploads) Read(ctx context.Context, r io.Reader, size int64) (*Body, error) {
	if c, ok := r.(storage.Content); ok && size == int64(len(c.Bytes)) && size <= u.partSize {
		return &Body{first: PartOf(c.Bytes), whole: true}, nil
	}
	b := &Body{first: u.part(1), limit: u.partSize, rest: r}
	if size >= 0 {
		b.rest = &sized{r: r, left: size}
		b.limit = max(b.limit, size/int64(u.maxParts-1))
	}
	if 0 < size && size < b.limit {
		b.limit = size // whose last byte brings the end with it
	}
	var err error
	b.whole, err = b.first.b.fill(ctx, b.rest, b.limit)
	return b, err
}

// Send reads the body of a key and has send send its parts, several at a time, and waits for them. A send that returns nil
// has sent its part.
func (u *Uploads) Send(ctx context.Context, key string, body *Body, send func(ctx context.Context, part *Part) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	up := upload{u, key, make(chan struct{}, PerUpload)}
	var parts sync.WaitGroup
	defer parts.Wait()
	defer cancel(nil) // first, so that parts of a body that broke off are not waited for
	part := body.first
	for done := body.whole; ; {
		if err := up.enter(ctx); err != nil {
			return err
		}
		sent := part
		parts.Go(func() {
			defer up.leave()
			if err := send(ctx, sent); err != nil {
				cancel(err)
				return
			}
			sent.Sent()
		})
		if done {
			break
		}
		if part.Number == u.maxParts {
			return fmt.Errorf("put %s: it has more than %d parts; %s is too small for it", key, u.maxParts, u.key)
		}
		part = u.part(part.Number + 1)
		var err error
		if done, err = part.b.fill(ctx, body.rest, u.size(part.Number, body.limit)); err != nil {
			return up.cause(ctx, err)
		}
		if done && part.Size() == 0 {
			break
		}
	}
	parts.Wait()
	return context.Cause(ctx)
}

func (u *Uploads) size(number int, first int64) int64 {
	return first << ((number - 1) / (u.maxParts / 4))
}

// part makes one that has nothing yet.
func (u *Uploads) part(number int) *Part { return &Part{Number: number, b: &buffer{pool: &u.pages}} }

// An upload is an object that goes up in parts.
type upload struct {
	all  *Uploads
	key  string
	turn chan struct{} // one for each part of it that is on its way
}

// cause is why the context ended, or else what went wrong with the body.
func (u upload) cause(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if errors.Is(err, storage.ErrUnavailable) {
		return err // of a part, which names the call
	}
	return fmt.Errorf("put %s: %w", u.key, err)
}

// enter waits until a part may be sent: by this upload, and by all.
func (u upload) enter(ctx context.Context) error {
	for _, slots := range []chan struct{}{u.turn, u.all.slots} {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			if slots == u.all.slots {
				<-u.turn
			}
			return u.cause(ctx, ctx.Err())
		}
	}
	return nil
}

// leave lets others send.
func (u upload) leave() {
	<-u.all.slots
	<-u.turn
}
