package registry_test

import (
	"bytes"
	"encoding/json"
	"strings"

	"berth/registry"
)

// A model is what was acknowledged, and so must be served.
type model struct {
	blobs     map[string]string // by repository and digest, "name@digest": content
	manifests map[string]string // by repository and reference: body
	gone      map[string]bool   // manifests, by repository and reference, that must not be served
}

func newModel() *model {
	return &model{blobs: map[string]string{}, manifests: map[string]string{}, gone: map[string]bool{}}
}

// check holds a store against what must be true of it at any time, and what it serves against what was acknowledged.
func (f *fixture) check(want *model) {
	f.Helper()
	f.checkAcknowledged(want)
	used := f.checkBlobRecords()
	f.checkUploads(used)
	for _, name := range f.names() {
		p := f.repository(name)
		f.checkLinks(p)
		f.checkManifests(p)
		f.checkTags(p)
	}
}

// names lists the repositories that have anything, whether or not the catalog has them.
func (f *fixture) names() []string {
	f.Helper()
	var names []string
	for _, key := range f.keys("repositories/") {
		name, _, _ := strings.Cut(strings.TrimPrefix(key, "repositories/"), "/_")
		if len(names) == 0 || names[len(names)-1] != name {
			names = append(names, name)
		}
	}
	return names
}

func (f *fixture) checkAcknowledged(want *model) {
	f.Helper()
	for key, content := range want.blobs {
		name, digest, _ := strings.Cut(key, "@")
		if got, err := readBlob(f.Context(), f.repository(name), ref(f, digest).Digest); err != nil || got != content {
			f.Errorf("acknowledged %s: %d of %d bytes, %v", key, len(got), len(content), err)
		}
	}
	for key, body := range want.manifests {
		name, reference, _ := strings.Cut(key, "@")
		if m, err := f.repository(name).Manifest(f.Context(), ref(f, reference)); err != nil || string(m.Body) != body {
			f.Errorf("acknowledged %s: %+v, %v", key, m, err)
		}
	}
	for key := range want.gone {
		name, reference, _ := strings.Cut(key, "@")
		if f.at(f.repository(name), reference) != "" {
			f.Errorf("%s was deleted and is there", key)
		}
	}
}

// header decodes the first line of a record, and returns the rest.
func (f *fixture) header(key string, header any) []byte {
	f.Helper()
	line, payload, _ := bytes.Cut(f.read(key), []byte{'\n'})
	if err := json.Unmarshal(line, header); err != nil {
		f.Errorf("%s: %v", key, err)
	}
	return payload
}

type segments struct {
	Size, Offset           int64
	State, Digest, Pending string
	Segments               []struct {
		Key  string
		Size int64
	}
}

// checkBlobRecords wants each record to name data objects that are there, hash right and are nobody else's. It returns
// the data objects with the records that name them.
func (f *fixture) checkBlobRecords() map[string]string {
	f.Helper()
	used := map[string]string{}
	for _, key := range f.keys("blobs/") {
		var rec segments
		payload := f.header(key, &rec)
		var content bytes.Buffer
		content.Write(payload)
		for _, s := range rec.Segments {
			if other := used[s.Key]; other != "" {
				f.Errorf("%s and %s share %s", key, other, s.Key)
			}
			used[s.Key] = key
			content.Write(f.read(s.Key))
		}
		parts := strings.Split(key, "/")
		if d := registry.Algorithm(parts[1]).FromBytes(content.Bytes()); d.Hex() != parts[3] || rec.Size != int64(content.Len()) {
			f.Errorf("%s has %d bytes, says %d, and hashes to %s", key, content.Len(), rec.Size, d)
		}
	}
	return used
}

// checkUploads wants what open uploads received to be there, and none of it to be part of a blob.
func (f *fixture) checkUploads(used map[string]string) {
	f.Helper()
	for _, key := range f.keys("uploads/") {
		var rec segments
		f.header(key, &rec)
		for _, s := range rec.Segments {
			rec.Offset -= s.Size
			if rec.State != "closed" && used[s.Key] != "" {
				f.Errorf("%s is %s and shares %s with %s", key, rec.State, s.Key, used[s.Key])
			}
			if rec.State == "open" && len(f.read(s.Key)) != int(s.Size) {
				f.Errorf("%s: %s is cut short", key, s.Key)
			}
		}
		if rec.Offset != 0 || rec.State != "closed" && used[rec.Pending] != "" {
			f.Errorf("%s: %+v", key, rec)
		}
	}
}

func (f *fixture) checkLinks(p registry.Repository) {
	f.Helper()
	prefix := "repositories/" + p.Name().String() + "/_blobs/"
	for _, key := range f.keys(prefix) {
		d := ref(f, strings.Replace(strings.TrimPrefix(key, prefix), "/", ":", 1)).Digest
		if _, err := readBlob(f.Context(), p, d); err != nil {
			f.Errorf("%s: %v", key, err)
		}
	}
}

// checkManifests wants each manifest to have all that it names, to be in the catalog, and among the referrers of its
// subject, which list nothing else.
func (f *fixture) checkManifests(p registry.Repository) {
	f.Helper()
	prefix := "repositories/" + p.Name().String() + "/_manifests/"
	for _, key := range f.keys(prefix) {
		m, err := p.Manifest(f.Context(), ref(f, strings.Replace(strings.TrimPrefix(key, prefix), "/", ":", 1)))
		if err != nil {
			f.Errorf("%s: %v", key, err)
			continue
		}
		var parts struct {
			Config            descriptor
			Layers, Manifests []descriptor
		}
		if err := json.Unmarshal(m.Body, &parts); err != nil {
			f.Errorf("%s: %v", key, err)
		}
		for _, d := range append(parts.Layers, parts.Config) {
			if d.Digest == "" {
				continue // an index has no config
			}
			if _, err := p.Blob(f.Context(), ref(f, d.Digest).Digest); err != nil {
				f.Errorf("%s: %v", key, err)
			}
		}
		for _, d := range parts.Manifests {
			if f.at(p, d.Digest) == "" {
				f.Errorf("%s lacks %s", key, d.Digest)
			}
		}
		if _, err := f.store.Stat(f.Context(), "catalog/"+p.Name().String()+"!"); err != nil {
			f.Errorf("%s: %v", key, err)
		}
	}
	for _, key := range f.keys("repositories/" + p.Name().String() + "/_referrers/") {
		parts := strings.Split(strings.TrimPrefix(key, "repositories/"+p.Name().String()+"/_referrers/"), "/")
		for _, d := range f.referrers(p, ref(f, parts[0]+":"+parts[1]).Digest, "", 1000) {
			if f.at(p, d) == "" {
				f.Errorf("%s lists %s, which is gone", key, d)
			}
		}
	}
}

// checkTags wants each tag to resolve or to be absent, and to have a hint.
func (f *fixture) checkTags(p registry.Repository) {
	f.Helper()
	prefix := "repositories/" + p.Name().String() + "/"
	for _, key := range f.keys(prefix + "_tags/") {
		tag := strings.TrimPrefix(key, prefix+"_tags/")
		f.at(p, tag) // or the test ends
		var rec struct{ Digest string }
		f.header(key, &rec)
		if _, err := f.store.Stat(f.Context(), prefix+"_tagged/"+strings.Replace(rec.Digest, ":", "/", 1)+"/"+tag); err != nil {
			f.Errorf("the tag %s has no hint: %v", tag, err)
		}
	}
}
