package gc_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"time"

	"berth/registry"
)

var repositories = []string{"a", "a/b", "c"}

func (w *world) repository(r *replica, random *rand.Rand) registry.Repository {
	return w.named(r, repositories[random.IntN(len(repositories))])
}

func (w *world) named(r *replica, name string) registry.Repository {
	n, err := registry.ParseName(name)
	if err != nil {
		panic(err)
	}
	return r.registry.Repository(n)
}

func (w *world) replica(random *rand.Rand) *replica { return w.replicas[random.IntN(len(w.replicas))] }

// act lets somebody do something.
func (w *world) act() {
	n := w.random.IntN(100)
	switch {
	case n < 36:
		w.start("push", w.push)
	case n < 46:
		w.start("begin", w.begin)
	case n < 60:
		w.start("resume", w.resume)
	case n < 64:
		w.start("mount", w.mount)
	case n < 74:
		w.start("delete", w.delete)
	case n < 77:
		w.start("remove", w.remove)
	case n < 80:
		w.start("index", w.index)
	case n < 82:
		w.start("unlink", w.unlink)
	case n < 83:
		w.start("purge", w.purge)
	case n < 84:
		w.start("expire", func(ctx context.Context, _ string, random *rand.Rand) error {
			_, err := w.replica(random).registry.PurgeUploads(ctx, modelAge, false)
			return err
		})
	default:
		w.collect(w.replicas[w.random.IntN(len(w.replicas))])
	}
}

// dawdle waits as clients do: mostly not at all, sometimes for hours.
func dawdle(random *rand.Rand) {
	if random.IntN(4) == 0 {
		time.Sleep(modelGrace * 5 / 4 / time.Duration(int64(1)<<random.IntN(8)))
	}
}

// A slow body flows for as long as its client takes.
type slow struct {
	io.Reader
	random *rand.Rand
	pauses int
}

func (s *slow) Read(p []byte) (int, error) {
	if s.pauses--; s.pauses >= 0 {
		time.Sleep(modelGrace / time.Duration(int64(1)<<s.random.IntN(4)))
	}
	return s.Reader.Read(p[:min(len(p), 5000)])
}

func bodyOf(content string, random *rand.Rand) io.Reader {
	if random.IntN(6) > 0 {
		return strings.NewReader(content)
	}
	return &slow{strings.NewReader(content), random, 1 + random.IntN(3)}
}

func chunkOf(content string, random *rand.Rand) registry.Chunk {
	return registry.Chunk{Body: bodyOf(content, random), Size: -1, Start: -1, End: -1}
}

// push pushes an image as clients do: it looks for each blob, mounts or pushes what is missing, and then the manifest.
func (w *world) push(ctx context.Context, name string, random *rand.Rand) error {
	p := w.repository(w.replica(random), random)
	var blobs []registry.Digest
	for range 1 + random.IntN(3) {
		content := contents[random.IntN(len(contents))]
		d := digestOf(content)
		blobs = append(blobs, d)
		if _, err := p.CheckBlob(ctx, d); err == nil && random.IntN(8) > 0 {
			continue
		}
		if err := w.deliver(ctx, p, d, content, random); err != nil {
			return err
		}
		dawdle(random)
	}
	subject := ""
	if random.IntN(5) == 0 {
		subject = w.subject(ctx, p, random)
	}
	body := image(subject, blobs...)
	return w.putManifest(ctx, w.named(w.replica(random), p.Name().String()), body, random)
}

func (w *world) deliver(ctx context.Context, p registry.Repository, d registry.Digest, content string, random *rand.Rand) error {
	if random.IntN(3) == 0 {
		if _, err := p.MountBlob(ctx, d, w.repository(w.replicas[0], random).Name()); err == nil {
			return nil
		}
	}
	switch random.IntN(3) {
	case 0:
		u := p.NewUpload("", registry.SHA256)
		half := random.IntN(len(content))
		if err := u.Append(ctx, chunkOf(content[:half], random)); err != nil {
			return err
		}
		dawdle(random)
		u, err := w.named(w.replica(random), p.Name().String()).Upload(ctx, "", u.ID())
		if err != nil || int(u.Offset()) > len(content) {
			return err
		}
		_, err = u.Commit(ctx, d, chunkOf(content[u.Offset():], random))
		return err
	default:
		_, err := p.PushBlob(ctx, d, bodyOf(content, random), int64(len(content)))
		return err
	}
}

// subject is a manifest of a repository, or one that is nowhere.
func (w *world) subject(ctx context.Context, p registry.Repository, random *rand.Rand) string {
	if m, err := w.anyManifest(ctx, p, random); err == nil && random.IntN(3) > 0 {
		return m.Digest.String()
	}
	return digestOf("nothing").String()
}

func (w *world) anyManifest(ctx context.Context, p registry.Repository, random *rand.Rand) (*registry.Manifest, error) {
	t, err := registry.ParseTag(tags[random.IntN(len(tags))])
	if err != nil {
		return nil, err
	}
	return p.Manifest(ctx, registry.Reference{Tag: t})
}

const (
	imageType = "application/vnd.oci.image.manifest.v1+json"
	indexType = "application/vnd.oci.image.index.v1+json"
)

// index pushes an index of a manifest, and perhaps of a blob, as builders do that keep what they may need again. The tag of the
// manifest may be gone by then.
func (w *world) index(ctx context.Context, _ string, random *rand.Rand) error {
	p := w.repository(w.replica(random), random)
	m, err := w.anyManifest(ctx, p, random)
	if err != nil {
		return err
	}
	children := []descriptor{{imageType, m.Digest.String(), len(m.Body)}}
	if m.MediaType != imageType {
		children = nil
	}
	if content := contents[random.IntN(len(contents))]; random.IntN(2) == 0 {
		if err := w.deliver(ctx, p, digestOf(content), content, random); err != nil {
			return err
		}
		children = append(children, descriptor{"application/octet-stream", digestOf(content).String(), len(content)})
	}
	dawdle(random)
	body, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": indexType, "manifests": children})
	if err != nil {
		return err
	}
	return w.putManifest(ctx, w.named(w.replica(random), p.Name().String()), body, random)
}

// unlink deletes a blob from a repository.
func (w *world) unlink(ctx context.Context, _ string, random *rand.Rand) error {
	p := w.repository(w.replica(random), random)
	d := digestOf(contents[random.IntN(len(contents))])
	defer w.take(d, p.Name().String())()
	return p.DeleteBlob(ctx, d)
}

// purge purges a blob from all repositories. Where it is refused from then on, that ends after a while.
func (w *world) purge(ctx context.Context, _ string, random *rand.Rand) error {
	r := w.replica(random).registry
	d := digestOf(contents[random.IntN(len(contents))])
	w.mu.Lock()
	w.taking[d.String()]++
	w.mu.Unlock()
	defer w.purged(d)
	defer w.take(d, repositories...)()
	refuse := random.IntN(3) == 0
	if _, err := r.PurgeBlob(ctx, d, refuse); err != nil || !refuse {
		return err
	}
	dawdle(random)
	return r.AllowBlob(ctx, d)
}

// purged notes that a purge is over.
func (w *world) purged(d registry.Digest) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.taking[d.String()]--
	w.checkData(d)
}

var tags = []string{"v1", "v2", "latest"}

func (w *world) putManifest(ctx context.Context, p registry.Repository, body []byte, random *rand.Rand) error {
	d := registry.SHA256.FromBytes(body)
	reference := d.String()
	if random.IntN(3) > 0 {
		reference = tags[random.IntN(len(tags))]
	}
	ref, err := registry.ParseReference(reference)
	if err != nil {
		return err
	}
	key := p.Name().String() + "@" + d.String()
	w.mu.Lock()
	before := w.deleted[key] + w.deleted[p.Name().String()]
	doomed := w.deleting[key]+w.deleting[p.Name().String()] > 0
	w.mu.Unlock()
	if _, err := p.PutManifest(ctx, registry.ManifestPush{Reference: ref, Body: body}); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pushed++; !doomed && before == w.deleted[key]+w.deleted[p.Name().String()] {
		w.acked[key] = true
	}
	return nil
}

// begin begins an upload for others to go on with.
func (w *world) begin(ctx context.Context, _ string, random *rand.Rand) error {
	p := w.repository(w.replica(random), random)
	content := contents[random.IntN(len(contents))]
	u := p.NewUpload("", registry.SHA256)
	if err := u.Append(ctx, chunkOf(content[:1+random.IntN(len(content)-1)], random)); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.uploads = append(w.uploads, upload{p.Name().String(), u.ID(), content})
	return nil
}

// resume goes on with an upload, perhaps beside others who do: with a chunk, its end, another end, or by giving it up.
func (w *world) resume(ctx context.Context, _ string, random *rand.Rand) error {
	w.mu.Lock()
	if len(w.uploads) == 0 {
		w.mu.Unlock()
		return errGaveUp
	}
	known := w.uploads[max(0, len(w.uploads)-1-random.IntN(6))]
	w.mu.Unlock()
	p := w.named(w.replica(random), known.repository)
	u, err := p.Upload(ctx, "", known.id)
	if err != nil {
		return err
	}
	offset := int(u.Offset())
	if offset > len(known.content) {
		return errGaveUp
	}
	switch random.IntN(6) {
	case 0:
		return u.Cancel(ctx)
	case 1:
		next := min(len(known.content), offset+1+random.IntN(4000))
		return u.Append(ctx, chunkOf(known.content[offset:next], random))
	case 2: // what is there, as a blob of its own
		if !u.Closed() {
			_, err = u.Commit(ctx, digestOf(known.content[:offset]), registry.Chunk{Start: -1, End: -1})
			return err
		}
	}
	rest := chunkOf(known.content[min(offset, len(known.content)):], random)
	if u.Closed() {
		rest = registry.Chunk{Start: -1, End: -1}
	}
	b, err := u.Commit(ctx, digestOf(known.content), rest)
	if err != nil {
		return err
	}
	if random.IntN(2) == 0 {
		err = w.putManifest(ctx, p, image("", b.Digest), random)
	}
	if random.IntN(2) == 0 { // the reply was lost, or the client thinks so
		dawdle(random)
		again, findErr := p.Upload(ctx, "", known.id)
		if findErr != nil {
			return findErr
		}
		if _, err := again.Commit(ctx, digestOf(known.content), registry.Chunk{Start: -1, End: -1}); err != nil {
			return err
		}
		return w.putManifest(ctx, p, image("", b.Digest), random)
	}
	return err
}

func (w *world) mount(ctx context.Context, _ string, random *rand.Rand) error {
	r := w.replica(random)
	d := digestOf(contents[random.IntN(len(contents))])
	p := w.repository(r, random)
	if _, err := p.MountBlob(ctx, d, w.repository(r, random).Name()); err != nil {
		return err
	}
	dawdle(random)
	return w.putManifest(ctx, p, image("", d), random)
}

// delete deletes a manifest by its digest, or a tag.
func (w *world) delete(ctx context.Context, _ string, random *rand.Rand) error {
	p := w.repository(w.replica(random), random)
	m, err := w.anyManifest(ctx, p, random)
	if err != nil {
		return err
	}
	if random.IntN(4) == 0 {
		t, err := registry.ParseTag(tags[random.IntN(len(tags))])
		if err != nil {
			return err
		}
		return p.DeleteTag(ctx, t)
	}
	defer w.forget(p.Name().String() + "@" + m.Digest.String())()
	return p.DeleteManifest(ctx, m.Digest)
}

// forget notes that what was acknowledged under a prefix may go from now on, until over is called.
func (w *world) forget(prefix string) (over func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deleted[prefix]++
	w.deleting[prefix]++
	for key := range w.acked {
		if key == prefix || strings.HasPrefix(key, prefix+"@") {
			delete(w.acked, key)
		}
	}
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.deleting[prefix]--
	}
}

// remove removes a repository, and says when it cannot have.
func (w *world) remove(ctx context.Context, _ string, random *rand.Rand) error {
	p := w.repository(w.replica(random), random)
	defer w.forget(p.Name().String())()
	_, err := p.Remove(ctx, true)
	if registry.CodeOf(err) == registry.Unknown && err != nil && !errors.Is(err, context.Canceled) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.fail("removing %s: %v", p.Name(), err)
	}
	return err
}
