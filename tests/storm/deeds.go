package storm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"sync"

	"berth/tests/content"
	"berth/tests/harness"
)

// A deed is one thing that a worker does. It makes what it needs.
type deed func(*worker) error

// script is every deed in an order that makes sense.
var script = []deed{
	(*worker).pushSmall, (*worker).pushPosted, (*worker).pushChunks, (*worker).pushStream, (*worker).pushLarge, (*worker).pushPool,
	(*worker).pushImage, (*worker).moveTag, (*worker).pushReferrer, (*worker).pushShared, (*worker).moveShared, (*worker).mount,
	(*worker).leaveUpload, (*worker).pullOwn, (*worker).readShared, (*worker).deleteTag, (*worker).deleteSharedTag, (*worker).readShared,
	(*worker).pushImage, (*worker).deleteManifest, (*worker).deleteBlob, (*worker).pullOwn,
}

// Run lets clients do whatever they like, over replicas that take their requests in turn, until ctx ends or until the only
// one does not answer any more. Where there are several, a client that is not answered leaves everything as it is, and another
// begins. The error is about an answer that no fault excuses.
func (l *Ledger) Run(ctx context.Context, clients int, over ...*harness.Client) error {
	var wg sync.WaitGroup
	errs := make([]error, clients)
	r := &replicas{clients: over}
	for i := range clients {
		wg.Go(func() {
			for n, w := i, l.worker(r, i); ctx.Err() == nil && errs[i] == nil; {
				errs[i] = script[w.rand.IntN(len(script))](w)
				if len(over) > 1 && errors.Is(errs[i], errCut) {
					n += clients
					w, errs[i] = l.worker(r, n), nil
				}
			}
		})
	}
	wg.Wait()
	l.mu.Lock()
	l.rounds++
	l.mu.Unlock()
	for i, err := range errs {
		if errors.Is(err, errCut) {
			errs[i] = nil
		}
	}
	return errors.Join(errs...)
}

// Script lets one client do everything once, in order. It reports whether the registry answered to the end.
func (l *Ledger) Script(over ...*harness.Client) (finished bool, err error) {
	w := l.worker(&replicas{clients: over}, 0)
	l.rounds++
	for _, deed := range script {
		if err := deed(w); errors.Is(err, errCut) {
			return false, nil
		} else if err != nil {
			return false, err
		}
	}
	return true, nil
}

func (l *Ledger) worker(over *replicas, i int) *worker {
	return &worker{
		ledger: l, over: over, repo: fmt.Sprintf("storm/w%d", i), seed: fmt.Sprintf("%d-%d", l.rounds, i), tags: map[string]string{},
		rand: rand.New(rand.NewPCG(l.o.Seed+l.rounds, uint64(i))),
	}
}

func (w *worker) pushLoose(b content.Blob) error {
	err := w.push(w.repo, b)
	if err == nil {
		w.loose = append(w.loose, b)
	}
	return err
}

func (w *worker) pushSmall() error {
	return w.pushLoose(content.Random(w.next(), 100+w.rand.IntN(40_000)))
}
func (w *worker) pushLarge() error {
	return w.pushLoose(content.Random(w.next(), 5<<20+w.rand.IntN(5<<20)))
}

// pushPool pushes one of the few blobs that other clients push too.
func (w *worker) pushPool() error {
	return w.pushLoose(content.Random(fmt.Sprint("pool", w.rand.IntN(5)), 30_000))
}

// pushPosted pushes a blob by one POST.
func (w *worker) pushPosted() error {
	b := content.Random(w.next(), 100+w.rand.IntN(100_000))
	call := octets(b.Bytes)
	call.Method, call.Path, call.Query = "POST", path(w.repo, "blobs/uploads/"), url.Values{"digest": {b.Digest}}
	return w.write(b.Digest, call, thing{blobs, w.repo, b.Digest})
}

// pushChunks pushes a blob in ordered chunks, the last of them with the PUT or before it.
func (w *worker) pushChunks() error {
	b := content.Random(w.next(), 1000+w.rand.IntN(200_000))
	u, err := w.begin(w.repo, b)
	for err == nil && u.sent < len(b.Bytes)*2/3 {
		err = w.patch(u, 1+len(b.Bytes)/3-w.rand.IntN(200), false)
	}
	if err != nil {
		return err
	}
	if w.rand.IntN(2) == 0 {
		if err := w.patch(u, len(b.Bytes)-u.sent, false); err != nil {
			return err
		}
	}
	return w.finish(u)
}

// pushStream pushes as docker does: all in one PATCH without a length.
func (w *worker) pushStream() error {
	b := content.Random(w.next(), 1000+w.rand.IntN(1<<20))
	u, err := w.begin(w.repo, b)
	if err == nil {
		err = w.patch(u, len(b.Bytes), true)
	}
	if err != nil {
		return err
	}
	return w.finish(u)
}

// leaveUpload begins an upload and leaves it, to be taken up after the fault.
func (w *worker) leaveUpload() error {
	u, err := w.begin(w.repo, content.Random(w.next(), 50_000))
	if err != nil {
		return err
	}
	return w.patch(u, 20_000+w.rand.IntN(10_000), w.rand.IntN(2) == 0)
}

// pushSet pushes an image with its blobs, the manifest by digest.
func (w *worker) pushSet(repo string, set content.Set) error {
	for _, b := range set.Blobs {
		if err := w.push(repo, b); err != nil {
			return err
		}
	}
	for _, m := range set.Manifests {
		if err := w.write(m.Digest, putManifest(repo, m.Digest, m), thing{manifests, repo, m.Digest}); err != nil {
			return err
		}
	}
	return nil
}

func putManifest(repo, reference string, m content.Manifest) harness.Call {
	return harness.Call{Method: "PUT", Path: path(repo, "manifests", reference), Body: m.Bytes, Header: http.Header{"Content-Type": {m.MediaType}}}
}

// setTag pushes a manifest, present or not, by a tag.
func (w *worker) setTag(repo, tag string, m content.Manifest) error {
	return w.write(m.Digest, putManifest(repo, tag, m), thing{tags, repo, tag}, thing{manifests, repo, m.Digest})
}

func (w *worker) newImage() content.Set {
	return content.Algorithm(content.Digest).Image(w.next(), content.AMD64(), []int{300, 6000}, nil)
}

// pushImage pushes an image, its manifest by a tag.
func (w *worker) pushImage() error {
	set := w.newImage()
	for _, b := range set.Blobs {
		if err := w.push(w.repo, b); err != nil {
			return err
		}
	}
	w.sets = append(w.sets, set)
	return w.setOwn(set.Top())
}

func (w *worker) setOwn(m content.Manifest) error {
	tag := fmt.Sprint("t", w.rand.IntN(4))
	err := w.setTag(w.repo, tag, m)
	if err == nil {
		w.tags[tag] = m.Digest
	}
	return err
}

// moveTag points a tag at an image that is there.
func (w *worker) moveTag() error {
	if len(w.sets) == 0 {
		return w.pushImage()
	}
	return w.setOwn(w.sets[w.rand.IntN(len(w.sets))].Top())
}

func (w *worker) pushShared() error {
	set := w.newImage()
	err := w.pushSet(shared, set)
	if err == nil {
		w.shared = append(w.shared, set)
	}
	return err
}

// moveShared sets a tag that others set and read at the same time, to a manifest that no tag had before.
func (w *worker) moveShared() error {
	if len(w.shared) == 0 {
		return w.pushShared()
	}
	config := w.shared[w.rand.IntN(len(w.shared))].Blobs[0]
	m := content.Algorithm(content.Digest).Document(content.ImageManifest, content.Fields{
		"config": config.Describe(content.ImageConfig), "layers": []any{}, "annotations": map[string]string{"move": w.next()},
	})
	return w.setTag(shared, w.sharedTag(), m)
}

// readShared asks what such a tag is at.
func (w *worker) readShared() error {
	tag := thing{tags, shared, w.sharedTag()}
	begun := w.ledger.tick()
	value, err := w.resolve(tag.repo, tag.name)
	if err == nil {
		w.ledger.saw(tag, value, begun)
	}
	return err
}

// resolve returns the digest that a tag is at, "" if there is none.
func (w *worker) resolve(repo, tag string) (string, error) {
	r, err := w.do(harness.Call{Method: "HEAD", Path: path(repo, "manifests", tag)}, 200, 404)
	if err != nil {
		return "", err
	}
	return r.Header.Get("Docker-Content-Digest"), nil
}

// pullOwn reads what nobody else changes: it must be what this worker made it.
func (w *worker) pullOwn() error {
	for tag, want := range w.tags {
		if got, err := w.resolve(w.repo, tag); err != nil {
			return err
		} else if got != want {
			return fmt.Errorf("the tag %s of %s is at %q, and was acknowledged to be at %s", tag, w.repo, got, want)
		}
	}
	if len(w.sets) == 0 {
		return nil
	}
	set := w.sets[w.rand.IntN(len(w.sets))]
	digests := map[string]string{set.Top().Digest: "manifests"}
	for _, b := range set.Blobs {
		digests[b.Digest] = "blobs"
	}
	for digest, kind := range digests {
		r, err := w.do(harness.Call{Method: "GET", Path: path(w.repo, kind, digest)}, 200)
		if err != nil {
			return err
		}
		if got := content.DigestLike(digest, r.Body); got != digest {
			return fmt.Errorf("%s: the body has the digest %s", r.Call, got)
		}
	}
	return nil
}

func (w *worker) sharedTag() string { return fmt.Sprint("s", w.rand.IntN(3)) }

// pushReferrer pushes an artifact that refers to an image.
func (w *worker) pushReferrer() error {
	if len(w.shared) == 0 {
		return w.pushShared()
	}
	subject := w.shared[w.rand.IntN(len(w.shared))].Top().Describe()
	return w.pushSet(shared, content.Algorithm(content.Digest).Artifact(w.next(), "application/vnd.storm", content.Fields{"subject": subject}))
}

// mount makes a blob one of the shared repository too.
func (w *worker) mount() error {
	if len(w.loose) == 0 {
		return w.pushSmall()
	}
	b := w.loose[w.rand.IntN(len(w.loose))]
	a := w.ledger.begin(b.Digest, thing{blobs, shared, b.Digest})
	statuses := []int{201}
	if w.ledger.o.Collected {
		statuses = append(statuses, 202) // it was, and another upload is offered
	}
	r, err := w.do(harness.Call{Method: "POST", Path: path(shared, "blobs/uploads/"), Query: url.Values{"mount": {b.Digest}, "from": {w.repo}}}, statuses...)
	if err == nil && r.Status == 201 {
		a.acked()
	}
	return err
}

// remove deletes something that may be gone already.
func (w *worker) remove(at string, things ...thing) error {
	a := w.ledger.begin("", things...)
	r, err := w.do(harness.Call{Method: "DELETE", Path: at}, 202, 404)
	switch {
	case err != nil:
		return err
	case r.Status == 404:
		a.seen()
	default:
		a.acked()
	}
	return nil
}

func (w *worker) deleteTag() error {
	if len(w.tags) == 0 {
		return w.pushImage()
	}
	tag := slices.Sorted(maps.Keys(w.tags))[0]
	delete(w.tags, tag)
	return w.remove(path(w.repo, "manifests", tag), thing{tags, w.repo, tag})
}

func (w *worker) deleteSharedTag() error {
	tag := w.sharedTag()
	return w.remove(path(shared, "manifests", tag), thing{tags, shared, tag})
}

// deleteManifest deletes an image, and with it its tags.
func (w *worker) deleteManifest() error {
	if len(w.sets) == 0 {
		return w.pushImage()
	}
	i := w.rand.IntN(len(w.sets))
	digest := w.sets[i].Top().Digest
	w.sets = slices.Delete(w.sets, i, i+1)
	gone := []thing{{manifests, w.repo, digest}}
	for tag, d := range w.tags {
		if d == digest {
			gone = append(gone, thing{tags, w.repo, tag})
			delete(w.tags, tag)
		}
	}
	return w.remove(path(w.repo, "manifests", digest), gone...)
}

func (w *worker) deleteBlob() error {
	if len(w.loose) == 0 {
		return w.pushSmall()
	}
	i := w.rand.IntN(len(w.loose))
	b := w.loose[i]
	w.loose = slices.DeleteFunc(w.loose, func(other content.Blob) bool { return other.Digest == b.Digest })
	return w.remove(path(w.repo, "blobs", b.Digest), thing{blobs, w.repo, b.Digest})
}
