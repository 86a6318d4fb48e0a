package replicas

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"berth/storage/gcs/gcstest"
	"berth/tests/content"
	"berth/tests/harness"
	"berth/tests/storm"
)

const (
	crowd    = 6 // clients of three replicas
	each     = 2 // changes that each makes
	patience = 2 * time.Minute
)

// TestOneWriteASecond has clients of three replicas change one object of a service that takes one write a second to it and
// is strict with conditions: push referrers of one subject, and move one tag. All of it comes right: a client that is asked to
// come again does, and nothing that was acknowledged is lost.
func TestOneWriteASecond(t *testing.T) {
	server, service := harness.StartStrictGCS(t, func(s *gcstest.Service) { s.Paced = true })
	var replicas []*harness.Server
	for range 3 {
		replicas = append(replicas, harness.Start(t, harness.Options{Storage: "gcs", Env: server.Env("/paced")}))
	}
	image := content.Algorithm(content.Digest).Image("paced", content.AMD64(), []int{50_000}, nil)
	must(t, replicas[0].Push("paced/app", image, "latest"))
	t.Run("referrers", func(t *testing.T) { paced(t, service, func() int64 { return referTogether(t, replicas, image) }) })
	t.Run("a tag", func(t *testing.T) { paced(t, service, func() int64 { return moveTogether(t, replicas, image) }) })
}

// paced runs what changes one object so many times as it returns, and bounds how long that takes and how often the service
// must refuse.
func paced(t *testing.T, service *gcstest.Service, act func() (refused int64)) {
	service.Take()
	began := time.Now()
	refused := act()
	took := time.Since(began)
	_, throttled := service.Take()
	t.Logf("%d changes took %v; the service refused %d requests for haste, and the registry %d", crowd*each, took.Round(time.Millisecond), throttled, refused)
	if took > patience || throttled > 10*crowd*each {
		t.Errorf("%d changes took %v, and %d requests were refused", crowd*each, took, throttled)
	}
	if throttled == 0 {
		t.Error("nobody hurried")
	}
}

// together has clients act at once, each a few times, and counts how often one was asked to come again.
func together(t *testing.T, act func(client, turn int, again *atomic.Int64)) int64 {
	var clients sync.WaitGroup
	var again atomic.Int64
	for client := range crowd {
		clients.Go(func() {
			for turn := range each {
				act(client, turn, &again)
			}
		})
	}
	clients.Wait()
	return again.Load()
}

// insist pushes a manifest, again when the registry says when to try again.
func insist(t *testing.T, s *harness.Server, reference string, m content.Manifest, again *atomic.Int64) {
	call := harness.Call{Method: "PUT", Path: "/v2/paced/app/manifests/" + reference, Body: m.Bytes, Header: map[string][]string{"Content-Type": {m.MediaType}}}
	for {
		r, err := s.Do(call)
		if err != nil {
			t.Error(err)
			return
		}
		if r.Status == 201 {
			return
		}
		seconds, err := strconv.Atoi(r.Header.Get("Retry-After"))
		if r.Status != 503 || err != nil {
			t.Error(r.Want(201))
			return
		}
		again.Add(1)
		time.Sleep(time.Duration(seconds) * time.Second)
	}
}

// annotated is a manifest of an image that no other has.
func annotated(image content.Set, note string, more content.Fields) content.Manifest {
	fields := content.Fields{"config": image.Blobs[1].Describe(content.ImageConfig), "layers": []any{}, "annotations": map[string]string{"note": note}}
	for key, value := range more {
		fields[key] = value
	}
	return content.Algorithm(content.Digest).Document(content.ImageManifest, fields)
}

func referTogether(t *testing.T, replicas []*harness.Server, image content.Set) int64 {
	var mu sync.Mutex
	var want []string
	refused := together(t, func(client, turn int, again *atomic.Int64) {
		m := annotated(image, fmt.Sprint("referrer ", client, turn), content.Fields{"subject": image.Top().Describe()})
		insist(t, replicas[client%len(replicas)], m.Digest, m, again)
		mu.Lock()
		defer mu.Unlock()
		want = append(want, m.Digest)
	})
	slices.Sort(want)
	for _, s := range replicas {
		r := wants(t, s.Client, 200, harness.Call{Method: "GET", Path: "/v2/paced/app/referrers/" + image.Top().Digest})
		var index struct{ Manifests []content.Descriptor }
		must(t, json.Unmarshal(r.Body, &index))
		var got []string
		for _, d := range index.Manifests {
			got = append(got, d.Digest)
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("%d referrers are listed, of %d that were pushed: %q", len(got), len(want), got)
		}
	}
	return refused
}

func moveTogether(t *testing.T, replicas []*harness.Server, image content.Set) int64 {
	var mu sync.Mutex
	var events []storm.Event
	clock := time.Now()
	happened := func(e storm.Event) {
		mu.Lock()
		defer mu.Unlock()
		e.End = int64(time.Since(clock))
		events = append(events, e)
	}
	look := func(s *harness.Server) {
		begun := int64(time.Since(clock))
		digest, err := s.Resolve("paced/app", "moved")
		if err != nil {
			t.Error(err)
			return
		}
		happened(storm.Event{Value: digest, Begun: begun})
	}
	refused := together(t, func(client, turn int, again *atomic.Int64) {
		m := annotated(image, fmt.Sprint("moved ", client, turn), nil)
		begun := int64(time.Since(clock))
		insist(t, replicas[client%len(replicas)], "moved", m, again)
		happened(storm.Event{Write: true, Value: m.Digest, Begun: begun})
		look(replicas[(client+1)%len(replicas)])
	})
	for _, s := range replicas {
		look(s)
	}
	if why := storm.Contradiction(events); why != "" {
		t.Errorf("the tag is not one: %s", why)
	}
	return refused
}
