// Package lease lets one of several replicas do a piece of background work. A lease saves double work and nothing more: two
// holders at once, after a pause of one of them or with clocks that disagree, must be harmless.
package lease

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"berth/storage"
)

// Prefix begins the keys of leases.
const Prefix = "leases/"

const maxRecord = 4 << 10

// ErrHeld says that somebody else has the lease.
var ErrHeld = errors.New("the lease is held")

// ErrLost is the cause of the context of a lease that somebody else took.
var ErrLost = errors.New("the lease was lost")

// A record says who has a lease, and how long after it was written.
type record struct {
	Nonce  string        `json:"nonce"`
	Holder string        `json:"holder"`
	TTL    time.Duration `json:"ttl"`
}

// Options: nil means defaults.
type Options struct {
	TTL time.Duration    // how long a lease that is not renewed lasts; 0: 1 minute
	Now func() time.Time // better that of the store, which dates leases; nil: time.Now
}

// A Lease is renewed until it is released or its context ends.
type Lease struct {
	store  storage.Driver
	key    string
	record record
	rev    storage.Rev
	cancel context.CancelCauseFunc
	done   chan struct{}
}

// Take takes the lease of a name, with an error that matches [ErrHeld] and says by whom when somebody else has it. The
// context that it returns ends when the lease was lost, with the cause [ErrLost], or released.
func Take(ctx context.Context, store storage.Driver, name, holder string, o *Options) (context.Context, *Lease, error) {
	if o == nil {
		o = &Options{}
	}
	l := &Lease{store: store, key: Prefix + name, record: record{Holder: holder, TTL: o.TTL}, done: make(chan struct{})}
	if l.record.TTL <= 0 {
		l.record.TTL = time.Minute
	}
	now := o.Now
	if now == nil {
		now = time.Now
	}
	cond, err := l.free(ctx, now)
	if err != nil {
		return nil, nil, err
	}
	if err := l.put(ctx, cond); err != nil {
		if errors.Is(err, storage.ErrConflict) {
			err = fmt.Errorf("%w by another process that came first", ErrHeld)
		}
		return nil, nil, err
	}
	held, cancel := context.WithCancelCause(ctx)
	l.cancel = cancel
	go l.keep(held)
	return held, l, nil
}

// free returns the condition under which the lease may be taken.
func (l *Lease) free(ctx context.Context, now func() time.Time) (storage.Cond, error) {
	body, info, err := storage.ReadAll(ctx, l.store, l.key, maxRecord)
	if errors.Is(err, fs.ErrNotExist) {
		return storage.Absent(), nil
	}
	if err != nil {
		return storage.Cond{}, fmt.Errorf("read a lease: %w", err)
	}
	var present record
	if json.Unmarshal(body, &present) == nil && present.Holder != l.record.Holder && now().Sub(info.ModTime) < present.TTL {
		return storage.Cond{}, fmt.Errorf("%w by %s", ErrHeld, present.Holder)
	}
	return storage.Match(info.Rev), nil
}

// put writes the record. One whose reply was lost is recognised by its nonce.
func (l *Lease) put(ctx context.Context, cond storage.Cond) error {
	nonce := make([]byte, 8)
	rand.Read(nonce)
	l.record.Nonce = hex.EncodeToString(nonce)
	body, err := json.Marshal(l.record)
	if err != nil {
		return fmt.Errorf("encode a lease: %w", err)
	}
	info, err := l.store.Put(ctx, l.key, bytes.NewReader(body), int64(len(body)), cond)
	if err != nil {
		there, present, readErr := storage.ReadAll(ctx, l.store, l.key, maxRecord)
		if readErr != nil || !bytes.Equal(there, body) {
			return fmt.Errorf("write a lease: %w", err)
		}
		info = present
	}
	l.rev = info.Rev
	return nil
}

// keep renews the lease three times in its life.
func (l *Lease) keep(ctx context.Context) {
	defer close(l.done)
	tick := time.NewTicker(l.record.TTL / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := l.put(ctx, storage.Match(l.rev)); errors.Is(err, storage.ErrConflict) {
			l.cancel(ErrLost)
			return
		}
	}
}

// Release gives the lease back, if it is still held. A lease that cannot be given back ends by itself.
func (l *Lease) Release(ctx context.Context) error {
	l.cancel(context.Canceled)
	<-l.done
	err := l.store.Delete(ctx, l.key, storage.Match(l.rev))
	if errors.Is(err, storage.ErrConflict) {
		return nil
	}
	return err
}

// Sweep removes leases that were last renewed before a time and have ended since, and returns how many. Those that change
// meanwhile stay.
func Sweep(ctx context.Context, store storage.Driver, before time.Time, dryRun bool) (n int64, err error) {
	for info, err := range store.List(ctx, Prefix, "") {
		if err != nil {
			return n, fmt.Errorf("list leases: %w", err)
		}
		if !info.ModTime.Before(before) {
			continue
		}
		swept, err := sweep(ctx, store, info.Key, before, dryRun)
		if err != nil {
			return n, err
		}
		if swept {
			n++
		}
	}
	return n, nil
}

func sweep(ctx context.Context, store storage.Driver, key string, before time.Time, dryRun bool) (bool, error) {
	body, info, err := storage.ReadAll(ctx, store, key, maxRecord)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read a lease: %w", err)
	}
	var present record
	if json.Unmarshal(body, &present) == nil && !info.ModTime.Add(present.TTL).Before(before) {
		return false, nil
	}
	if dryRun {
		return true, nil
	}
	if err := store.Delete(ctx, key, storage.Match(info.Rev)); err != nil {
		if errors.Is(err, storage.ErrConflict) {
			return false, nil
		}
		return false, fmt.Errorf("remove a lease: %w", err)
	}
	return true, nil
}
