package replicas

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"berth/auth"
	"berth/registry"
	"berth/registry/api"
	"berth/registry/gc"
	"berth/registry/observe"
	"berth/storage"
	"berth/storage/azure"
	"berth/storage/gcs"
	"berth/storage/s3"
	"berth/tests/harness"
)

// A network is what the requests of a driver pass.
type network func(http.RoundTripper) http.RoundTripper

// drivers open a driver over a store in the network. That of Google is a strict one: the emulator's uploads in pieces do not
// survive a reply that is lost.
var drivers = map[string]func(*testing.T, network) (storage.Driver, error){"s3": openS3, "azure": openAzure, "gcs": openGCS}

const pieceSize = 5 << 20

func openS3(t *testing.T, n network) (storage.Driver, error) {
	server := harness.StartS3(t, false)
	return s3.Open(t.Context(), s3.Options{
		Bucket: server.Bucket, Region: server.Region, Endpoint: server.Endpoint, Root: "wire", PathStyle: true, PartSize: pieceSize,
		Credentials: s3.Credentials{AccessKey: server.AccessKey, SecretKey: server.SecretKey}, Transport: n,
	})
}

func openAzure(t *testing.T, n network) (storage.Driver, error) {
	server := harness.StartAzure(t, false)
	return azure.Open(t.Context(), azure.Options{
		Account: server.Account, Container: server.Container, Endpoint: server.Endpoint, Root: "wire", PartSize: pieceSize,
		Credentials: azure.Credentials{Key: server.Key}, Transport: n,
	})
}

func openGCS(t *testing.T, n network) (storage.Driver, error) {
	server, _ := harness.StartStrictGCS(t, nil)
	return gcs.Open(t.Context(), gcs.Options{
		Bucket: server.Bucket, Endpoint: server.Endpoint, Root: "wire", ChunkSize: pieceSize,
		Credentials: gcs.Credentials{JSON: server.Account.JSON}, Transport: n,
	})
}

// A failure is one fault, at the n-th request that a scene has the registry send to its store.
type failure struct {
	fault harness.Fault
	n     int64
	seen  atomic.Int64
}

func (f *failure) hit() bool { return f.seen.Load() >= f.n }

func (f *failure) next() harness.Fault {
	if f.seen.Add(1) == f.n {
		return f.fault
	}
	return harness.Pass
}

type failureKey struct{}

// A stage is a registry in this process, over a store in the network. Many scenes take place at once, each in repositories
// of its own, with a failure of its own.
type stage struct {
	store    storage.Driver
	registry *registry.Registry
	base     string

	failures sync.Map // of scenes, by their names
	unsure   atomic.Int64
	played   atomic.Int64
}

const sceneHeader = "X-Scene"

func newStage(t *testing.T, open func(*testing.T, network) (storage.Driver, error)) *stage {
	s := &stage{}
	var err error
	s.store, err = open(t, func(next http.RoundTripper) http.RoundTripper {
		wire := harness.NewWire(next)
		wire.Plan(func(r *http.Request) harness.Fault {
			if f, ok := r.Context().Value(failureKey{}).(*failure); ok {
				return f.next()
			}
			return harness.Pass
		})
		return wire
	})
	must(t, err)
	t.Cleanup(func() { must(t, s.store.(io.Closer).Close()) })
	s.registry, err = registry.Open(t.Context(), s.store, nil)
	must(t, err)
	log := logrus.New()
	log.SetOutput(io.Discard)
	handler, err := api.New(s.registry, auth.Anonymous{}, auth.AllowAll{}, &api.Options{DeleteEnabled: true, Log: log})
	must(t, err)
	observed := observe.Handler(handler, observe.Options{}, log)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f, ok := s.failures.Load(r.Header.Get(sceneHeader)); ok {
			r = r.WithContext(context.WithValue(r.Context(), failureKey{}, f))
		}
		observed.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	s.base = server.URL
	return s
}

var every = flag.Bool("every", false, "fail requests in every way, not in the most telling ones")

// faults are the ways in which requests fail.
func faults() []harness.Fault {
	if *every {
		return []harness.Fault{harness.Reset, harness.Halved, harness.Lost, harness.Cut, harness.Slow, harness.TooMany, harness.Broken, harness.Late}
	}
	return []harness.Fault{harness.Halved, harness.Lost, harness.Cut, harness.Slow}
}

// TestEveryCall performs every operation of the API again and again, with another request to the store failing, in every way.
// The answer is as if nothing had happened, or 503 with Retry-After; then the client does it again, and that succeeds. What was
// acknowledged is there, once; and after a collection nothing is left that nobody needs.
func TestEveryCall(t *testing.T) {
	for name, open := range drivers {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, open)
			var scenes sync.WaitGroup
			room := make(chan struct{}, 8)
			for _, o := range operations {
				for _, fault := range faults() {
					room <- struct{}{}
					scenes.Go(func() {
						defer func() { <-room }()
						for n := 1; s.play(t, o, fault, n) && !t.Failed(); n++ {
						}
					})
				}
			}
			scenes.Wait()
			t.Logf("%d times a request failed; %d of the answers were 503", s.played.Load(), s.unsure.Load())
			s.sweep(t)
		})
	}
}

// play performs an operation with a fault at the n-th request, and reports whether there were so many.
func (s *stage) play(t *testing.T, o operation, fault harness.Fault, n int) bool {
	x := &scene{stage: s, id: fmt.Sprintf("%s-%d-%d", o.name, fault, n), client: harness.NewClient(s.base)}
	x.repo = "wire/" + strings.ReplaceAll(x.id, " ", "-")
	defer x.client.CloseIdle()
	if err := o.prepare(x); err != nil {
		t.Errorf("%s: prepare: %v", o.name, err)
		return false
	}
	f := &failure{fault: fault, n: int64(n)}
	s.failures.Store(x.id, f)
	err := o.act(x)
	s.failures.Delete(x.id)
	if f.hit() {
		s.played.Add(1)
	}
	if errors.Is(err, errUnsure) && f.hit() {
		s.unsure.Add(1)
		x.again = true
		err = o.act(x)
	}
	if err == nil {
		err = o.check(x)
	}
	if err != nil {
		t.Errorf("%s, %v at request %d: %v", o.name, fault, n, err)
	}
	return f.hit()
}

// sweep collects, as if nobody used the store and the ids of all uploads had expired: there must be nothing left but what manifests
// need, and that must be whole.
func (s *stage) sweep(t *testing.T) {
	later, err := registry.Open(t.Context(), s.store, &registry.Options{UploadAge: time.Millisecond})
	must(t, err)
	for range 2 { // one keeps something by mistake now and then, which goes in the next
		report, err := gc.New(s.store, later, gc.Options{UploadAge: time.Nanosecond}).Run(t.Context(), gc.RunOptions{Alone: true})
		must(t, err)
		if report.Failed() != 0 {
			t.Errorf("the collection failed at %d objects", report.Failed())
		}
	}
	needed, data := map[string]bool{}, []string{}
	for info, err := range s.store.List(t.Context(), "", "") {
		must(t, err)
		switch top, _, _ := strings.Cut(info.Key, "/"); top {
		case "data":
			data = append(data, info.Key)
		case "uploads":
			t.Errorf("an upload is left: %s", info.Key)
		case "blobs":
			for _, key := range segmentsOf(t, s.store, info.Key) {
				needed[key] = true
			}
		}
	}
	for _, key := range data {
		if !needed[key] {
			t.Errorf("nobody needs %s", key)
		}
		delete(needed, key)
	}
	for key := range needed {
		t.Errorf("a blob lacks %s", key)
	}
	if tidier, ok := storage.As[storage.Tidier](s.store); ok {
		_, _, err := tidier.Tidy(t.Context(), time.Now().Add(time.Hour), nil)
		must(t, err)
		if n, _, err := tidier.Tidy(t.Context(), time.Now().Add(time.Hour), nil); err != nil || n != 0 {
			t.Errorf("%d uploads in parts are left, %v", n, err)
		}
	}
	s.pullAll(t)
	t.Logf("after the collection: %d data objects", len(data))
}

// segmentsOf are the data objects that the record of a blob names.
func segmentsOf(t *testing.T, d storage.Driver, key string) (keys []string) {
	body, _, err := storage.ReadAll(t.Context(), d, key, 1<<20)
	must(t, err)
	line, _, _ := strings.Cut(string(body), "\n")
	var record struct{ Segments []struct{ Key string } }
	must(t, json.Unmarshal([]byte(line), &record))
	for _, s := range record.Segments {
		keys = append(keys, s.Key)
	}
	return keys
}

// pullAll pulls whatever has a tag.
func (s *stage) pullAll(t *testing.T) {
	client := harness.NewClient(s.base)
	defer client.CloseIdle()
	names, _, err := s.registry.Catalog(t.Context(), "", -1)
	must(t, err)
	pulled := 0
	for _, name := range names {
		tags, _, err := s.registry.Repository(name).Tags(t.Context(), "", -1)
		must(t, err)
		for _, tag := range tags {
			r, err := client.Get("/v2/" + name.String() + "/manifests/" + tag)
			must(t, err)
			if err := r.Want(200); err != nil {
				t.Error(err)
				continue
			}
			var m struct {
				Config struct{ Digest string }
				Layers []struct{ Digest string }
			}
			must(t, json.Unmarshal(r.Body, &m))
			for _, l := range append(m.Layers, m.Config) {
				if _, err := client.PullBlob(name.String(), l.Digest); err != nil {
					t.Error(err)
				}
				pulled++
			}
		}
	}
	if t.Logf("%d blobs of %d repositories were pulled", pulled, len(names)); pulled == 0 {
		t.Error("nothing was pulled")
	}
}

// A scene is one operation under way.
type scene struct {
	*stage
	id, repo string
	client   *harness.Client
	again    bool   // it is done again, after an answer that left it open
	location string // of an upload
}

// errUnsure is that of a request which was answered 503, or whose answer broke off: it may have been performed.
var errUnsure = errors.New("not known")

// do sends a request, which must have one of the statuses.
func (x *scene) do(call harness.Call, statuses ...int) (*harness.Reply, error) {
	header := http.Header{sceneHeader: {x.id}}
	for key, values := range call.Header {
		header[key] = values
	}
	call.Header = header
	r, err := x.client.Do(call)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", errUnsure, err)
	}
	if r.Status == http.StatusServiceUnavailable && !slices.Contains(statuses, r.Status) {
		if seconds, err := strconv.Atoi(r.Header.Get("Retry-After")); err != nil || seconds < 1 || len(r.Codes()) == 0 {
			return nil, fmt.Errorf("%s: 503 with Retry-After %q: %s", r.Call, r.Header.Get("Retry-After"), r.Body)
		}
		return nil, fmt.Errorf("%w: %s: %s", errUnsure, r.Call, r.Body)
	}
	return r, r.Want(statuses...)
}
