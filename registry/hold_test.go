package registry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"berth/registry"
	"berth/storage"
)

// A slow body hands out its content in parts and waits before each until it is told to go on.
type slowBody struct {
	parts []string
	wait  func(part int)
	next  int
}

func (s *slowBody) Read(p []byte) (int, error) {
	if s.next == len(s.parts) {
		return 0, io.EOF
	}
	s.wait(s.next)
	n := copy(p, s.parts[s.next])
	if s.parts[s.next] = s.parts[s.next][n:]; s.parts[s.next] == "" {
		s.next++
	}
	return n, nil
}

// await waits until a condition holds.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("%s never came", what)
			return
		}
	}
}

const heldContent = 900_000

// held returns a body long enough for its request to hold a record, which waits in its middle until the condition holds.
func (f *fixture) held(content, what string, holds func() bool) io.Reader {
	return &slowBody{parts: []string{content[:len(content)/2], content[len(content)/2:]}, wait: func(part int) {
		if part == 1 {
			await(f.T, what, holds)
		}
	}}
}

// TestLongBodiesHoldTheirRecord wants an upload to be refreshed, and to name its data object, while a body flows.
func TestLongBodiesHoldTheirRecord(t *testing.T) {
	for name, o := range map[string]registry.Options{
		"for the collection": {Grace: 160 * time.Millisecond},
		"for the purge":      {UploadAge: 80 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) { holdsItsRecord(t, &o) })
	}
}

func holdsItsRecord(t *testing.T, o *registry.Options) {
	f := newFixture(t, nil, o)
	p := f.repository("team/app")
	content := pattern("", heldContent)
	d := registry.SHA256.FromBytes([]byte(content))
	refreshed := map[string]bool{}
	several := func() bool {
		for _, key := range f.keys("uploads/") {
			if body := string(f.read(key)); strings.Contains(body, `"pending":"data/`) {
				refreshed[body] = true
			}
		}
		return len(refreshed) >= 3
	}
	if _, err := p.PushBlob(t.Context(), d, f.held(content, "a third refresh", several), -1); err != nil {
		t.Fatal(err)
	}
	clear(refreshed)
	u := p.NewUpload("", registry.SHA256)
	if err := u.Append(t.Context(), stream(f.held(content, "a third refresh", several))); err != nil {
		t.Fatal(err)
	}
	clear(refreshed)
	if _, err := u.Commit(t.Context(), registry.SHA256.FromBytes([]byte(content+content)), stream(f.held(content, "a third refresh", several))); err != nil {
		t.Fatal(err)
	}
	f.purgeAll()
	for _, want := range []string{content, content + content} {
		if got, err := readBlob(t.Context(), p, registry.SHA256.FromBytes([]byte(want))); err != nil || got != want {
			t.Errorf("after the purge: %d bytes, %v", len(got), err)
		}
	}
}

// purgeAll removes all uploads, also those that were closed just now, which are kept for the grace.
func (f *fixture) purgeAll() {
	f.Helper()
	impatient, err := registry.Open(f.Context(), f.store, &registry.Options{Grace: time.Nanosecond})
	if err != nil {
		f.Fatal(err)
	}
	if _, err := impatient.PurgeUploads(f.Context(), -time.Hour, false); err != nil {
		f.Error(err)
	}
	if keys := f.keys("uploads/"); len(keys) != 0 {
		f.Errorf("the purge left %q", keys)
	}
}

// TestHoldsThatLoseTheirReply lets the refreshing of a record take place, and answers otherwise: the push must go through,
// and no purge may take its bytes.
func TestHoldsThatLoseTheirReply(t *testing.T) {
	for name, answer := range map[string]func(ctx context.Context, body *atomic.Bool) error{
		"cut off by the end of the body": func(ctx context.Context, ended *atomic.Bool) error {
			for !ended.Load() && ctx.Err() == nil {
				time.Sleep(time.Millisecond)
			}
			time.Sleep(20 * time.Millisecond)
			return ctx.Err()
		},
		"unavailable": func(context.Context, *atomic.Bool) error { return storage.ErrUnavailable },
		"conflict":    func(context.Context, *atomic.Bool) error { return storage.ErrConflict },
	} {
		t.Run(name, func(t *testing.T) {
			store := &hooked{Driver: newStore()}
			f := newFixture(t, store, &registry.Options{Grace: time.Second})
			p := f.repository("team/app")
			var ended, unreadable atomic.Bool
			var refreshes atomic.Int32
			store.put = func(ctx context.Context, key string, put func(context.Context) (storage.Info, error)) (storage.Info, error) {
				if strings.HasPrefix(key, "data/") {
					defer ended.Store(true)
				}
				info, err := put(ctx)
				if strings.HasPrefix(key, "uploads/") && err == nil && refreshes.Add(1) == 1 {
					unreadable.Store(true)
					if err := answer(ctx, &ended); err != nil {
						return storage.Info{}, err
					}
				}
				return info, err
			}
			store.openErr = func(key string) error { // reading back is of no help, once
				if strings.HasPrefix(key, "uploads/") && unreadable.Swap(false) {
					return storage.ErrUnavailable
				}
				return nil
			}
			content := pattern("", heldContent)
			d := registry.SHA256.FromBytes([]byte(content))
			body := f.held(content, "a refresh", func() bool { return refreshes.Load() > 0 })
			if _, err := p.PushBlob(t.Context(), d, body, -1); err != nil {
				t.Fatal(err)
			}
			unreadable.Store(false)
			f.purgeAll()
			if got, err := readBlob(t.Context(), p, d); err != nil || got != content {
				t.Errorf("after the purge: %d bytes, %v", len(got), err)
			}
		})
	}
}

// TestAppendThatLosesItsReply lets another request go on with an upload before the first learns that its chunk was kept:
// the first must not take the chunk away, and its request has succeeded.
func TestAppendThatLosesItsReply(t *testing.T) {
	store := &hooked{Driver: newStore()}
	f := newFixture(t, store, nil)
	p := f.repository("team/app")
	id := p.NewUpload("alice", registry.SHA256).ID()
	for _, closing := range []bool{false, true} {
		u, err := p.Upload(t.Context(), "alice", id)
		if err != nil {
			t.Fatal(err)
		}
		d := registry.SHA256.FromBytes([]byte("onetwoone"))
		store.put = func(ctx context.Context, key string, put func(context.Context) (storage.Info, error)) (storage.Info, error) {
			info, err := put(ctx)
			if !strings.HasPrefix(key, "uploads/") {
				return info, err
			}
			store.put = nil
			other, err := p.Upload(t.Context(), "alice", id)
			if err != nil {
				t.Fatal(err)
			}
			if closing {
				if _, err = other.Commit(t.Context(), d, nothing); err == nil {
					f.purgeAll()
				}
			} else {
				err = other.Append(t.Context(), chunk("two"))
			}
			if err != nil {
				t.Error(err)
			}
			return storage.Info{}, fmt.Errorf("a retry met its own write: %w", storage.ErrConflict)
		}
		if !closing {
			if err := u.Append(t.Context(), chunk("one")); err != nil || u.Offset() != 6 {
				t.Errorf("%v, at %d", err, u.Offset())
			}
			continue
		}
		_, err = u.Commit(t.Context(), d, chunk("one"))
		wantCode(t, "closed, concluded by another and purged", err, registry.UploadUnknown)
		if got, err := readBlob(t.Context(), p, d); err != nil || got != "onetwoone" {
			t.Errorf("got %q, %v", got, err)
		}
	}
}

// TestDataThatLosesItsReply stores data objects and says otherwise: their keys are nobody else's, so they are ours.
func TestDataThatLosesItsReply(t *testing.T) {
	for _, answer := range []error{storage.ErrConflict, storage.ErrUnavailable} {
		store := &hooked{Driver: newStore()}
		f := newFixture(t, store, nil)
		p := f.repository("team/app")
		store.put = func(ctx context.Context, key string, put func(context.Context) (storage.Info, error)) (storage.Info, error) {
			info, err := put(ctx)
			if strings.HasPrefix(key, "data/") && err == nil {
				return storage.Info{}, answer
			}
			return info, err
		}
		for _, size := range sizes {
			f.pushBlob(p, pattern("single", size))
			f.pushInChunks(p, pattern("chunk", size), pattern("more", size))
		}
	}
}

func TestPurgeUploads(t *testing.T) {
	c := newClock()
	f := newFixture(t, c.store(), &registry.Options{Now: c.now})
	p := f.repository("team/app")
	begin := func(content string) *registry.Upload {
		u := p.NewUpload("alice", registry.SHA256)
		if err := u.Append(t.Context(), chunk(content)); err != nil {
			t.Fatal(err)
		}
		return u
	}
	purge := func(dry bool, uploads int, bytes int64) {
		t.Helper()
		if got, err := f.registry.PurgeUploads(t.Context(), time.Hour, dry); err != nil || got.Uploads != uploads || got.Bytes != bytes {
			t.Errorf("purged %+v, %v, want %d uploads and %d bytes", got, err, uploads, bytes)
		}
	}
	idle, cancelled := begin("idle!"), begin("cancelled")
	if err := cancelled.Cancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	d := f.pushInChunks(p, "content")
	c.advance(time.Hour)
	purge(false, 0, 0)
	fresh := begin("fresh")
	c.advance(time.Nanosecond)
	before := len(f.keys(""))
	purge(true, 2, 14) // not the one that was closed: a request may be about to make the blob of it
	if len(f.keys("")) != before {
		t.Error("a dry run changed something")
	}
	purge(false, 2, 14)
	purge(false, 0, 0)
	f.resume(p, fresh.ID(), 5)
	f.resume(p, idle.ID(), 0)
	wantCode(t, "a request that began before the purge", idle.Append(t.Context(), chunk("x")), registry.UploadUnknown)
	if got, err := readBlob(t.Context(), p, d); err != nil || got != "content" {
		t.Errorf("%q, %v", got, err)
	}
	if n := len(f.keys("data/")); n != 3 { // with what came too late: nothing says that no record ever named it
		t.Errorf("there are %d data objects", n)
	}
}

// TestPurgeGoesOn wants a damaged record to be told of, and to keep nothing else from being purged.
func TestPurgeGoesOn(t *testing.T) {
	f := newFixture(t, nil, nil)
	f.overwrite("uploads/0", []byte("damaged"))
	if err := f.repository("team/app").NewUpload("", registry.SHA256).Append(t.Context(), chunk("x")); err != nil {
		t.Fatal(err)
	}
	if got, err := f.registry.PurgeUploads(t.Context(), -time.Hour, false); err == nil || got.Uploads != 1 || len(f.keys("uploads/")) != 1 {
		t.Errorf("%+v, %v, left %q", got, err, f.keys("uploads/"))
	}
}

// TestPurgeBesideARequest purges an upload while a chunk for it is on its way.
func TestPurgeBesideARequest(t *testing.T) {
	for _, closing := range []bool{false, true} {
		f := newFixture(t, nil, nil)
		p := f.repository("team/app")
		u := p.NewUpload("alice", registry.SHA256)
		if err := u.Append(t.Context(), chunk("first")); err != nil {
			t.Fatal(err)
		}
		content := pattern("", heldContent)
		body := f.held(content, "the purge", func() bool { f.purgeAll(); return true })
		var err error
		if closing {
			_, err = u.Commit(t.Context(), registry.SHA256.FromBytes([]byte("first"+content)), stream(body))
		} else {
			err = u.Append(t.Context(), stream(body))
		}
		if code := registry.CodeOf(err); code != registry.RangeInvalid && code != registry.UploadUnknown {
			t.Errorf("the request ends with %v", err)
		}
		if keys := f.keys("blobs/"); len(keys) != 0 {
			t.Errorf("there are %q", keys)
		}
	}
}

// TestClientGoesAway cancels the context of a request in the middle of its body.
func TestClientGoesAway(t *testing.T) {
	f := newFixture(t, nil, nil)
	p := f.repository("team/app")
	content := pattern("", heldContent)
	d := registry.SHA256.FromBytes([]byte(content))
	leaving := func() (context.Context, io.Reader) {
		ctx, cancel := context.WithCancel(t.Context())
		return ctx, &slowBody{parts: []string{content[:heldContent/2], content[heldContent/2:]}, wait: func(part int) {
			if part == 1 {
				cancel()
			}
		}}
	}
	ctx, body := leaving()
	if _, err := p.PushBlob(ctx, d, body, -1); !errors.Is(err, context.Canceled) {
		t.Errorf("a push whose client left: %v", err)
	}
	if keys := f.keys(""); len(keys) != 2 { // the two of config
		t.Errorf("it left %q", keys)
	}
	ctx, body = leaving()
	id := p.NewUpload("alice", registry.SHA256).ID()
	if err := f.resume(p, id, 0).Append(ctx, stream(body)); err != nil {
		t.Errorf("a chunk that came all the same: %v", err)
	}
	f.resume(p, id, len(content))
}

// TestPurgeUploadsByAWrongClock wants a process whose clock is far ahead of that of the store to purge nothing, and one whose clock is
// a little ahead to go by that of the store.
func TestPurgeUploadsByAWrongClock(t *testing.T) {
	c := newClock()
	var ahead time.Duration
	f := newFixture(t, c.store(), &registry.Options{Now: func() time.Time { return c.now().Add(ahead) }})
	u := f.repository("a").NewUpload("", registry.SHA256)
	if err := u.Append(t.Context(), chunk("part")); err != nil {
		t.Fatal(err)
	}
	ahead = 10 * f.grace()
	_, err := f.registry.PurgeUploads(t.Context(), 7*f.grace(), false)
	wantCode(t, "a purge", err, registry.Unavailable)
	ahead = 2 * time.Hour // as much as it may be
	if result, err := f.registry.PurgeUploads(t.Context(), time.Hour, false); err != nil || result.Uploads != 0 {
		t.Errorf("by a clock that is a little ahead: %+v, %v", result, err)
	}
	ahead = 0
	if u, err = f.repository("a").Upload(t.Context(), "", u.ID()); err != nil || u.Offset() != 4 {
		t.Errorf("the upload stands at %d, %v", u.Offset(), err)
	}
}
