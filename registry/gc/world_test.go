package gc_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"berth/registry"
	"berth/storage"
	"berth/storage/storagetest"
)

// fail says what is wrong, once; mu is held.
func (w *world) fail(format string, args ...any) {
	if w.broken == "" {
		w.broken = fmt.Sprintf(format, args...)
	}
}

// modelBlob is what a blob record says.
type modelBlob struct {
	Size     int64
	Purged   bool
	Refused  bool
	Segments []struct {
		Key  string
		Size int64
	}
}

func (w *world) header(key string, into any) (payload string, ok bool) {
	body, _, err := storage.ReadAll(context.Background(), w.base, key, 1<<20)
	if err != nil {
		return "", false
	}
	header, payload, _ := strings.Cut(string(body), "\n")
	if err := json.Unmarshal([]byte(header), into); err != nil {
		w.fail("the record %s: %v", key, err)
	}
	return payload, true
}

// bytesOf returns what a blob has, or why it has none.
func (w *world) bytesOf(hex string) (string, string) {
	var b modelBlob
	key := "blobs/sha256/" + hex[:2] + "/" + hex
	content, ok := w.header(key, &b)
	if !ok || b.Purged {
		return "", "there is no record " + key
	}
	for _, s := range b.Segments {
		body, _, err := storage.ReadAll(context.Background(), w.base, s.Key, 1<<20)
		if err != nil {
			return "", fmt.Sprintf("the record %s names %s: %v", key, s.Key, err)
		}
		content += string(body)
	}
	return content, ""
}

// check looks, after a change, whether every manifest has its blobs, and no two blobs share data; mu is held.
func (w *world) check(op storagetest.Op, key string) {
	k := registry.ParseKey(key)
	switch {
	case op == storagetest.OpPut && k.Kind == registry.BlobKind:
		w.checkSharing(key)
		w.checkData(k.Digest)
		w.restored(k.Digest)
	case op == storagetest.OpPut && k.Kind == registry.LinkKind:
		w.restored(k.Digest)
	case op == storagetest.OpPut && k.Kind == registry.ManifestKind:
		w.checkManifest(key, k.Repository)
	case op == storagetest.OpDelete && (k.Kind == registry.LinkKind || k.Kind == registry.BlobKind || k.Kind == registry.DataKind):
		for info := range w.base.List(context.Background(), "", "") {
			switch k := registry.ParseKey(info.Key); k.Kind {
			case registry.BlobKind:
				w.checkData(k.Digest)
			case registry.ManifestKind:
				w.checkManifest(info.Key, k.Repository)
			}
		}
	}
	if op == storagetest.OpDelete && k.Kind == registry.ManifestKind && w.acked[k.Repository+"@"+k.Digest.String()] {
		w.fail("the manifest %s was removed, and nobody asked for that", key)
	}
}

func (w *world) checkManifest(key, repository string) {
	var header struct{}
	payload, ok := w.header(key, &header)
	if !ok {
		return
	}
	var m struct {
		Config            descriptor
		Layers, Manifests []descriptor
	}
	if err := json.Unmarshal([]byte(payload), &m); err != nil {
		w.fail("the manifest %s: %v", key, err)
		return
	}
	for _, d := range append(append(m.Layers, m.Manifests...), m.Config) {
		wrong := ""
		switch {
		case d.Digest == "": // an index has no config
		case d.MediaType == imageType:
			wrong = w.childWrong(repository, d.Digest)
		case !w.taken[repository+"@"+d.Digest]:
			wrong = w.blobWrong(repository, d.Digest)
		}
		if wrong != "" {
			w.fail("the manifest %s names %s", key, wrong)
			return
		}
	}
}

// childWrong says what is wrong with a manifest that an index names: it may only be missing if somebody deleted it.
func (w *world) childWrong(repository, digest string) string {
	key := "repositories/" + repository + "/_manifests/" + strings.Replace(digest, ":", "/", 1)
	if _, err := w.base.Stat(context.Background(), key); err == nil || w.deleted[repository]+w.deleted[repository+"@"+digest] > 0 {
		return ""
	}
	return "a manifest that is gone: " + key
}

// blobWrong says why a repository cannot serve a blob, "" if it can.
func (w *world) blobWrong(repository, digest string) string {
	_, digest, _ = strings.Cut(digest, ":")
	link := "repositories/" + repository + "/_blobs/sha256/" + digest
	if _, err := w.base.Stat(context.Background(), link); err != nil {
		return "a blob without " + link
	}
	content, missing := w.bytesOf(digest)
	if missing != "" {
		return "a blob that is gone: " + missing
	}
	if sum := sha256.Sum256([]byte(content)); hex.EncodeToString(sum[:]) != digest {
		return "the blob " + digest + ", whose bytes are others"
	}
	return ""
}

// checkData wants a record of a blob to have its data, unless it is just being purged.
func (w *world) checkData(d registry.Digest) {
	var b modelBlob
	key := registry.KeyOfBlob(d)
	if _, ok := w.header(key, &b); !ok || b.Purged || w.taking[d.String()] > 0 {
		return
	}
	for _, s := range b.Segments {
		if _, err := w.base.Stat(context.Background(), s.Key); err != nil {
			w.fail("the record %s names %s, which is gone", key, s.Key)
		}
	}
}

// take notes that a user takes a blob from repositories: until over is called, and whoever pushes it again, manifests there may
// lack it.
func (w *world) take(d registry.Digest, from ...string) (over func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, repository := range from {
		w.taking[repository+"@"+d.String()]++
		w.taken[repository+"@"+d.String()] = true
	}
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, repository := range from {
			w.taking[repository+"@"+d.String()]--
		}
		w.restored(d)
	}
}

// restored looks where a blob that was taken is whole again; mu is held.
func (w *world) restored(d registry.Digest) {
	for _, repository := range repositories {
		key := repository + "@" + d.String()
		if w.taken[key] && w.taking[key] == 0 && w.blobWrong(repository, d.String()) == "" {
			delete(w.taken, key)
		}
	}
}

func (w *world) checkSharing(key string) {
	var b modelBlob
	if _, ok := w.header(key, &b); !ok {
		return
	}
	for info := range w.base.List(context.Background(), "blobs/", "") {
		var other modelBlob
		if _, ok := w.header(info.Key, &other); !ok || info.Key == key {
			continue
		}
		for _, s := range b.Segments {
			if slices.Contains(other.Segments, s) {
				w.fail("the blobs %s and %s share %s", key, info.Key, s.Key)
			}
		}
	}
}

// checkLeft wants nothing to be left that is not reached.
func (w *world) checkLeft(uploads bool) {
	reached := map[string]bool{}
	var manifests []registry.Key
	for info := range w.base.List(context.Background(), "", "") {
		k := registry.ParseKey(info.Key)
		switch k.Kind {
		case registry.ManifestKind:
			w.reach(reached, info.Key, k.Repository)
			reached["catalog/"+k.Repository+"!"] = true
			manifests = append(manifests, k)
		case registry.UploadKind:
			if !uploads {
				var u struct {
					Segments []struct{ Key string }
					Pending  string
				}
				w.header(info.Key, &u)
				reached[u.Pending] = true
				for _, s := range u.Segments {
					reached[s.Key] = true
				}
				reached[info.Key] = true
			}
		}
	}
	w.checkReferrers(manifests)
	for key := range w.acked {
		repository, digest, _ := strings.Cut(key, "@")
		if !slices.ContainsFunc(manifests, func(k registry.Key) bool { return k.Repository == repository && k.Digest.String() == digest }) {
			w.fail("the manifest %s is gone, and nobody asked for that", key)
		}
	}
	for info := range w.base.List(context.Background(), "", "") {
		k := registry.ParseKey(info.Key)
		switch k.Kind {
		case registry.LinkKind, registry.BlobKind, registry.DataKind, registry.UploadKind, registry.CatalogKind:
			if !reached[info.Key] && !w.isRefusal(k, info.Key) {
				w.fail("nothing reaches %s, last touched at %s, and it is still there", info.Key, info.ModTime.Sub(w.epoch))
			}
		case registry.HintKind:
			if !slices.ContainsFunc(manifests, func(m registry.Key) bool { return m.Repository == k.Repository && m.Digest == k.Digest }) {
				w.fail("the hint %s leads from a manifest that is gone", info.Key)
			}
		case registry.ReferrersKind:
			if listed, ok := w.header(info.Key, &struct{}{}); ok && len(listed) <= len("null") {
				w.fail("the page of referrers %s lists nothing", info.Key)
			}
		case registry.TagKind:
			var tag struct{ Digest string }
			w.header(info.Key, &tag)
			if !slices.ContainsFunc(manifests, func(m registry.Key) bool { return m.Repository == k.Repository && m.Digest.String() == tag.Digest }) {
				w.fail("the tag %s names a manifest that is gone", info.Key)
			}
		}
	}
}

// isRefusal reports whether a record is the note that a blob is not wanted, which stays.
func (w *world) isRefusal(k registry.Key, key string) bool {
	var b modelBlob
	if k.Kind != registry.BlobKind {
		return false
	}
	_, ok := w.header(key, &b)
	return ok && b.Refused
}

// checkReferrers wants the referrers of each manifest to be those that are there. Of a push that was cut off, what names its
// subject may be there without being listed.
func (w *world) checkReferrers(manifests []registry.Key) {
	there, wanted := map[string]bool{}, map[string][]string{}
	for _, k := range manifests {
		there[k.Repository+"@"+k.Digest.String()] = true
		var m struct{ Subject descriptor }
		payload, _ := w.header("repositories/"+k.Repository+"/_manifests/sha256/"+k.Digest.Hex(), &struct{}{})
		if err := json.Unmarshal([]byte(payload), &m); err == nil && m.Subject.Digest != "" && w.acked[k.Repository+"@"+k.Digest.String()] {
			subject := k.Repository + "@" + m.Subject.Digest
			wanted[subject] = append(wanted[subject], k.Digest.String())
		}
	}
	for info := range w.base.List(context.Background(), "repositories/", "") {
		k := registry.ParseKey(info.Key)
		if k.Kind != registry.ReferrersKind {
			continue
		}
		listed, _, err := w.named(w.replicas[0], k.Repository).Referrers(context.Background(), k.Digest, "", "", 1<<20)
		if err != nil {
			w.fail("the referrers %s: %v", info.Key, err)
		}
		subject := k.Repository + "@" + k.Digest.String()
		for _, d := range listed {
			if !there[k.Repository+"@"+d.Digest] {
				w.fail("%s is listed at %s, and gone", d.Digest, info.Key)
			}
			wanted[subject] = slices.DeleteFunc(wanted[subject], func(digest string) bool { return digest == d.Digest })
		}
	}
	for subject, digests := range wanted {
		if len(digests) > 0 {
			w.fail("the referrers of %s lack %v", subject, digests)
		}
	}
}

// reach marks what a manifest needs.
func (w *world) reach(reached map[string]bool, key, repository string) {
	var header struct{}
	payload, _ := w.header(key, &header)
	for _, part := range strings.Split(payload, `"`) {
		d, err := registry.ParseDigest(part)
		if err != nil {
			continue
		}
		var b modelBlob
		blob := "blobs/sha256/" + d.Hex()[:2] + "/" + d.Hex()
		w.header(blob, &b)
		reached[blob], reached["repositories/"+repository+"/_blobs/sha256/"+d.Hex()] = true, true
		for _, s := range b.Segments {
			reached[s.Key] = true
		}
	}
}
