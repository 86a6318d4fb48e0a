package registry_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"berth/registry"
	"berth/storage/storagetest"
)

// referring returns an artifact of a type that refers to a subject.
func referring(subject registry.Digest, artifactType, note string, config registry.Digest) []byte {
	m := map[string]any{
		"schemaVersion": 2, "mediaType": imageType,
		"config":      descriptor{"application/vnd.example.config+json", config.String(), 1},
		"layers":      []descriptor{},
		"subject":     descriptor{imageType, subject.String(), 1},
		"annotations": map[string]string{"note": note},
	}
	if artifactType != "" {
		m["artifactType"] = artifactType
	}
	body, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return body
}

// pushReferrer pushes a manifest by its digest.
func (f *fixture) pushReferrer(p registry.Repository, body []byte) string {
	f.Helper()
	return f.put(p, registry.SHA256.FromBytes(body).String(), body).Digest.String()
}

// referrers lists all referrers, a page of about maxBytes at a time.
func (f *fixture) referrers(p registry.Repository, subject registry.Digest, artifactType string, maxBytes int) []string {
	f.Helper()
	digests := []string{}
	for after, more := "", true; more; {
		var page []registry.Descriptor
		var err error
		if page, more, err = p.Referrers(f.Context(), subject, artifactType, after, maxBytes); err != nil || more && len(page) == 0 {
			f.Fatalf("referrers: %d, %v, %v", len(page), more, err)
		}
		for _, d := range page {
			digests, after = append(digests, d.Digest), d.Digest
		}
	}
	return digests
}

func wantDigests(t *testing.T, what string, got, want []string) {
	t.Helper()
	want = slices.Clone(want)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s: there are %d, want %d: %v, %v", what, len(got), len(want), got, want)
	}
}

// TestReferrers keeps more referrers than one page holds, filters them and removes them.
func TestReferrers(t *testing.T) {
	f := newFixture(t, nil, nil)
	p := f.repository("team/app")
	config := f.pushBlob(p, "{}")
	subject := registry.SHA256.FromBytes([]byte("not pushed yet"))
	if got := f.referrers(p, subject, "", 1000); len(got) != 0 {
		t.Errorf("before anything: %v", got)
	}
	types := []string{"a/signature", "a/sbom", ""}
	byType := map[string][]string{}
	var all []string
	for i := range 60 {
		kind := types[i%3]
		d := f.pushReferrer(p, referring(subject, kind, fmt.Sprint(i, strings.Repeat("x", 20_000)), config))
		if kind == "" {
			kind = "application/vnd.example.config+json" // that of the config stands in
		}
		byType[kind], all = append(byType[kind], d), append(all, d)
	}
	if pages := f.keys("repositories/team/app/_referrers/"); len(pages) < 3 {
		t.Fatalf("there are only the pages %q", pages)
	}
	for _, maxBytes := range []int{100_000, 1 << 30} {
		wantDigests(t, "all", f.referrers(p, subject, "", maxBytes), all)
		for kind, want := range byType {
			wantDigests(t, kind, f.referrers(p, subject, kind, maxBytes), want)
		}
		wantDigests(t, "of no type there is", f.referrers(p, subject, "a/other", maxBytes), nil)
	}
	for i, d := range slices.Clone(all) {
		if i%4 == 0 {
			continue
		}
		if err := p.DeleteManifest(t.Context(), ref(t, d).Digest); err != nil {
			t.Fatal(err)
		}
		all = slices.DeleteFunc(all, func(e string) bool { return e == d })
	}
	wantDigests(t, "left", f.referrers(p, subject, "", 1<<30), all)
	if got := f.referrers(f.repository("other"), subject, "", 1000); len(got) != 0 {
		t.Errorf("of another repository: %v", got)
	}
}

// TestReferrersTakeLittleMemory lists few of many large referrers: those that are not wanted are not kept.
func TestReferrersTakeLittleMemory(t *testing.T) {
	flaky := storagetest.NewFlaky(newStore())
	f := newFixture(t, flaky, nil)
	p := f.repository("team/app")
	config := f.pushBlob(p, "{}")
	subject := registry.SHA256.FromBytes(nil)
	const pages, size = 40, 200 << 10
	var all []string
	for i := range pages {
		all = append(all, f.pushReferrer(p, referring(subject, "a/b", fmt.Sprint(i, strings.Repeat("x", size)), config))) // a page each
	}
	slices.Sort(all)
	for _, c := range []struct {
		name, artifactType, after string
		want                      []string
	}{
		{"of no type there is", "a/other", "", nil},
		{"after the last", "", all[pages-1], nil},
		{"the last", "a/b", all[pages-3], all[pages-2:]},
	} {
		t.Run(c.name, func(t *testing.T) {
			var heap []int64
			flaky.Plan(func(storagetest.Call) storagetest.Fault {
				runtime.GC()
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				heap = append(heap, int64(m.HeapAlloc))
				return storagetest.Fault{}
			})
			list, _, err := p.Referrers(t.Context(), subject, c.artifactType, c.after, 8*size)
			flaky.Plan(nil)
			var got []string
			for _, d := range list {
				got = append(got, d.Digest)
			}
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("there are %v, %v, want %v", got, err, c.want)
			}
			if kept := slices.Max(heap) - heap[0]; len(heap) < pages || kept > 8*size {
				t.Errorf("after %d calls, %d bytes were kept, want at most %d", len(heap), kept, 8*size)
			}
		})
	}
}

// TestLargestReferrer pushes the largest manifest that a configuration allows, of which the descriptor is six times as large.
func TestLargestReferrer(t *testing.T) {
	const most = 10 << 20
	f := newFixture(t, nil, &registry.Options{MaxManifest: most})
	p := f.repository("team/app")
	config := f.pushBlob(p, "{}")
	subject := registry.SHA256.FromBytes(nil)
	small := f.pushReferrer(p, referring(subject, "", strings.Repeat("x", 190_000), config))
	body := referring(subject, "", "NOTE", config)
	large := f.pushReferrer(p, bytes.Replace(body, []byte("NOTE"), bytes.Repeat([]byte("<"), most-len(body)), 1))
	if f.at(p, large) != large {
		t.Error("it cannot be read")
	}
	wantDigests(t, "referrers", f.referrers(p, subject, "", 1), []string{small, large})
	if err := p.DeleteManifest(t.Context(), ref(t, large).Digest); err != nil {
		t.Error(err)
	}
	wantDigests(t, "left", f.referrers(p, subject, "", 1), []string{small})
}

func TestDescriptorsOfReferrers(t *testing.T) {
	f := newFixture(t, nil, nil)
	p := f.repository("team/app")
	config := f.pushBlob(p, "{}")
	subject := f.put(p, "v1", image("subject", config)).Digest
	at := fmt.Sprintf(`"subject":{"mediaType":%q,"digest":%q,"size":1}`, imageType, subject)
	of := func(mediaType string) string {
		return fmt.Sprintf(`"config":{"mediaType":%q,"digest":%q,"size":2}`, mediaType, config)
	}
	for _, c := range []struct{ mediaType, body, want string }{
		{imageType, `{"schemaVersion":2,` + of("a/config") + `,"layers":[],` + at + `}`, "a/config"},
		{imageType, `{"schemaVersion":2,"artifactType":"a/own",` + of("a/config") + `,"layers":[],` + at + `}`, "a/own"},
		{imageType, `{"schemaVersion":2,"artifactType":"",` + of("application/vnd.oci.empty.v1+json") + `,"layers":[],` + at + `}`, "application/vnd.oci.empty.v1+json"},
		{indexType, `{"schemaVersion":2,"manifests":[],` + at + `}`, ""},
		{indexType, `{"schemaVersion":2,"artifactType":"a/own","manifests":[],` + at + `,"annotations":{"a":"<b> & c"}}`, "a/own"},
		{artifactType, `{"artifactType":"a/own","blobs":[],` + at + `}`, "a/own"},
		{futureType, `{"artifactType":"a/future",` + at + `}`, "a/future"},
	} {
		m, err := p.PutManifest(t.Context(), registry.ManifestPush{Reference: registry.Reference{Digest: registry.SHA512.FromBytes([]byte(c.body))}, MediaType: c.mediaType, Body: []byte(c.body)})
		if err != nil || m.Subject != subject {
			t.Fatalf("%s: %+v, %v", c.body, m, err)
		}
		got, _, err := p.Referrers(t.Context(), subject, "", "", 1<<20)
		if err != nil || len(got) != 1 || got[0].Digest != m.Digest.String() || got[0].MediaType != c.mediaType ||
			got[0].ArtifactType != c.want || got[0].Size != int64(len(c.body)) || len(got[0].Annotations) != strings.Count(c.body, "annotations") {
			t.Errorf("%s is described as %+v, %v", c.body, got, err)
		}
		if err := p.DeleteManifest(t.Context(), m.Digest); err != nil {
			t.Error(err)
		}
	}
}

// TestReferrersTag wants what a client of the referrers tag schema lists in an index of its own to be listed as well.
func TestReferrersTag(t *testing.T) {
	f := newFixture(t, nil, nil)
	p := f.repository("team/app")
	config := f.pushBlob(p, "{}")
	subject := f.put(p, "v1", image("subject", config)).Digest
	var children []string
	var entries []entry
	for i := range 5 {
		children = append(children, f.pushReferrer(p, referring(subject, "a/b", fmt.Sprint(i), config)))
		entries = append(entries, entry{Type: imageType, Digest: children[i]})
	}
	f.put(p, "sha256-"+subject.Hex(), index(entries...))
	wantDigests(t, "children", f.referrers(p, subject, "", 1000), children)
}

// TestReferrersOfACutDelete wants no manifest to be listed that is gone, wherever its deletion was cut short.
func TestReferrersOfACutDelete(t *testing.T) {
	for n := 1; ; n++ {
		flaky := storagetest.NewFlaky(newStore())
		f := newFixture(t, flaky, nil)
		p := f.repository("team/app")
		config := f.pushBlob(p, "{}")
		subject := registry.SHA256.FromBytes(nil)
		kept, doomed := f.pushReferrer(p, referring(subject, "", "kept", config)), f.pushReferrer(p, referring(subject, "", "doomed", config))
		flaky.Plan(func(c storagetest.Call) (fault storagetest.Fault) {
			if c.N >= n { // from here on nothing works
				fault.Mode = storagetest.FailBefore
			}
			return fault
		})
		err := p.DeleteManifest(t.Context(), ref(t, doomed).Digest)
		cut := flaky.Faults() > 0
		flaky.Plan(nil)
		want := []string{kept}
		if f.at(p, doomed) != "" {
			want = append(want, doomed)
		}
		wantDigests(t, fmt.Sprintf("cut at call %d", n), f.referrers(p, subject, "", 1), want)
		if !cut {
			if err != nil || n == 1 {
				t.Errorf("delete: %v", err)
			}
			return
		}
	}
}

// TestDamagedReferrers damages pages: they are not listed as if they were whole, and whoever pushes a referrer or deletes
// one of them heals them.
func TestDamagedReferrers(t *testing.T) {
	header := `{"nonce":"1","sealed":true}` + "\n"
	for name, content := range map[string]string{"empty": "", "a header": header[:9], "a list": header + "[{"} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, nil, nil)
			p := f.repository("team/app")
			config := f.pushBlob(p, "{}")
			subject := registry.SHA256.FromBytes([]byte("a subject"))
			push := func(note string) string {
				return f.pushReferrer(p, referring(subject, "", note+strings.Repeat("x", 200_000), config)) // a page each
			}
			damage := func(pages ...int) {
				for _, page := range pages {
					f.overwrite(fmt.Sprintf("repositories/team/app/_referrers/sha256/%s/%d", subject.Hex(), page), []byte(content))
				}
			}
			f.pushReferrer(p, referring(config, "", "of another subject", config))
			all := []string{push("a"), push("b"), push("c")}
			damage(0)
			if _, _, err := p.Referrers(t.Context(), subject, "", "", 1<<30); err == nil {
				t.Error("it lists what is damaged")
			}
			all = append(all, push("d"))
			wantDigests(t, "after a push", f.referrers(p, subject, "", 1000), all)
			damage(1, 2)
			all = append(all, push("e"))
			wantDigests(t, "after another", f.referrers(p, subject, "", 1000), all)
			damage(0, 1, 2, 3, 4)
			if err := p.DeleteManifest(t.Context(), ref(t, all[4]).Digest); err != nil {
				t.Error(err)
			}
			wantDigests(t, "left", f.referrers(p, subject, "", 1000), all[:4])
			damage(2)
			if _, err := p.Remove(t.Context(), false); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRestoreFails fails each call of a push that finds a damaged page, until the push is repeated.
func TestRestoreFails(t *testing.T) {
	for _, w := range ways {
		for n, hit := 1, true; hit; n++ {
			flaky := storagetest.NewFlaky(newStore())
			f := newFixture(t, flaky, nil)
			p := f.repository("a")
			config := f.pushBlob(p, "{}")
			subject := registry.SHA256.FromBytes(nil)
			want := []string{f.pushReferrer(p, referring(subject, "", "1", config)), f.pushReferrer(p, referring(subject, "", "2", config))}
			for _, key := range f.keys("repositories/a/_referrers/") {
				f.overwrite(key, []byte("damaged"))
			}
			flaky.Plan(func(c storagetest.Call) (fault storagetest.Fault) {
				if c.N == n || w.outage && c.N > n {
					fault.Mode = w.mode
				}
				return fault
			})
			third := referring(subject, "", "3", config)
			d := registry.SHA256.FromBytes(third).String()
			_, err := push(t.Context(), p, d, third)
			hit = flaky.Faults() > 0
			flaky.Plan(nil)
			if err != nil {
				f.pushReferrer(p, third)
			}
			wantDigests(t, fmt.Sprintf("%s at call %d", w.name, n), f.referrers(p, subject, "", 1), append(want, d))
		}
	}
}

// TestReferrersComeAndGo deletes referrers and pushes them again, all at once: those pushed last are listed, once each, also when
// pages are damaged in between.
func TestReferrersComeAndGo(t *testing.T) {
	for _, damage := range []bool{false, true} {
		t.Run(fmt.Sprintf("damage=%t", damage), func(t *testing.T) { comeAndGo(t, damage) })
	}
}

func comeAndGo(t *testing.T, damage bool) {
	f := newFixture(t, nil, nil)
	p := f.repository("team/app")
	config := f.pushBlob(p, "{}")
	subject := registry.SHA256.FromBytes(nil)
	padding := strings.Repeat("x", 20_000)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			body := referring(subject, "", fmt.Sprint(i, padding), config)
			d := registry.SHA256.FromBytes(body)
			for range 5 {
				if damage && i == 0 {
					f.overwrite("repositories/team/app/_referrers/sha256/"+subject.Hex()+"/0", []byte("damaged"))
				}
				var both sync.WaitGroup
				both.Go(func() {
					if err := p.DeleteManifest(t.Context(), d); err != nil && registry.CodeOf(err) != registry.ManifestUnknown && registry.CodeOf(err) != registry.NameUnknown {
						t.Error(err)
					}
				})
				both.Go(func() {
					if _, err := push(t.Context(), p, d.String(), body); err != nil {
						t.Error(err)
					}
				})
				both.Wait()
				page, _, err := p.Referrers(t.Context(), subject, "", "", 1<<30)
				for err != nil && damage { // until the first one heals it
					page, _, err = p.Referrers(t.Context(), subject, "", "", 1<<30)
				}
				n := 0
				for _, e := range page {
					if e.Digest == d.String() {
						n++
					}
				}
				if exists := f.at(p, d.String()) != ""; err != nil || n > 1 || exists != (n == 1) {
					t.Errorf("a referrer exists: %v, and is listed %d times, %v", exists, n, err)
				}
			}
			if i%2 == 0 {
				if _, err := push(t.Context(), p, d.String(), body); err != nil {
					t.Error(err)
				}
			} else if err := p.DeleteManifest(t.Context(), d); err != nil && registry.CodeOf(err) != registry.ManifestUnknown {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if got := f.referrers(p, subject, "", 1); len(got) != 4 {
		t.Errorf("there are %d", len(got))
	}
}
