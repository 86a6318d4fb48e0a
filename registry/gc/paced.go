package gc

import (
	"context"
	"io"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"berth/storage"
)

// pageSize is how many listed objects count as one call: what object stores return at once.
const pageSize = 1000

// A pace bounds and counts calls to a store.
type pace struct {
	every  time.Duration // between two calls; 0: as they come
	paused func() bool   // nil: never
	look   func() error  // before each deletion, at the clock of this process; nil: it does not matter
	load   *load
	calls  atomic.Int64

	mu   sync.Mutex
	next time.Time
}

// wait returns when another call may be made.
func (p *pace) wait(ctx context.Context) error {
	p.calls.Add(1)
	if p.paused != nil && p.paused() {
		return ErrPaused
	}
	if err := p.load.rest(ctx); err != nil || p.every <= 0 {
		return err
	}
	p.mu.Lock()
	now := time.Now()
	if p.next.Before(now) {
		p.next = now
	}
	until := p.next.Sub(now)
	p.next = p.next.Add(p.every)
	p.mu.Unlock()
	if until <= 0 {
		return ctx.Err()
	}
	return sleep(ctx, until)
}

// waitToDelete is wait, and returns an error if what was found old may not be: the clock jumped since.
func (p *pace) waitToDelete(ctx context.Context) error {
	if err := p.wait(ctx); err != nil || p.look == nil {
		return err
	}
	return p.look()
}

// paced is a driver whose calls keep a pace.
type paced struct {
	storage.Driver
	pace *pace
}

// Unwrap returns the driver below.
func (p paced) Unwrap() storage.Driver { return p.Driver }

func (p paced) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, storage.Info, error) {
	if err := p.pace.wait(ctx); err != nil {
		return nil, storage.Info{}, err
	}
	return p.Driver.Open(ctx, key, off, n)
}

func (p paced) Stat(ctx context.Context, key string) (storage.Info, error) {
	if err := p.pace.wait(ctx); err != nil {
		return storage.Info{}, err
	}
	return p.Driver.Stat(ctx, key)
}

func (p paced) Put(ctx context.Context, key string, r io.Reader, size int64, cond storage.Cond) (storage.Info, error) {
	if err := p.pace.wait(ctx); err != nil {
		return storage.Info{}, err
	}
	return p.Driver.Put(ctx, key, r, size, cond)
}

// PutAll implements [storage.Batcher] by one Put after the other.
func (p paced) PutAll(ctx context.Context, objects []storage.Object) ([]storage.Info, error) {
	for range objects {
		if err := p.pace.wait(ctx); err != nil {
			return nil, err
		}
	}
	return storage.PutAll(ctx, p.Driver, objects...)
}

func (p paced) Delete(ctx context.Context, key string, cond storage.Cond) error {
	if err := p.pace.waitToDelete(ctx); err != nil {
		return err
	}
	return p.Driver.Delete(ctx, key, cond)
}

// DeleteAll implements [storage.BulkDeleter], where the driver below does.
func (p paced) DeleteAll(ctx context.Context, keys []string) error {
	if b, ok := storage.As[storage.BulkDeleter](p.Driver); ok {
		if err := p.pace.waitToDelete(ctx); err != nil {
			return err
		}
		return b.DeleteAll(ctx, keys)
	}
	for _, key := range keys {
		if err := p.Delete(ctx, key, storage.Cond{}); err != nil {
			return err
		}
	}
	return nil
}

func (p paced) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return inPages(ctx, p.pace, p.Driver.List(ctx, prefix, after))
}

func (p paced) Keys(ctx context.Context, prefix, after string) iter.Seq2[string, error] {
	return inPages(ctx, p.pace, storage.Keys(ctx, p.Driver, prefix, after))
}

// inPages passes a listing on, at the pace of its pages.
func inPages[T any](ctx context.Context, p *pace, listing iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		n := 0
		for v, err := range listing {
			switch {
			case err != nil:
			case n%pageSize == 0:
				err = p.wait(ctx)
			case n%restEvery == 0:
				err = p.load.rest(ctx)
			}
			if n++; !yield(v, err) || err != nil {
				return
			}
		}
		if n == 0 {
			p.calls.Add(1)
		}
	}
}
