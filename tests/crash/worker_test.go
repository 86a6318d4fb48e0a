package crash

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"berth/tests/content"
	"berth/tests/harness"
)

// gone is what a tag names that is not there.
const gone = ""

// A worker is the only client of its repository and keeps account of what the registry must have. What was asked for and
// not answered may have happened or not, until [worker.verify] has looked.
type worker struct {
	*harness.Client
	repo   string
	random *rand.Rand
	made   int // how many sets were made, so that each is another

	sets         map[string]content.Set     // by the digest of their manifest: acknowledged, or perhaps there
	unsure       map[string]bool            // manifests that may be there or not
	recent       map[string]bool            // manifests touched since the last verify
	tags         map[string]string          // as acknowledged
	attempts     map[string]map[string]bool // what tags may name instead
	halfway      map[string]bool            // tags whose manifest was being deleted when the server was killed
	upload       *upload                    // one that was begun and not closed
	acknowledged int
}

// An upload is a blob on its way in chunks.
type upload struct {
	location string
	blob     content.Blob
	received int // bytes acknowledged
}

func newWorker(c *harness.Client, repo string, random *rand.Rand) *worker {
	return &worker{Client: c, repo: repo, random: random, sets: map[string]content.Set{}, unsure: map[string]bool{},
		recent: map[string]bool{}, tags: map[string]string{}, attempts: map[string]map[string]bool{}, halfway: map[string]bool{}}
}

// work does one thing after another until the server is killed. An error is what a killed server looks like.
func (w *worker) work(killed <-chan struct{}) {
	for {
		select {
		case <-killed:
			return
		default:
		}
		var err error
		switch n := w.random.IntN(10); {
		case n < 4 || len(w.sets) == 0:
			err = w.push()
		case n < 6:
			err = w.move()
		case n < 8:
			err = w.chunks()
		default:
			err = w.remove()
		}
		if err == nil {
			w.acknowledged++
		}
	}
}

// newSet makes an image some of whose layers others have too.
func (w *worker) newSet() content.Set {
	w.made++
	name := fmt.Sprintf("%s-%d", w.repo, w.made)
	set := content.Algorithm(content.Digest).Image(name, content.AMD64(), []int{100 + w.random.IntN(200_000)}, nil)
	shared := w.random.IntN(8)
	layer := content.Random("shared-"+strconv.Itoa(shared), 1000<<shared)
	set.Blobs = append(set.Blobs, layer)
	config := set.Blobs[1]
	set.Manifests = []content.Manifest{content.Algorithm(content.Digest).Document(content.ImageManifest, content.Fields{
		"config": config.Describe(content.ImageConfig),
		"layers": []content.Descriptor{set.Blobs[0].Describe(content.LayerGzip), layer.Describe(content.LayerTar)},
	})}
	return set
}

func (w *worker) push() error {
	set := w.newSet()
	if err := w.Push(w.repo, content.Set{Blobs: set.Blobs}); err != nil {
		return err
	}
	return w.set(w.tag(), set)
}

func (w *worker) tag() string { return "tag-" + strconv.Itoa(w.random.IntN(5)) }

// set puts a manifest under a tag.
func (w *worker) set(tag string, set content.Set) error {
	digest := set.Top().Digest
	if _, known := w.sets[digest]; !known {
		w.unsure[digest] = true
	}
	w.sets[digest], w.recent[digest] = set, true
	w.attempt(tag, digest)
	if err := w.PushManifest(w.repo, tag, set.Top()); err != nil {
		return err
	}
	delete(w.unsure, digest)
	delete(w.halfway, tag)
	w.tags[tag], w.attempts[tag] = digest, nil
	return nil
}

func (w *worker) attempt(tag, digest string) {
	if w.attempts[tag] == nil {
		w.attempts[tag] = map[string]bool{}
	}
	w.attempts[tag][digest] = true
}

// any returns a manifest that is there for sure, "" when there is none.
func (w *worker) any() string {
	var sure []string
	for digest := range w.sets {
		if !w.unsure[digest] {
			sure = append(sure, digest)
		}
	}
	if len(sure) == 0 {
		return ""
	}
	slices.Sort(sure)
	return sure[w.random.IntN(len(sure))]
}

// move lets a tag name another manifest.
func (w *worker) move() error {
	if digest := w.any(); digest != "" {
		return w.set(w.tag(), w.sets[digest])
	}
	return nil
}

// remove deletes a manifest, and with it its tags.
func (w *worker) remove() error {
	digest := w.any()
	if digest == "" {
		return nil
	}
	w.unsure[digest], w.recent[digest] = true, true
	for tag, named := range w.tags {
		if named == digest || w.attempts[tag][digest] {
			w.attempt(tag, gone)
		}
	}
	r, err := w.Do(harness.Call{Method: "DELETE", Path: "/v2/" + w.repo + "/manifests/" + digest})
	if err == nil {
		err = r.Want(202)
	}
	if err != nil {
		return err
	}
	delete(w.sets, digest)
	delete(w.unsure, digest)
	for tag, named := range w.tags {
		if named == digest {
			w.tags[tag] = gone
		}
	}
	return nil
}

// chunks goes on with an upload, be it one that a dead server began, and closes it.
func (w *worker) chunks() error {
	if w.upload == nil {
		r, err := w.Do(harness.Call{Method: "POST", Path: "/v2/" + w.repo + "/blobs/uploads/"})
		if err == nil {
			err = r.Want(202)
		}
		if err != nil {
			return err
		}
		w.made++
		w.upload = &upload{location: r.Header.Get("Location"), blob: content.Random(fmt.Sprintf("%s-%d", w.repo, w.made), 300_000)}
	}
	offset, err := w.status()
	for err == nil && offset < len(w.upload.blob.Bytes) {
		offset, err = w.patch(offset)
	}
	if err != nil {
		return err
	}
	return w.closeUpload()
}

// status asks where the upload stands: at the last acknowledged byte, or further.
func (w *worker) status() (int, error) {
	r, err := w.Do(harness.Call{Method: "GET", Path: w.upload.location})
	if err == nil {
		err = r.Want(204)
	}
	if err != nil {
		return 0, err
	}
	_, last, _ := cutRange(r.Header.Get("Range"))
	if last > 0 {
		last++
	}
	return last, nil
}

func (w *worker) patch(offset int) (int, error) {
	b := w.upload.blob.Bytes
	end := min(len(b), offset+1+w.random.IntN(100_000))
	r, err := w.Do(harness.Call{Method: "PATCH", Path: w.upload.location, Body: b[offset:end],
		Header: http.Header{"Content-Range": {fmt.Sprintf("%d-%d", offset, end-1)}}})
	if err == nil {
		err = r.Want(202)
	}
	if err != nil {
		return 0, err
	}
	w.upload.received = end
	return end, nil
}

// closeUpload ends the upload. It is repeated after a kill: the answer may have been lost.
func (w *worker) closeUpload() error {
	r, err := w.Do(harness.Call{Method: "PUT", Path: w.upload.location, Query: url.Values{"digest": {w.upload.blob.Digest}}})
	if err == nil {
		err = r.Want(201)
	}
	if err != nil {
		return err
	}
	_, err = w.PullBlob(w.repo, w.upload.blob.Digest)
	w.upload = nil
	return err
}

// verify holds the registry to the account; everything of it, or what changed since last time.
func (w *worker) verify(all bool) error {
	if err := w.verifyUpload(); err != nil {
		return err
	}
	for digest, set := range w.sets {
		if !all && !w.recent[digest] {
			continue
		}
		r, err := w.Get("/v2/" + w.repo + "/manifests/" + digest)
		switch {
		case err != nil:
			return err
		case r.Status == 404 && w.unsure[digest]:
			delete(w.sets, digest)
		default:
			if err := w.Verify(w.repo, set); err != nil {
				return fmt.Errorf("a push that was acknowledged: %w", err)
			}
		}
		delete(w.unsure, digest)
	}
	clear(w.recent)
	return w.verifyTags()
}

// verifyUpload finds the upload where it was acknowledged to be, or further, and closes it.
func (w *worker) verifyUpload() error {
	if w.upload == nil {
		return nil
	}
	r, err := w.Get(w.upload.location)
	if err != nil {
		return err
	}
	if r.Status == 404 && w.upload.received == len(w.upload.blob.Bytes) {
		return w.closeUpload() // it was closed, and its answer lost
	}
	at, err := w.status()
	if err != nil {
		return fmt.Errorf("an upload that was begun: %w", err)
	}
	if at < w.upload.received {
		return fmt.Errorf("%d bytes of an upload were acknowledged, %d are there", w.upload.received, at)
	}
	if err := w.chunks(); err != nil {
		return fmt.Errorf("resume an upload: %w", err)
	}
	return nil
}

// verifyTags asks that each tag name what it was last acknowledged to name, or what was being attempted, and that the
// list of tags agree.
func (w *worker) verifyTags() error {
	var want []string
	for _, tag := range slices.Sorted(maps.Keys(w.attempts)) {
		r, err := w.Do(harness.Call{Method: "HEAD", Path: "/v2/" + w.repo + "/manifests/" + tag})
		if err != nil {
			return err
		}
		named := r.Header.Get("Docker-Content-Digest")
		if r.Status == 404 {
			named = gone
		} else if err := r.Want(200); err != nil {
			return err
		}
		if was := w.tags[tag]; named != was && !w.attempts[tag][named] {
			return fmt.Errorf("the tag %s names %q; acknowledged was %q, attempted %v", tag, named, was, w.attempts[tag])
		}
		if _, there := w.sets[named]; named != gone && !there {
			return fmt.Errorf("the tag %s names %s, which was deleted", tag, named)
		}
		if named != gone {
			want = append(want, tag)
		}
		w.halfway[tag] = named == gone && (w.halfway[tag] || w.attempts[tag][gone])
		w.tags[tag], w.attempts[tag] = named, nil
	}
	return w.verifyList(want)
}

// verifyList compares the list of tags. A tag that names nothing any more may still be listed if the server was killed
// between deleting its manifest and the tag.
func (w *worker) verifyList(want []string) error {
	r, err := w.Get("/v2/" + w.repo + "/tags/list")
	if err != nil || r.Status == 404 && len(want) == 0 {
		return err
	}
	var list struct{ Tags []string }
	if err := json.Unmarshal(r.Body, &list); err != nil {
		return err
	}
	got := slices.DeleteFunc(list.Tags, func(tag string) bool { return w.halfway[tag] })
	if !slices.Equal(got, want) {
		return fmt.Errorf("listed are the tags %q, there are %q", got, want)
	}
	return nil
}
