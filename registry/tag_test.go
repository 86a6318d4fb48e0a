package registry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"berth/registry"
	"berth/storage"
	"berth/storage/storagetest"
)

func TestTagsInPages(t *testing.T) {
	f := newFixture(t, nil, nil)
	p := f.repository("team/app")
	_, _, err := p.Tags(t.Context(), "", -1)
	wantCode(t, "tags of an unknown repository", err, registry.NameUnknown)
	body := image("", f.pushBlob(p, "blob"))
	_, _, err = p.Tags(t.Context(), "", -1)
	wantCode(t, "tags of a repository of blobs alone", err, registry.NameUnknown)
	m := f.put(p, registry.SHA256.FromBytes(body).String(), body)
	if tags, more, err := p.Tags(t.Context(), "", 5); err != nil || more || tags == nil || len(tags) != 0 {
		t.Errorf("tags of untagged manifests: %v %v %v", tags, more, err)
	}
	var want []string
	for i := range 3000 {
		want = append(want, fmt.Sprintf("%c%d", "vV_0"[i%4], i))
	}
	for page := range slices.Chunk(want, 100) {
		var tags []registry.Tag
		for _, s := range page {
			tags = append(tags, ref(t, s).Tag)
		}
		if _, err := p.PutManifest(t.Context(), registry.ManifestPush{Reference: registry.Reference{Digest: m.Digest}, Tags: tags, Body: body}); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(want)
	for _, n := range []int{1, 7, 1000, 1500, 2999, 3000, 3001, -1} {
		if got := allTags(t, p, n, len(want)); !slices.Equal(got, want) {
			t.Errorf("in pages of %d there are %d tags", n, len(got))
		}
	}
	if tags, more, err := p.Tags(t.Context(), "", 0); err != nil || !more || len(tags) != 0 {
		t.Errorf("none of them: %v %v %v", tags, more, err)
	}
	if tags, more, err := p.Tags(t.Context(), "zzz", 10); err != nil || more || len(tags) != 0 {
		t.Errorf("after the last: %v %v %v", tags, more, err)
	}
	if tags, _, err := p.Tags(t.Context(), "V", 1); err != nil || !slices.Equal(tags, []string{"V1"}) {
		t.Errorf("after what is no tag: %v %v", tags, err)
	}
}

// allTags lists in pages of n.
func allTags(t *testing.T, p registry.Repository, n, total int) []string {
	t.Helper()
	var all []string
	for after := ""; ; after = all[len(all)-1] {
		tags, more, err := p.Tags(t.Context(), after, n)
		if err != nil || more && len(tags) != n || len(all) > total {
			t.Fatalf("after %q: %d tags, %v, %v", after, len(tags), more, err)
		}
		if all = append(all, tags...); !more {
			return all
		}
	}
}

func TestTagsUnderACancelledContext(t *testing.T) {
	f := newFixture(t, nil, nil)
	p := f.repository("team/app")
	body := image("", f.pushBlob(p, "blob"))
	f.put(p, registry.SHA256.FromBytes(body).String(), body)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if tags, _, err := p.Tags(ctx, "", -1); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, %v", tags, err)
	}
}

// TestDeleteManifestDropsItsTags wants exactly the tags of one manifest gone, at a price that other tags do not raise.
func TestDeleteManifestDropsItsTags(t *testing.T) {
	price := func(others int) int {
		flaky := storagetest.NewFlaky(newStore())
		f := newFixture(t, flaky, nil)
		p := f.repository("team/app")
		blob := f.pushBlob(p, "blob")
		doomed, other := image("doomed", blob), image("other", blob)
		for _, tag := range []string{"a", "b", "moved"} {
			f.put(p, tag, doomed)
		}
		f.put(p, "moved", other)
		for i := range others {
			f.put(p, fmt.Sprintf("other%d", i), other)
		}
		flaky.Plan(nil)
		if err := p.DeleteManifest(t.Context(), registry.SHA256.FromBytes(doomed)); err != nil {
			t.Fatal(err)
		}
		calls := flaky.Calls()
		if tags, _, err := p.Tags(t.Context(), "", -1); err != nil || len(tags) != others+1 || !slices.Contains(tags, "moved") {
			t.Errorf("of %d other tags these are left: %v %v", others+1, tags, err)
		}
		return calls
	}
	if few, many := price(1), price(500); few != many {
		t.Errorf("deleting costs %d calls beside 1 other tag, and %d beside 500", few, many)
	}
}

func TestDeleteUnknown(t *testing.T) {
	f := newFixture(t, nil, nil)
	p := f.repository("team/app")
	d := registry.SHA256.FromBytes(nil)
	wantCode(t, "a manifest of an unknown repository", p.DeleteManifest(t.Context(), d), registry.NameUnknown)
	wantCode(t, "a tag of an unknown repository", p.DeleteTag(t.Context(), ref(t, "v1").Tag), registry.NameUnknown)
	m := f.put(p, "v1", image("", f.pushBlob(p, "blob")))
	wantCode(t, "an unknown manifest", p.DeleteManifest(t.Context(), d), registry.ManifestUnknown)
	wantCode(t, "an unknown tag", p.DeleteTag(t.Context(), ref(t, "v2").Tag), registry.ManifestUnknown)
	if err := p.DeleteTag(t.Context(), ref(t, "v1").Tag); err != nil {
		t.Error(err)
	}
	wantCode(t, "a deleted tag", p.DeleteTag(t.Context(), ref(t, "v1").Tag), registry.ManifestUnknown)
	if f.at(p, m.Digest.String()) == "" {
		t.Error("deleting a tag deleted its manifest")
	}
}

// TestDeleteTagWithALostReply wants a delete that met nothing but itself to have taken place.
func TestDeleteTagWithALostReply(t *testing.T) {
	flaky := storagetest.NewFlaky(newStore())
	f := newFixture(t, flaky, nil)
	p := f.repository("team/app")
	f.put(p, "v1", image("", f.pushBlob(p, "blob")))
	flaky.Plan(func(c storagetest.Call) (fault storagetest.Fault) {
		if c.Op == storagetest.OpDelete {
			fault.Mode = storagetest.ConflictAfter
		}
		return fault
	})
	if err := p.DeleteTag(t.Context(), ref(t, "v1").Tag); err != nil {
		t.Error(err)
	}
}

func TestTagHistory(t *testing.T) {
	f := newFixture(t, nil, nil)
	p := f.repository("team/app")
	blob := f.pushBlob(p, "blob")
	var want []string
	for i := range 50 {
		m := f.put(p, "v1", image(fmt.Sprint(i), blob))
		f.put(p, "v1", image(fmt.Sprint(i), blob)) // again: no new state
		want = append(want, m.Digest.String())
	}
	record, _, err := storage.ReadAll(t.Context(), f.store, "repositories/team/app/_tags/v1", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	_, payload, _ := bytes.Cut(record, []byte{'\n'})
	var history []struct{ Digest string }
	if err := json.Unmarshal(payload, &history); err != nil {
		t.Fatal(err)
	}
	slices.Reverse(want)
	for i, state := range history {
		if state.Digest != want[i+1] {
			t.Errorf("state %d before the last was %s, want %s", i+1, state.Digest, want[i+1])
		}
	}
	if len(history) != 32 {
		t.Errorf("there are %d earlier states", len(history))
	}
}

// TestTagMovesWhileRead deletes what a tag named right when it is read, after the tag moved on: at no moment was there
// no such tag.
func TestDamagedTagHistory(t *testing.T) {
	immutable := func(_ registry.Name, tag registry.Tag) bool { return tag.String() == "stays" }
	f := newFixture(t, nil, &registry.Options{Immutable: immutable})
	p := f.repository("a")
	blob := f.pushBlob(p, "blob")
	first, second := image("first", blob), image("second", blob)
	const key, locked = "repositories/a/_tags/v1", "repositories/a/_tags/stays"
	f.put(p, "v1", second)
	f.put(p, "v1", first)
	f.put(p, "stays", first)
	for _, k := range []string{key, locked} {
		header, _, _ := bytes.Cut(f.read(k), []byte("\n"))
		f.overwrite(k, append(slices.Clip(header), "\n[{\"digest\":\"sha256:0\"},{"...))
	}
	at := []registry.Digest{digestOf(second)}
	_, err := p.PutManifest(t.Context(), registry.ManifestPush{Reference: ref(t, "v1"), Body: second, IfMatch: at})
	wantCode(t, "a push that wants the tag elsewhere", err, registry.PreconditionFailed)
	_, err = push(t.Context(), p, "stays", second)
	wantCode(t, "a push that moves an immutable tag", err, registry.Denied)
	f.put(p, "stays", first)
	f.put(p, "v1", second)
	if got := f.at(p, "v1"); got != digestOf(second).String() {
		t.Errorf("the tag is at %q", got)
	}
	for k, n := range map[string]int{key: 1, locked: 0} {
		var history []map[string]any
		if _, payload, _ := bytes.Cut(f.read(k), []byte("\n")); json.Unmarshal(payload, &history) != nil || len(history) != n {
			t.Errorf("the history of %s is %s", k, payload)
		}
	}
}

func TestTagMovesWhileRead(t *testing.T) {
	store := &hooked{Driver: newStore()}
	f := newFixture(t, store, nil)
	p := f.repository("team/app")
	blob := f.pushBlob(p, "blob")
	old := f.put(p, "v1", image("0", blob))
	moves := 3
	store.open = func(key string) {
		hook, before := store.open, old.Digest
		if moves == 0 || !strings.HasSuffix(key, "/_manifests/sha256/"+before.Hex()) {
			return
		}
		store.open, moves = nil, moves-1
		old = f.put(p, "v1", image(fmt.Sprint("moved ", moves), blob))
		if err := p.DeleteManifest(t.Context(), before); err != nil {
			t.Error(err)
		}
		store.open = hook
	}
	if got := f.at(p, "v1"); got != old.Digest.String() {
		t.Errorf("the tag is at %q, want %s", got, old.Digest)
	}
	if moves != 0 {
		t.Errorf("%d moves did not take place", moves)
	}
}

// TestSupersededPush loses the reply to a push that another push then supersedes: the first must not come again.
func TestSupersededPush(t *testing.T) {
	store := &hooked{Driver: newStore()}
	f := newFixture(t, store, nil)
	p := f.repository("team/app")
	blob := f.pushBlob(p, "blob")
	first, second := image("first", blob), image("second", blob)
	for _, c := range []registry.ManifestPush{
		{Reference: ref(t, "v1")},
		{Reference: ref(t, "v2"), IfAbsent: true},
		{Reference: ref(t, "v3"), IfMatch: []registry.Digest{f.put(p, "v3", image("third", blob)).Digest}},
	} {
		c.Body = first
		store.put = func(ctx context.Context, key string, put func(context.Context) (storage.Info, error)) (storage.Info, error) {
			info, err := put(ctx)
			if strings.Contains(key, "_tags/") && err == nil {
				store.put = nil
				f.put(p, c.Reference.String(), second)
				return storage.Info{}, fmt.Errorf("a retry met its own write: %w", storage.ErrConflict)
			}
			return info, err
		}
		if _, err := p.PutManifest(t.Context(), c); err != nil {
			t.Errorf("%s: %v", c.Reference, err)
		}
		if got := f.at(p, c.Reference.String()); got != registry.SHA256.FromBytes(second).String() {
			t.Errorf("%s is at %s: the push that was superseded came again", c.Reference, got)
		}
	}
}

// TestDeleteManifestUnread wants a manifest that cannot be read now to stay: its subject must be known to delete it.
func TestDeleteManifestUnread(t *testing.T) {
	flaky := storagetest.NewFlaky(newStore())
	f := newFixture(t, flaky, nil)
	p := f.repository("team/app")
	m := f.put(p, "v1", image("", f.pushBlob(p, "blob")))
	flaky.FailNth(1, storagetest.FailBefore)
	wantCode(t, "delete", p.DeleteManifest(t.Context(), m.Digest), registry.Unavailable)
	if f.at(p, "v1") == "" {
		t.Error("it was deleted unread")
	}
}
