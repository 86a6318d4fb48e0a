package replicas

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/tests/content"
	"berth/tests/harness"
)

// TestStoreDown takes the store away while a registry serves: requests are answered 503 and when to try again, soon without
// asking the store at all, /readyz says so, and when the store is back all is as before.
func TestStoreDown(t *testing.T) {
	eachBucket(t, func(t *testing.T, b store) {
		t.Parallel() // most of it is waiting
		var wire *harness.Wire
		s := harness.Start(t, b.Start(t, func(endpoint string) string {
			wire = harness.StartWire(t, endpoint)
			return wire.URL
		}))
		set := content.Algorithm(content.Digest).Image("down", content.AMD64(), []int{50_000}, nil)
		must(t, s.Push("a/b", set, "latest"))
		wire.Plan(func(*http.Request) harness.Fault { return harness.Reset })
		began := time.Now()
		var clients sync.WaitGroup
		for range 8 {
			clients.Go(func() { unavailable(t, s, "latest") })
		}
		clients.Wait()
		t.Logf("8 requests were refused within %v", time.Since(began).Round(time.Millisecond))
		opened := func() bool {
			asked := time.Now()
			unavailable(t, s, "latest")
			return time.Since(asked) < 100*time.Millisecond
		}
		for !opened() || !opened() { // one that tries whether the store is back may be between
			if time.Since(began) > time.Minute {
				t.Fatal("every request waits for the store")
			}
		}
		t.Logf("requests were refused at once after %v", time.Since(began).Round(time.Millisecond))
		unavailable(t, s, "another")
		r, err := s.Do(harness.Call{Method: "POST", Path: "/v2/a/b/blobs/uploads/", Query: map[string][]string{"digest": {set.Blobs[0].Digest}}, Body: set.Blobs[0].Bytes})
		must(t, err)
		refusal(t, r)
		for {
			r, err := s.Get("/readyz")
			must(t, err)
			if r.Status == 503 && strings.Contains(string(r.Body), "storage") {
				break
			}
			if time.Since(began) > time.Minute {
				t.Fatalf("/readyz answers %d %s", r.Status, r.Body)
			}
			time.Sleep(50 * time.Millisecond)
		}
		if r, err := s.Get("/healthz"); err != nil || r.Status != 200 {
			t.Errorf("/healthz answers %v, %v", r, err)
		}
		wire.Plan(nil)
		back := time.Now()
		for {
			r, err := s.Get("/readyz")
			must(t, err)
			if r.Status == 200 {
				break
			}
			if time.Since(back) > 10*time.Second {
				t.Fatalf("the store is back for %v, and /readyz answers %d %s", time.Since(back), r.Status, r.Body)
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Logf("ready again %v after the store was back", time.Since(back).Round(time.Millisecond))
		must(t, s.Verify("a/b", set))
		must(t, s.PushManifest("a/b", "another", set.Top()))
	})
}

// unavailable asks for a tag, which must be refused.
func unavailable(t *testing.T, s *harness.Server, tag string) {
	t.Helper()
	r, err := s.Get("/v2/a/b/manifests/" + tag)
	if err != nil {
		t.Error(err)
		return
	}
	refusal(t, r)
}

// refusal asks that a reply say that the registry cannot do it now, and when it may.
func refusal(t *testing.T, r *harness.Reply) {
	t.Helper()
	if r.Status != 503 || r.Header.Get("Retry-After") == "" || len(r.Codes()) == 0 {
		t.Errorf("%s was answered %d, Retry-After %q: %s", r.Call, r.Status, r.Header.Get("Retry-After"), r.Body)
	}
}
