package jwt

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"berth/auth"
	"berth/auth/reload"
)

// A Source has the keys of an issuer. It is safe for concurrent use.
type Source interface {
	// Keys returns the keys in force. Errors match [auth.ErrUnavailable] or are the context's.
	Keys(ctx context.Context) (*Keys, error)
	// Renewed is Keys after an attempt to get newer ones, unless the last attempt was made a short time ago.
	Renewed(ctx context.Context) (*Keys, error)
}

// Options of a [Source]. The zero value is valid.
type Options struct {
	// Refresh is after how long keys are fetched again; by default [DefaultRefresh], at least ten seconds. It does not matter
	// to a file.
	Refresh time.Duration
	Client  Client
	// OnError is told once of each error that keeps new keys from taking effect; those before stay in force. It names the
	// address or the file.
	OnError func(error)
	// OnReload is called after a changed file took effect, and when keys can be fetched again that OnError was told of.
	OnReload func()
	// Now is the clock; by default [time.Now].
	Now func() time.Time
}

func (o *Options) orDefaults() Options {
	var filled Options
	if o != nil {
		filled = *o
	}
	if filled.Refresh == 0 {
		filled.Refresh = DefaultRefresh
	}
	filled.Refresh = max(filled.Refresh, pause)
	if filled.OnError == nil {
		filled.OnError = func(error) {}
	}
	if filled.OnReload == nil {
		filled.OnReload = func() {}
	}
	if filled.Now == nil {
		filled.Now = time.Now
	}
	return filled
}

// NewSource returns the source at a place: a file, or an address that begins with https:// (or with http://, see
// [Client]). A file must be good; an address is only fetched when keys are asked for.
func NewSource(place string, o *Options) (Source, error) {
	if strings.HasPrefix(place, "https://") || strings.HasPrefix(place, "http://") {
		return NewRemote(place, o)
	}
	filled := o.orDefaults()
	file, err := reload.Open(place, maxDocument, ParseKeys, &reload.Options{OnError: filled.OnError, OnReload: filled.OnReload})
	if err != nil {
		return nil, fmt.Errorf("read the keys: %w", err)
	}
	return fileSource{file}, nil
}

type fileSource struct{ file *reload.File[*Keys] }

func (s fileSource) Keys(context.Context) (*Keys, error) { return *s.file.Get(), nil }

// Renewed is Keys: a file is looked at every second anyway.
func (s fileSource) Renewed(context.Context) (*Keys, error) { return *s.file.Get(), nil }

// DefaultRefresh is after how long keys are fetched again by default.
const DefaultRefresh = 5 * time.Minute

// When keys are fetched.
const (
	pause      = 10 * time.Second // between a success and the next attempt, whatever tokens say
	firstRetry = time.Second      // after a failure; it doubles
	lastRetry  = time.Minute
)

// A Remote has keys that are fetched: when they are first asked for, when they are older than Options.Refresh, and, at most
// every ten seconds, when a token names a key that is not among them. Requests wait for a fetch only when there are no
// keys yet or they are twice as old as they should be, so that a key that was taken away is trusted for no longer than
// that while its issuer can be reached. While it cannot, the last good keys stay in force without a wait, and attempts
// become rarer, down to one a minute.
type Remote struct {
	fetch func(context.Context) (*Keys, error)
	o     Options

	mu       sync.Mutex // guards the rest
	keys     *Keys
	fetched  time.Time     // when keys were last found to be in force
	next     time.Time     // no attempt before that
	failures int           // in a row
	err      error         // of the last attempt
	reported string        // the error that OnError was told of
	flight   chan struct{} // closed when the attempt under way ends; nil when none is
}

// NewRemote returns the source at an address. Errors are of the address and of [Client].
func NewRemote(address string, o *Options) (*Remote, error) {
	filled := o.orDefaults()
	if err := filled.Client.check(address); err != nil {
		return nil, err
	}
	return &Remote{o: filled, fetch: func(ctx context.Context) (*Keys, error) {
		return filled.Client.keys(ctx, address)
	}}, nil
}

// Keys implements [Source].
func (r *Remote) Keys(ctx context.Context) (*Keys, error) {
	r.mu.Lock()
	now := r.o.Now()
	age := now.Sub(r.fetched)
	if r.keys != nil && age < r.o.Refresh {
		defer r.mu.Unlock()
		return r.keys, nil
	}
	flight := r.attempt(now)
	if r.keys != nil && (age < 2*r.o.Refresh || r.failures > 0) || flight == nil {
		defer r.mu.Unlock()
		return r.have()
	}
	r.mu.Unlock()
	return r.wait(ctx, flight)
}

// Renewed implements [Source].
func (r *Remote) Renewed(ctx context.Context) (*Keys, error) {
	r.mu.Lock()
	flight := r.attempt(r.o.Now())
	if flight == nil {
		defer r.mu.Unlock()
		return r.have()
	}
	r.mu.Unlock()
	return r.wait(ctx, flight)
}

// attempt returns the attempt under way, begun now if need be; nil when it is too early for another one.
func (r *Remote) attempt(now time.Time) chan struct{} {
	if r.flight == nil && !now.Before(r.next) {
		r.flight = make(chan struct{})
		go r.run()
	}
	return r.flight
}

func (r *Remote) wait(ctx context.Context, flight chan struct{}) (*Keys, error) {
	select {
	case <-flight:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.have()
}

func (r *Remote) have() (*Keys, error) {
	if r.keys == nil {
		return nil, fmt.Errorf("%w: %w", auth.ErrUnavailable, r.err)
	}
	return r.keys, nil
}

// run makes an attempt. It does not end with the request that began it, since others may wait for it.
func (r *Remote) run() {
	ctx, cancel := context.WithTimeout(context.Background(), maxTime)
	defer cancel()
	keys, err := r.fetch(ctx)
	switch news := r.done(keys, err); {
	case news && err != nil:
		r.o.OnError(fmt.Errorf("fetch keys: %w", err))
	case news:
		r.o.OnReload()
	}
}

// done records how an attempt ended, and reports whether that is not what was reported last.
func (r *Remote) done(keys *Keys, err error) (news bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.flight)
	r.flight, r.err = nil, err
	now := r.o.Now()
	if err != nil {
		r.next = now.Add(min(lastRetry, firstRetry<<min(r.failures, 10)))
		r.failures++
		news = r.reported != err.Error()
		r.reported = err.Error()
		return news
	}
	news = r.reported != ""
	r.fetched, r.next, r.failures, r.reported = now, now.Add(pause), 0, ""
	if r.keys == nil || r.keys.sum != keys.sum { // what was verified by the same keys stays verified
		r.keys = keys
	}
	return news
}
