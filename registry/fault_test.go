package registry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/registry"
	"berth/storage/storagetest"
)

// ways are those in which the n-th call can fail; in an outage all calls after it fail, too.
var ways = []struct {
	name   string
	mode   storagetest.Mode
	outage bool
}{
	{"fail before", storagetest.FailBefore, false}, {"fail after", storagetest.FailAfter, false}, {"cancel", storagetest.Cancel, false},
	{"conflict after", storagetest.ConflictAfter, false}, {"fail midway", storagetest.FailMidway, false},
	{"outage", storagetest.FailBefore, true}, {"outage after", storagetest.FailAfter, true},
}

// A scenario is an operation on a store that was prepared for it. run may be called again after a failure, as a client
// would; what it acknowledges it notes in the model.
type scenario struct {
	name    string
	prepare func(s *stage)
	run     func(s *stage) error
}

// A stage is where a scenario takes place.
type stage struct {
	*fixture
	flaky  *storagetest.Flaky
	clock  *clock
	p, p2  registry.Repository
	model  *model
	upload string // the id of an upload
}

// set the stage with a repository that has an image, tagged, and a referrer of it.
func newStage(t *testing.T) *stage {
	t.Helper()
	c := newClock()
	flaky := storagetest.NewFlaky(c.store())
	f := newFixture(t, flaky, &registry.Options{Now: c.now})
	s := &stage{fixture: f, flaky: flaky, clock: c, p: f.repository("team/app"), p2: f.repository("other"), model: newModel()}
	for _, content := range []string{"{}", "layer", big} {
		if err := s.pushed(s.p, content, strings.NewReader(content)); err != nil {
			t.Fatal(err)
		}
	}
	for _, tag := range []string{"v1", "stays"} {
		if err := s.tagged(s.p, tag, s.image(tag)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.tagged(s.p, "referrer", referring(digestOf(s.image("v1")), "a/b", "", digestOf([]byte("{}")))); err != nil {
		t.Fatal(err)
	}
	return s
}

func digestOf(content []byte) registry.Digest { return registry.SHA256.FromBytes(content) }

func (s *stage) image(note string) []byte {
	return image(note, digestOf([]byte("{}")), digestOf([]byte("layer")))
}

// pushed pushes a blob and notes that it was acknowledged.
func (s *stage) pushed(p registry.Repository, content string, body io.Reader) error {
	d := digestOf([]byte(content))
	_, err := p.PushBlob(s.Context(), d, body, -1)
	return s.hasBlob(p, content, err)
}

func (s *stage) hasBlob(p registry.Repository, content string, err error) error {
	if err == nil {
		s.model.blobs[p.Name().String()+"@"+digestOf([]byte(content)).String()] = content
	}
	return err
}

// tagged pushes a manifest and notes that it was acknowledged. While that is not known, nothing is known of the tag.
func (s *stage) tagged(p registry.Repository, tag string, body []byte) error {
	key, byDigest := p.Name().String()+"@"+tag, p.Name().String()+"@"+digestOf(body).String()
	delete(s.model.manifests, key)
	_, err := push(s.Context(), p, tag, body)
	if err == nil {
		s.model.manifests[key], s.model.manifests[byDigest] = string(body), string(body)
	}
	return err
}

// deleted notes that references are gone, and while that is not known, that nothing is known of them.
func (s *stage) deleted(del func() error, references ...string) error {
	for _, r := range references {
		delete(s.model.manifests, s.p.Name().String()+"@"+r)
	}
	err := del()
	if registry.CodeOf(err) == registry.ManifestUnknown {
		err = nil // the first attempt did it
	}
	for _, r := range references {
		if err == nil {
			s.model.gone[s.p.Name().String()+"@"+r] = true
		}
	}
	return err
}

// resumed goes on with the upload of the stage, as far as it still has to.
func (s *stage) resumed(content string, d registry.Digest) error {
	u, err := s.p.Upload(s.Context(), "", s.upload)
	for err == nil && !u.Closed() && u.Offset() < int64(len(content)) {
		err = u.Append(s.Context(), at(content[u.Offset():], int(u.Offset()), len(content)-1))
	}
	if err == nil {
		_, err = u.Commit(s.Context(), d, nothing)
	}
	return err
}

// Contents that are too large to be pushed as one batch: one that is there, and one to be pushed.
var big, large = pattern("big", 70_000), pattern("large", 70_001)

var scenarios = []scenario{
	{"push of a small blob", nil, func(s *stage) error { return s.pushed(s.p, "small", strings.NewReader("small")) }},
	{"push of a large blob", nil, func(s *stage) error { return s.pushed(s.p, large, strings.NewReader(large)) }},
	{"push of a blob that another repository has", nil, func(s *stage) error { return s.pushed(s.p2, "layer", strings.NewReader("layer")) }},
	{"push of a large blob that another repository has", nil, func(s *stage) error {
		return s.pushed(s.p2, big, strings.NewReader(big))
	}},
	{"push in chunks", func(s *stage) { s.upload = s.p.NewUpload("", registry.SHA256).ID() }, func(s *stage) error {
		return s.hasBlob(s.p, large, s.resumed(large, digestOf([]byte(large))))
	}},
	{"push in chunks, closed by another algorithm", func(s *stage) { s.upload = s.p.NewUpload("", registry.SHA512).ID() }, func(s *stage) error {
		return s.hasBlob(s.p, large, s.resumed(large, digestOf([]byte(large))))
	}},
	{"push in chunks of a blob that is there", func(s *stage) { s.upload = s.p.NewUpload("", registry.SHA256).ID() }, func(s *stage) error {
		return s.hasBlob(s.p, "layer", s.resumed("layer", digestOf([]byte("layer"))))
	}},
	{"mount", nil, func(s *stage) error {
		_, err := s.p2.MountBlob(s.Context(), digestOf([]byte("layer")), s.p.Name())
		return s.hasBlob(s.p2, "layer", err)
	}},
	{"first manifest of a repository", func(s *stage) {
		for _, content := range []string{"{}", "layer"} {
			if err := s.pushed(s.p2, content, strings.NewReader(content)); err != nil {
				s.Fatal(err)
			}
		}
	}, func(s *stage) error { return s.tagged(s.p2, "v1", s.image("v1")) }},
	{"push of a manifest that moves a tag", nil, func(s *stage) error { return s.tagged(s.p, "v1", s.image("v2")) }},
	{"push of a manifest again, long after", func(s *stage) { s.clock.advance(s.grace()) }, func(s *stage) error { return s.tagged(s.p, "v1", s.image("v1")) }},
	{"push of a referrer", nil, func(s *stage) error {
		return s.tagged(s.p, "v3", referring(digestOf(s.image("v1")), "c/d", "", digestOf([]byte("{}"))))
	}},
	{"push of an index", nil, func(s *stage) error {
		return s.tagged(s.p, "index", index(entry{Type: imageType, Digest: digestOf(s.image("v1")).String()}))
	}},
	{"delete of a manifest", nil, func(s *stage) error {
		d := digestOf(s.image("v1"))
		return s.deleted(func() error { return s.p.DeleteManifest(s.Context(), d) }, "v1", d.String())
	}},
	{"delete of a referrer", nil, func(s *stage) error {
		d := digestOf(referring(digestOf(s.image("v1")), "a/b", "", digestOf([]byte("{}"))))
		return s.deleted(func() error { return s.p.DeleteManifest(s.Context(), d) }, "referrer", d.String())
	}},
	{"delete of a tag", nil, func(s *stage) error {
		return s.deleted(func() error { return s.p.DeleteTag(s.Context(), ref(s, "v1").Tag) }, "v1")
	}},
	{"cancel", beginUpload, func(s *stage) error {
		u, err := s.p.Upload(s.Context(), "", s.upload)
		if err == nil {
			err = u.Cancel(s.Context())
		}
		if registry.CodeOf(err) == registry.UploadUnknown {
			return nil
		}
		return err
	}},
	{"purge", beginUpload, func(s *stage) error {
		s.clock.advance(s.grace())
		_, err := s.registry.PurgeUploads(s.Context(), time.Hour, false)
		return err
	}},
	{"catalog", nil, func(s *stage) error {
		names, _, err := s.registry.Catalog(s.Context(), "", -1)
		if err == nil && len(names) != 1 {
			s.Errorf("the catalog is %v", names)
		}
		return err
	}},
	{"tags", nil, func(s *stage) error {
		tags, _, err := s.p.Tags(s.Context(), "", -1)
		if err == nil && len(tags) != 3 {
			s.Errorf("the tags are %v", tags)
		}
		return err
	}},
	{"referrers", nil, func(s *stage) error {
		list, _, err := s.p.Referrers(s.Context(), digestOf(s.image("v1")), "", "", 1000)
		if err == nil && len(list) != 1 {
			s.Errorf("the referrers are %v", list)
		}
		return err
	}},
	{"read", nil, func(s *stage) error {
		if _, err := s.p.Manifest(s.Context(), ref(s, "v1")); err != nil {
			return err
		}
		_, err := readBlob(s.Context(), s.p, digestOf([]byte(big)))
		return err
	}},
}

func beginUpload(s *stage) {
	u := s.p.NewUpload("", registry.SHA256)
	if err := u.Append(s.Context(), chunk("begun")); err != nil {
		s.Fatal(err)
	}
	s.upload = u.ID()
}

// TestFaults performs every operation again and again with another call of the driver failing, in each way that one can
// fail. Whatever the operation then answers, the store is sound and serves what was acknowledged; performed again, the
// operation succeeds.
func TestFaults(t *testing.T) {
	for _, sc := range scenarios {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			for _, w := range ways {
				plan := func(n int) func(storagetest.Call) storagetest.Fault {
					return func(c storagetest.Call) (fault storagetest.Fault) {
						if c.N == n || w.outage && c.N > n {
							fault.Mode = w.mode
						}
						return fault
					}
				}
				for n := 1; sc.fail(t, fmt.Sprintf("%s at call %d", w.name, n), plan(n)); n++ {
					if t.Failed() {
						return
					}
				}
			}
		})
	}
}

// fail performs a scenario under a plan, and reports whether any call failed.
func (sc scenario) fail(t *testing.T, how string, plan func(storagetest.Call) storagetest.Fault) bool {
	s := newStage(t)
	if sc.prepare != nil {
		sc.prepare(s)
	}
	s.flaky.Plan(plan)
	err := sc.run(s)
	hit := s.flaky.Faults() > 0
	s.flaky.Plan(nil)
	if err != nil && (!hit || registry.CodeOf(err) != registry.Unavailable && !errors.Is(err, context.Canceled)) {
		t.Errorf("the answer is %v (code %d)", err, registry.CodeOf(err))
	}
	s.check(s.model)
	if err != nil {
		if err := sc.run(s); err != nil {
			t.Errorf("again: %v", err)
		}
		s.check(s.model)
	}
	if t.Failed() {
		t.Log(how)
	}
	return hit
}

// TestDamagedRecords damages each record of an image in turn, as a disk may: pushing the image again heals it, and until then it
// can be deleted, and the repository removed.
func TestDamagedRecords(t *testing.T) {
	for n := 0; ; n++ {
		f := newFixture(t, nil, nil)
		p := f.repository("a")
		layer := pattern("layer", 20_000)
		blobs := map[registry.Digest]string{f.pushBlob(p, "config"): "config", f.pushBlob(p, layer): layer}
		body := image("", registry.SHA256.FromBytes([]byte("config")), registry.SHA256.FromBytes([]byte(layer)))
		m := f.put(p, "v1", body)
		signature := referring(m.Digest, "", "", registry.SHA256.FromBytes([]byte("config")))
		f.pushReferrer(p, signature)
		keys := slices.Concat(f.keys("repositories/"), f.keys("catalog/"), f.keys("blobs/"))
		if n == len(keys) {
			return
		}
		f.overwrite(keys[n], []byte("damaged"))
		for d, content := range blobs {
			if _, err := p.CheckBlob(t.Context(), d); registry.CodeOf(err) == registry.BlobUnknown || strings.HasPrefix(keys[n], "blobs/") {
				f.pushBlob(p, content)
			} else if err != nil {
				t.Errorf("%s: HEAD of a blob: %v", keys[n], err)
			}
		}
		f.put(p, "v1", body)
		signed := f.pushReferrer(p, signature)
		wantDigests(t, keys[n], f.referrers(p, m.Digest, "", 1), []string{signed})
		if got := f.at(p, "v1"); got != m.Digest.String() {
			t.Errorf("%s: pushed again, the tag is at %q", keys[n], got)
		}
		for d, content := range blobs {
			if got, err := readBlob(t.Context(), p, d); err != nil || got != content {
				t.Errorf("%s: pushed again, a blob has %d bytes, %v", keys[n], len(got), err)
			}
		}
		f.overwrite(keys[n], []byte("damaged"))
		if _, err := p.Remove(t.Context(), false); err != nil {
			t.Errorf("%s: remove the repository: %v", keys[n], err)
		}
		f.put(p, "v1", image("", f.pushBlob(p, "other")))
		f.overwrite("repositories/a/_tags/v1", []byte("damaged"))
		if err := p.DeleteTag(t.Context(), ref(t, "v1").Tag); err != nil {
			t.Errorf("%s: delete a damaged tag: %v", keys[n], err)
		}
		if got := f.at(p, "v1"); got != "" {
			t.Errorf("%s: deleted, the tag is at %q", keys[n], got)
		}
	}
}
