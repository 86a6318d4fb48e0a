package storm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"berth/tests/content"
	"berth/tests/harness"
)

// errCut says that a request was not answered, or that the registry could not do it now: it may have happened or not.
var errCut = errors.New("cut off")

// shared is the repository that all clients write to, besides one of their own each.
const shared = "storm/shared"

// A worker is one client. What it deletes it alone has made, so that it knows what goes with it.
type worker struct {
	ledger *Ledger
	client *harness.Client
	repo   string
	seed   string
	made   int
	loose  []content.Blob    // in repo, and in no manifest
	sets   []content.Set     // in repo
	tags   map[string]string // of repo, as this worker set them: to which digest
	shared []content.Set     // in the shared repository
	rand   *rand.Rand
}

// A deed is one thing that a worker does. It makes what it needs.
type deed func(*worker) error

// script is every deed in an order that makes sense.
var script = []deed{
	(*worker).pushSmall, (*worker).pushPosted, (*worker).pushChunks, (*worker).pushStream, (*worker).pushLarge, (*worker).pushPool,
	(*worker).pushImage, (*worker).moveTag, (*worker).pushReferrer, (*worker).pushShared, (*worker).moveShared, (*worker).mount,
	(*worker).leaveUpload, (*worker).deleteTag, (*worker).deleteSharedTag, (*worker).pushImage, (*worker).deleteManifest, (*worker).deleteBlob,
}

// Run lets clients do whatever they like until ctx ends, or until the registry does not answer any more. The error is
// about an answer that no fault excuses.
func (l *Ledger) Run(ctx context.Context, c *harness.Client, clients int) error {
	var wg sync.WaitGroup
	errs := make([]error, clients)
	for i := range clients {
		w := l.worker(c, i)
		wg.Go(func() {
			for ctx.Err() == nil && errs[i] == nil {
				errs[i] = script[w.rand.IntN(len(script))](w)
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
func (l *Ledger) Script(c *harness.Client) (finished bool, err error) {
	w := l.worker(c, 0)
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

func (l *Ledger) worker(c *harness.Client, i int) *worker {
	return &worker{
		ledger: l, client: c, repo: fmt.Sprintf("storm/w%d", i), seed: fmt.Sprintf("%d-%d", l.rounds, i), tags: map[string]string{},
		rand: rand.New(rand.NewPCG(uint64(l.rounds), uint64(i))),
	}
}

// do sends a request. An answer other than the statuses is an error: errCut if a fault may be the reason.
func (w *worker) do(call harness.Call, statuses ...int) (*harness.Reply, error) {
	r, err := w.client.Do(call)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", errCut, err)
	}
	err = r.Want(statuses...)
	if err != nil && (r.Status == http.StatusServiceUnavailable || r.Status == http.StatusInsufficientStorage) && len(r.Codes()) > 0 {
		err = fmt.Errorf("%w: %v", errCut, err)
	}
	return r, err
}

func (w *worker) next() string {
	w.made++
	return fmt.Sprintf("%s-%d", w.seed, w.made)
}

// write does one request that sets things to a value, and enters it.
func (w *worker) write(value string, call harness.Call, things ...thing) error {
	acked := w.ledger.begin(value, things...)
	if _, err := w.do(call, 201, 202); err != nil {
		return err
	}
	acked()
	return nil
}

func path(repo string, rest ...string) string {
	return "/v2/" + repo + "/" + strings.Join(rest, "/")
}

func octets(b []byte) harness.Call {
	return harness.Call{Body: b, Header: http.Header{"Content-Type": {content.OctetStream}}}
}

// located is the path of a Location: what serves the store next may be at another address.
func located(r *harness.Reply) string {
	u, err := url.Parse(r.Header.Get("Location"))
	if err != nil {
		return err.Error() // to be refused when it is used
	}
	return u.Path
}

// begin opens an upload.
func (w *worker) begin(repo string, b content.Blob) (*upload, error) {
	r, err := w.do(harness.Call{Method: "POST", Path: path(repo, "blobs/uploads/")}, 202)
	if err != nil {
		return nil, err
	}
	u := &upload{repo: repo, location: located(r), blob: b}
	w.ledger.open(u)
	return u, nil
}

// patch sends the next bytes of an upload, streamed without a length if streamed is true.
func (w *worker) patch(u *upload, size int, streamed bool) error {
	chunk := u.blob.Bytes[u.sent : u.sent+size]
	call := octets(chunk)
	call.Method, call.Path = "PATCH", u.location
	if streamed {
		call.Body, call.Stream = nil, bytes.NewReader(chunk)
	} else {
		call.Header.Set("Content-Range", fmt.Sprintf("%d-%d", u.sent, u.sent+size-1))
	}
	u.sent += size
	r, err := w.do(call, 202)
	if err != nil {
		return err
	}
	u.location, u.acked = located(r), u.sent
	return nil
}

// finish closes an upload with what was not sent yet.
func (w *worker) finish(u *upload) error {
	call := octets(u.blob.Bytes[u.sent:])
	u.sent = len(u.blob.Bytes)
	call.Method, call.Path, call.Query = "PUT", u.location, url.Values{"digest": {u.blob.Digest}}
	err := w.write(u.blob.Digest, call, thing{blobs, u.repo, u.blob.Digest})
	if err == nil {
		w.ledger.close(u)
	}
	return err
}

// push pushes a blob by POST and PUT.
func (w *worker) push(repo string, b content.Blob) error {
	u, err := w.begin(repo, b)
	if err != nil {
		return err
	}
	return w.finish(u)
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

// moveShared sets a tag that others set at the same time.
func (w *worker) moveShared() error {
	if len(w.shared) == 0 {
		return w.pushShared()
	}
	return w.setTag(shared, w.sharedTag(), w.shared[w.rand.IntN(len(w.shared))].Top())
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
	acked := w.ledger.begin(b.Digest, thing{blobs, shared, b.Digest})
	_, err := w.do(harness.Call{Method: "POST", Path: path(shared, "blobs/uploads/"), Query: url.Values{"mount": {b.Digest}, "from": {w.repo}}}, 201)
	if err == nil {
		acked()
	}
	return err
}

// remove deletes something that may be gone already.
func (w *worker) remove(at string, things ...thing) error {
	acked := w.ledger.begin("", things...)
	_, err := w.do(harness.Call{Method: "DELETE", Path: at}, 202, 404)
	if err == nil {
		acked()
	}
	return err
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
