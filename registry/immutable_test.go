package registry_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"berth/registry"
	"berth/storage/storagetest"
)

// keepReleases makes the tags that begin with "v" immutable, but not in scratch.
func keepReleases(n registry.Name, t registry.Tag) bool {
	return n.String() != "scratch" && strings.HasPrefix(t.String(), "v")
}

func TestImmutableTags(t *testing.T) {
	f := newFixture(t, nil, &registry.Options{Immutable: keepReleases})
	for _, name := range []string{"team/app", "scratch"} {
		p := f.repository(name)
		config := f.pushBlob(p, "{}")
		one, two := image("one", config), image("two", config)
		want := func(what string, err error) {
			t.Helper()
			if name == "scratch" {
				if err != nil {
					t.Errorf("%s, where tags are not immutable: %v", what, err)
				}
				return
			}
			wantCode(t, what, err, registry.Denied)
			if got := f.at(p, "v1"); got != digestOf(one).String() {
				t.Errorf("%s: v1 is at %q", what, got)
			}
		}
		f.put(p, "v1", one)
		f.put(p, "v1", one) // the same again is no move
		f.put(p, "latest", one)
		f.put(p, "latest", two)
		_, err := push(t.Context(), p, "v1", two)
		want("a push by tag", err)
		_, err = p.PutManifest(t.Context(), registry.ManifestPush{
			Reference: ref(t, digestOf(two).String()), Tags: []registry.Tag{ref(t, "new").Tag, ref(t, "v1").Tag}, Body: two})
		want("a push with more tags", err)
		if name != "scratch" && f.at(p, "new") != "" {
			t.Error("a push that was refused set another tag")
		}
		_, err = p.PutManifest(t.Context(), registry.ManifestPush{
			Reference: ref(t, "v1"), IfMatch: []registry.Digest{digestOf(one)}, Body: two})
		if name == "scratch" {
			wantCode(t, "a conditional push", err, registry.PreconditionFailed) // it was moved above
			f.put(p, "v1", one)
		} else {
			want("a conditional push", err)
		}
		want("a delete of the tag", p.DeleteTag(t.Context(), ref(t, "v1").Tag))
		f.put(p, "v1", one)
		want("a delete of the manifest", p.DeleteManifest(t.Context(), digestOf(one)))
		if err := p.DeleteManifest(t.Context(), digestOf(two)); err != nil {
			t.Errorf("a delete of a manifest without immutable tags: %v", err)
		}
	}
}

func TestNewTagsOnly(t *testing.T) {
	f := newFixture(t, nil, nil)
	p := f.repository("team/app")
	config := f.pushBlob(p, "{}")
	one, two := image("one", config), image("two", config)
	keeping := func(tag string, body []byte) error {
		_, err := p.PutManifest(t.Context(), registry.ManifestPush{Reference: ref(t, tag), Body: body, KeepTags: true})
		return err
	}
	if err := keeping("a", one); err != nil {
		t.Errorf("a new tag: %v", err)
	}
	if err := keeping("a", one); err != nil {
		t.Errorf("the same again: %v", err)
	}
	wantCode(t, "a move", keeping("a", two), registry.Denied)
	if err := p.DeleteManifest(t.Context(), digestOf(one)); err != nil {
		t.Fatal(err)
	}
	if err := keeping("a", two); err != nil {
		t.Errorf("a tag that was deleted: %v", err)
	}
}

// TestImmutableTagKeepsItsMediaType: the bytes of a manifest that does not say what it is can be pushed as something else, by which
// clients would not take it for an image any more. What a tag names is not changed by that, and what a tag that is to stay names
// cannot be.
func TestImmutableTagKeepsItsMediaType(t *testing.T) {
	for _, how := range []string{"immutable", "new tags only", "movable"} {
		o := &registry.Options{}
		if how == "immutable" {
			o.Immutable = keepReleases
		}
		f := newFixture(t, nil, o)
		p := f.repository("team/app")
		body := []byte(strings.Replace(string(image("", f.pushBlob(p, "{}"))), `"mediaType":"`+imageType+`",`, "", 1))
		put := func(reference, mediaType string, tags ...registry.Tag) error {
			_, err := p.PutManifest(t.Context(), registry.ManifestPush{
				Reference: ref(t, reference), Tags: tags, MediaType: mediaType, Body: body, KeepTags: how == "new tags only"})
			return err
		}
		for range 2 { // the second time it says the same
			if err := put("v1", imageType); err != nil {
				t.Fatal(err)
			}
		}
		digest := digestOf(body).String()
		want := map[string]string{"v1": imageType, digest: imageType}
		byDigest := put(digest, futureType, ref(t, "new").Tag)
		if how == "movable" {
			if byDigest != nil {
				t.Error(byDigest)
			}
			want["new"], want[digest] = futureType, futureType
		} else {
			wantCode(t, how+": by tag", put("v1", futureType), registry.Denied)
			wantCode(t, how+": by digest", byDigest, registry.Denied)
			wantCode(t, how+": by digest, with the tag", put(digest, futureType, ref(t, "v1").Tag), registry.Denied)
		}
		for reference, mediaType := range want {
			m, err := p.Manifest(t.Context(), ref(t, reference))
			if err != nil || m.MediaType != mediaType || m.Digest.String() != digest {
				t.Errorf("%s: %s is served as %v, %v", how, reference, m, err)
			}
		}
	}
}

// TestAnotherTypeIsTold pushes a manifest that does not say what it is as something else: other replicas may have it in memory as
// what it was.
func TestAnotherTypeIsTold(t *testing.T) {
	told := &telling{Driver: newStore()}
	f := newFixture(t, told, nil)
	p := f.repository("team/app")
	body := []byte(`{"note":"untyped"}`)
	for _, mediaType := range []string{futureType, mixedType, mixedType} {
		d := ref(t, digestOf(body).String())
		if _, err := p.PutManifest(t.Context(), registry.ManifestPush{Reference: d, MediaType: mediaType, Body: body}); err != nil {
			t.Fatal(err)
		}
		if told.untold.Load() {
			t.Errorf("it became %s, and others were not told", mediaType)
		}
	}
}

// TestImmutableTagIsSetOnce lets many push different manifests by one immutable tag: one succeeds.
func TestImmutableTagIsSetOnce(t *testing.T) {
	for _, name := range []string{"immutable", "new tags only"} {
		o := &registry.Options{}
		if name == "immutable" {
			o.Immutable = keepReleases
		}
		f := newFixture(t, nil, o)
		p := f.repository("team/app")
		config := f.pushBlob(p, "{}")
		var mu sync.Mutex
		var done []string
		together(16, func(i int) {
			body := image(fmt.Sprint(i), config)
			_, err := p.PutManifest(t.Context(), registry.ManifestPush{Reference: ref(t, "v1"), Body: body, KeepTags: o.Immutable == nil})
			if err != nil {
				if registry.CodeOf(err) != registry.Denied {
					t.Error(err)
				}
				return
			}
			mu.Lock()
			defer mu.Unlock()
			done = append(done, digestOf(body).String())
		})
		if len(done) != 1 || f.at(p, "v1") != done[0] {
			t.Errorf("%s: %d pushes succeeded: %q; the tag is at %s", name, len(done), done, f.at(p, "v1"))
		}
	}
}

// interleave runs one of two things over a registry, and the other, whole, at each call of the store that the first makes; and the
// other way round. prepare makes them over a fresh store, and what is to hold in the end when they have met.
func interleave(t *testing.T, prepare func(f *fixture) (one, other func(registry.Repository), check func(at string))) {
	for n, reached := 1, true; reached; n++ {
		reached = false
		for _, turned := range []bool{false, true} {
			store := newStore()
			flaky := storagetest.NewFlaky(store)
			o := &registry.Options{Immutable: keepReleases}
			slow, quick := newFixture(t, flaky, o), newFixture(t, store, o)
			during, whole, check := prepare(quick)
			if turned {
				during, whole = whole, during
			}
			flaky.Plan(func(c storagetest.Call) storagetest.Fault {
				if c.N == n {
					reached = true
					whole(quick.repository("team/app"))
				}
				return storagetest.Fault{}
			})
			during(slow.repository("team/app"))
			flaky.Plan(nil)
			if reached {
				check(fmt.Sprintf("call %d, turned %v", n, turned))
			}
		}
	}
}

// TestImmutableTagAgainstDelete deletes a manifest at each moment of a push that gives it an immutable tag, and the other
// way round: once the push is acknowledged, the tag stays.
func TestImmutableTagAgainstDelete(t *testing.T) {
	interleave(t, func(f *fixture) (remove, tag func(registry.Repository), check func(at string)) {
		p := f.repository("team/app")
		body := image("", f.pushBlob(p, "{}"))
		d := digestOf(body)
		f.put(p, d.String(), body)
		var pushed error
		tag = func(r registry.Repository) { _, pushed = push(t.Context(), r, "v1", body) }
		remove = func(r registry.Repository) {
			if err := r.DeleteManifest(t.Context(), d); err != nil && registry.CodeOf(err) != registry.Denied && registry.CodeOf(err) != registry.ManifestUnknown {
				t.Errorf("delete: %v", err)
			}
		}
		return remove, tag, func(at string) {
			if pushed == nil && f.at(p, "v1") != d.String() {
				t.Errorf("%s: the tag was acknowledged and is gone", at)
			}
		}
	})
}

// TestImmutableTagAgainstAnotherType pushes a manifest as something else at each moment of a push that gives it an immutable tag,
// and the other way round: once that push is acknowledged, the manifest is what it says, and the other one is refused.
func TestImmutableTagAgainstAnotherType(t *testing.T) {
	interleave(t, func(f *fixture) (retype, tag func(registry.Repository), check func(at string)) {
		p := f.repository("team/app")
		body := []byte(strings.Replace(string(image("", f.pushBlob(p, "{}"))), `"mediaType":"`+imageType+`",`, "", 1))
		d := digestOf(body).String()
		put := func(r registry.Repository, reference, mediaType string) error {
			_, err := r.PutManifest(t.Context(), registry.ManifestPush{Reference: ref(t, reference), MediaType: mediaType, Body: body})
			return err
		}
		var tagged error
		tag = func(r registry.Repository) { tagged = put(r, "v1", imageType) }
		retype = func(r registry.Repository) {
			if err := put(r, d, futureType); err != nil && registry.CodeOf(err) != registry.Denied {
				t.Error(err)
			}
		}
		return retype, tag, func(at string) {
			for _, reference := range []string{"v1", d} {
				if m, err := p.Manifest(t.Context(), ref(t, reference)); tagged != nil || err != nil || m.MediaType != imageType {
					t.Errorf("%s: the tag: %v; %s is %v, %v", at, tagged, reference, m, err)
				}
			}
		}
	})
}
