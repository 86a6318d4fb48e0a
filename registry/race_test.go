package registry_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"berth/registry"
	"berth/storage"
	"berth/storage/cached"
	"berth/storage/storagetest"
)

// replicas opens registries over one store in each way that they can share it.
var replicas = map[string]func(t *testing.T) []*fixture{
	"one": func(t *testing.T) []*fixture { return []*fixture{newFixture(t, nil, nil)} },
	"two": func(t *testing.T) []*fixture {
		store := newStore()
		return []*fixture{newFixture(t, store, nil), newFixture(t, store, nil)}
	},
	"cached": func(t *testing.T) []*fixture {
		return []*fixture{newFixture(t, cached.New(newStore(), &cached.Options{Skip: registry.IsData}), nil)}
	},
	"two that keep what they read": func(t *testing.T) []*fixture {
		store := newStore()
		return []*fixture{sharing(t, store), sharing(t, store)}
	},
	"two that lose replies": func(t *testing.T) []*fixture {
		store := newStore()
		return []*fixture{newFixture(t, losing(store, "_tags/"), nil), newFixture(t, losing(store, "_tags/"), nil)}
	},
	"cached, losing replies": func(t *testing.T) []*fixture {
		return []*fixture{newFixture(t, cached.New(losing(newStore(), "_tags/"), nil), nil)}
	},
}

// sharing opens a registry as one of several over a store.
func sharing(t *testing.T, store storage.Driver) *fixture {
	t.Helper()
	shared := cached.NewShared(store, registry.EpochKey, registry.IsStable, nil)
	return newFixture(t, shared, &registry.Options{Reads: shared.Reads()})
}

// losing returns a driver that loses replies to puts of some keys, one in four.
func losing(d storage.Driver, keys string) storage.Driver {
	flaky := storagetest.NewFlaky(d)
	flaky.Plan(func(c storagetest.Call) (fault storagetest.Fault) {
		if c.Op == storagetest.OpPut && strings.Contains(c.Key, keys) && rand.N(4) == 0 {
			fault.Mode = []storagetest.Mode{storagetest.FailAfter, storagetest.ConflictAfter, storagetest.FailBefore}[rand.N(3)]
		}
		return fault
	})
	return flaky
}

// TestOneBlobPushedAtOnce pushes one blob by 32 clients into several repositories.
func TestOneBlobPushedAtOnce(t *testing.T) {
	for name, open := range replicas {
		for _, size := range []int{1000, 400_000} {
			fixtures, content := open(t), pattern(name, size)
			d := digestOf([]byte(content))
			model := newModel()
			together(32, func(i int) {
				f := fixtures[i%len(fixtures)]
				p := f.repository(fmt.Sprint("r", i%3))
				var err error
				if i%4 == 0 {
					u := p.NewUpload("", registry.SHA256)
					if err = u.Append(t.Context(), chunk(content[:size/2])); err == nil {
						_, err = u.Commit(t.Context(), d, chunk(content[size/2:]))
					}
				} else {
					_, err = p.PushBlob(t.Context(), d, strings.NewReader(content), []int64{-1, int64(size)}[i%2])
				}
				if err == nil {
					var got string
					if got, err = readBlob(t.Context(), p, d); got != content && err == nil {
						err = io.ErrUnexpectedEOF
					}
				}
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
			})
			for i := range 3 {
				model.blobs[fmt.Sprintf("r%d@%s", i, d)] = content
			}
			fixtures[0].check(model)
		}
	}
}

// together runs n functions at once.
func together(n int, do func(i int)) {
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() { do(i) })
	}
	group.Wait()
}

// TestTagIsLinearizable lets 32 writers move one tag while readers read it, with and without conditions.
func TestTagIsLinearizable(t *testing.T) {
	for name, open := range replicas {
		t.Run(name, func(t *testing.T) {
			for range 4 {
				fixtures := open(t)
				var h history
				first := fixtures[0].repository("team/app")
				blob := fixtures[0].pushBlob(first, "{}")
				for _, err := first.Manifest(t.Context(), ref(t, "v1")); err != nil; _, err = first.Manifest(t.Context(), ref(t, "v1")) {
					moveTag(t, &h, first, image(fmt.Sprint(len(h.events)), blob), false) // from here on there is one
				}
				together(40, func(i int) {
					p := fixtures[i%len(fixtures)].repository("team/app")
					for round := range 6 {
						if i < 32 {
							moveTag(t, &h, p, image(fmt.Sprint(i, " ", round), blob), i%3 == 0)
						}
						readTag(t, &h, p)
					}
				})
				readTag(t, &h, first)
				if wrong := h.linearizable(); wrong != "" {
					t.Error(wrong)
				}
				fixtures[0].check(newModel())
			}
		})
	}
}

func moveTag(t *testing.T, h *history, p registry.Repository, body []byte, conditional bool) {
	push := registry.ManifestPush{Reference: ref(t, "v1"), Body: body}
	if conditional {
		m, err := p.Manifest(t.Context(), push.Reference)
		if push.IfAbsent = err != nil; err == nil {
			push.IfMatch = []registry.Digest{m.Digest}
		}
	}
	err := h.write(digestOf(body).String(), func() (bool, error) {
		_, err := p.PutManifest(t.Context(), push)
		return registry.CodeOf(err) != registry.Unavailable, err
	})
	if code := registry.CodeOf(err); err != nil && code != registry.Unavailable && (code != registry.PreconditionFailed || !conditional) {
		t.Errorf("push: %v", err)
	}
}

func readTag(t *testing.T, h *history, p registry.Repository) {
	err := h.read(func() (string, error) {
		m, err := p.Manifest(t.Context(), ref(t, "v1"))
		if err != nil {
			return "", err
		}
		return m.Digest.String(), nil
	})
	if err != nil {
		t.Errorf("read: %v", err)
	}
}

// TestReadDuringAPush reads, through a cache, a blob that the store shows before its push is acknowledged: what leads to
// it must not be there without what it leads to.
func TestReadDuringAPush(t *testing.T) {
	store := &hooked{Driver: newStore()}
	f := newFixture(t, cached.New(store, &cached.Options{Skip: registry.IsData}), nil)
	p := f.repository("team/app")
	d := digestOf([]byte("content"))
	if _, err := p.BlobOrigin(t.Context(), d); err == nil { // a mount that names no source: the cache learns of no record
		t.Fatal("a blob before its push")
	}
	shown := false
	store.put = func(ctx context.Context, key string, put func(context.Context) (storage.Info, error)) (storage.Info, error) {
		info, err := put(ctx)
		if strings.Contains(key, "/_blobs/") {
			if _, err := p.Blob(t.Context(), d); err != nil {
				return info, err
			}
			shown = true
			if got, err := readBlob(t.Context(), p, d); err != nil || got != "content" {
				t.Errorf("the link is there, and the blob is %q, %v", got, err)
			}
		}
		return info, err
	}
	f.pushBlob(p, "content")
	if !shown {
		t.Error("the link was not read")
	}
}

// TestCompareAndSwap lets writers count up by conditional pushes: none may be lost, none may win twice.
func TestCompareAndSwap(t *testing.T) {
	for _, name := range []string{"one", "two", "cached"} {
		fixtures := replicas[name](t)
		blob := fixtures[0].pushBlob(fixtures[0].repository("team/app"), "{}")
		start := fixtures[0].put(fixtures[0].repository("team/app"), "v1", image("start", blob)).Digest
		next := make(map[registry.Digest]registry.Digest)
		var mu sync.Mutex
		together(16, func(i int) {
			p := fixtures[i%len(fixtures)].repository("team/app")
			for round := range 10 {
				at, err := p.Manifest(t.Context(), ref(t, "v1"))
				if err != nil {
					t.Error(err)
					return
				}
				m, err := p.PutManifest(t.Context(), registry.ManifestPush{
					Reference: ref(t, "v1"), Body: image(fmt.Sprint(i, " ", round), blob), IfMatch: []registry.Digest{at.Digest}})
				if registry.CodeOf(err) == registry.PreconditionFailed {
					continue
				}
				mu.Lock()
				if other, ok := next[at.Digest]; ok || err != nil {
					t.Errorf("both %s and %s follow %s, %v", other, m.Digest, at.Digest, err)
				}
				next[at.Digest] = m.Digest
				mu.Unlock()
			}
		})
		at := start
		for range next {
			at = next[at]
		}
		if got := fixtures[0].at(fixtures[0].repository("team/app"), "v1"); got != at.String() || len(next) == 0 {
			t.Errorf("%s: the tag is at %s, the last of %d moves led to %s", name, got, len(next), at)
		}
	}
}

// TestDeleteAgainstPush deletes a manifest while it is pushed with a tag: both succeed, whoever is last wins, and nothing
// is left half done.
func TestDeleteAgainstPush(t *testing.T) {
	for _, name := range []string{"one", "two", "cached"} {
		fixtures := replicas[name](t)
		f, other := fixtures[0], fixtures[len(fixtures)-1]
		p, q := f.repository("team/app"), other.repository("team/app")
		config := f.pushBlob(p, "{}")
		subject := digestOf([]byte("subject"))
		body := referring(subject, "", "", config)
		d := digestOf(body)
		for range 200 {
			var h sync.Mutex
			var order []string
			note := func(what string) { h.Lock(); order = append(order, what); h.Unlock() }
			var started sync.WaitGroup
			started.Add(3)
			wait := func() { started.Done(); started.Wait() }
			together(3, func(i int) {
				wait()
				if i == 2 {
					if err := p.DeleteManifest(t.Context(), d); err != nil && registry.CodeOf(err) != registry.ManifestUnknown && registry.CodeOf(err) != registry.NameUnknown {
						t.Error(err)
					}
					note("delete")
				} else if _, err := push(t.Context(), q, fmt.Sprint("v", i), body); err != nil {
					t.Error(err)
				} else {
					note("push")
				}
			})
			exists, tagged := f.at(p, d.String()) != "", f.at(p, "v0") != "" || f.at(p, "v1") != ""
			listed := len(f.referrers(p, subject, "", 1000)) == 1
			if tagged && !exists || listed != exists {
				t.Errorf("%v: exists %v, tagged %v, listed %v", order, exists, tagged, listed)
			}
		}
		if _, err := push(t.Context(), q, "v0", body); err != nil || f.at(p, "v0") != d.String() {
			t.Errorf("the last push: %v", err)
		}
		if err := p.DeleteManifest(t.Context(), d); err != nil || f.at(p, "v0") != "" || len(f.keys("repositories/team/app/_tags/")) != 0 {
			t.Errorf("the last delete: %v, leaves %q", err, f.keys("repositories/team/app/_tags/"))
		}
		f.check(newModel())
	}
}

// TestCancelledAnywhere cancels pushes at each of their calls of the driver: what was not acknowledged may be there, whole,
// and pushing it again succeeds.
func TestCancelledAnywhere(t *testing.T) {
	for n := 1; ; n++ {
		s := newStage(t)
		ctx, cancel := context.WithCancel(t.Context())
		s.flaky.Plan(func(c storagetest.Call) (fault storagetest.Fault) {
			if c.N == n {
				cancel()
			}
			return fault
		})
		body := referring(digestOf(s.image("v1")), "c/d", "", digestOf([]byte("{}")))
		_, err := push(ctx, s.p, "v1", body)
		if err == nil {
			s.model.manifests["team/app@"+digestOf(body).String()] = string(body)
		}
		delete(s.model.manifests, "team/app@v1")
		last := s.flaky.Calls() < n
		s.flaky.Plan(nil)
		cancel()
		s.check(s.model)
		if err := s.tagged(s.p, "v1", body); err != nil {
			t.Errorf("call %d: %v", n, err)
		}
		if s.check(s.model); last {
			return
		}
	}
}
