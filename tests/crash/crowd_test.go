package crash

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"berth/tests/content"
	"berth/tests/harness"
)

// crowd runs f n times at once; its errors fail the test.
func crowd(t *testing.T, n int, f func(i int) error) {
	t.Helper()
	var all sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		all.Go(func() {
			<-start
			if err := f(i); err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		})
	}
	close(start)
	all.Wait()
}

// TestManyPulls pulls an image a thousand times at once.
func TestManyPulls(t *testing.T) {
	s := harness.Start(t, harness.Options{Race: true})
	set := content.Algorithm(content.Digest).Image("pulls", content.AMD64(), []int{300_000}, nil)
	if err := s.Push("crowd/pulls", set, "latest"); err != nil {
		t.Fatal(err)
	}
	crowd(t, 1000, func(int) error {
		digest, err := s.Resolve("crowd/pulls", "latest")
		if err == nil && digest != set.Top().Digest {
			err = fmt.Errorf("the tag names %s", digest)
		}
		if err != nil {
			return err
		}
		return s.Verify("crowd/pulls", set)
	})
}

// TestOneBlob pushes one blob from 32 clients at once, in each of the ways there are.
func TestOneBlob(t *testing.T) {
	s := harness.Start(t, harness.Options{Race: true})
	blob := content.Random("one blob", 3<<20)
	ways := []func(repo string) error{
		func(repo string) error { return s.PushBlob(repo, blob) },
		func(repo string) error { return single(s, repo, blob) },
		func(repo string) error { return streamed(s, repo, blob) },
	}
	crowd(t, 32, func(i int) error {
		repo := "crowd/blob-" + strconv.Itoa(i%4)
		if err := ways[i%len(ways)](repo); err != nil {
			return err
		}
		_, err := s.PullBlob(repo, blob.Digest)
		return err
	})
}

// want sends a call that must be answered with the status.
func want(s *harness.Server, call harness.Call, status int) (*harness.Reply, error) {
	r, err := s.Do(call)
	if err == nil {
		err = r.Want(status)
	}
	return r, err
}

func single(s *harness.Server, repo string, b content.Blob) error {
	_, err := want(s, harness.Call{Method: "POST", Path: "/v2/" + repo + "/blobs/uploads/", Query: url.Values{"digest": {b.Digest}}, Body: b.Bytes}, 201)
	return err
}

func streamed(s *harness.Server, repo string, b content.Blob) error {
	r, err := want(s, harness.Call{Method: "POST", Path: "/v2/" + repo + "/blobs/uploads/"}, 202)
	if err != nil {
		return err
	}
	half := len(b.Bytes) / 2
	for _, part := range [][]byte{b.Bytes[:half], b.Bytes[half:]} {
		if r, err = want(s, harness.Call{Method: "PATCH", Path: r.Header.Get("Location"), Body: part}, 202); err != nil {
			return err
		}
	}
	_, err = want(s, harness.Call{Method: "PUT", Path: r.Header.Get("Location"), Query: url.Values{"digest": {b.Digest}}}, 201)
	return err
}

// manifests pushes n manifests by digest.
func manifests(t *testing.T, s *harness.Server, repo string, n int) []content.Manifest {
	t.Helper()
	config := content.Random(repo, 10)
	set := content.Set{Blobs: []content.Blob{config}}
	for i := range n {
		set.Manifests = append(set.Manifests, content.Algorithm(content.Digest).Document(content.ImageManifest, content.Fields{
			"config": config.Describe(content.ImageConfig), "layers": []any{}, "annotations": map[string]string{"n": strconv.Itoa(i)},
		}))
	}
	if err := s.Push(repo, set); err != nil {
		t.Fatal(err)
	}
	return set.Manifests
}

// put puts a manifest under a tag with a condition.
func put(s *harness.Server, repo, tag string, m content.Manifest, key, value string) (*harness.Reply, error) {
	return s.Do(harness.Call{Method: "PUT", Path: "/v2/" + repo + "/manifests/" + tag, Body: m.Bytes,
		Header: http.Header{"Content-Type": {m.MediaType}, key: {value}}})
}

// TestOneCreates lets 32 clients create one tag on the condition that it is not there: one does.
func TestOneCreates(t *testing.T) {
	s := harness.Start(t, harness.Options{Race: true})
	all := manifests(t, s, "crowd/create", 32)
	for round := range 10 {
		var winner atomic.Int32
		winner.Store(-1)
		tag := "tag-" + strconv.Itoa(round)
		crowd(t, len(all), func(i int) error {
			r, err := put(s, "crowd/create", tag, all[i], "If-None-Match", "*")
			if err != nil {
				return err
			}
			if r.Status == 201 && !winner.CompareAndSwap(-1, int32(i)) {
				return fmt.Errorf("it created %s, as client %d did", tag, winner.Load())
			}
			return r.Want(201, 412)
		})
		if winner.Load() < 0 {
			t.Fatal("nobody created the tag")
		}
		if got, err := s.Resolve("crowd/create", tag); err != nil || got != all[winner.Load()].Digest {
			t.Errorf("%s names %s, not what client %d pushed (%v)", tag, got, winner.Load(), err)
		}
	}
}

// TestDeleteAgainstPush pushes a manifest under a tag and deletes it at once: both stay, or neither.
func TestDeleteAgainstPush(t *testing.T) {
	s := harness.Start(t, harness.Options{Race: true})
	m := manifests(t, s, "crowd/delete", 1)[0]
	path := "/v2/crowd/delete/manifests/"
	for range 100 {
		crowd(t, 4, func(i int) error {
			if i%2 == 0 {
				return s.PushManifest("crowd/delete", "latest", m)
			}
			r, err := s.Do(harness.Call{Method: "DELETE", Path: path + m.Digest})
			if err != nil {
				return err
			}
			return r.Want(202, 404)
		})
		byTag, err := s.Get(path + "latest")
		if err != nil {
			t.Fatal(err)
		}
		byDigest, err := s.Get(path + m.Digest)
		if err != nil {
			t.Fatal(err)
		}
		if byTag.Status == 200 && byDigest.Status != 200 {
			t.Fatalf("the tag is there (%d), the manifest is not (%d)", byTag.Status, byDigest.Status)
		}
		if err := s.PushManifest("crowd/delete", "latest", m); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Resolve("crowd/delete", "latest"); err != nil || got != m.Digest {
			t.Fatalf("after another push the tag names %q (%v)", got, err)
		}
	}
}
