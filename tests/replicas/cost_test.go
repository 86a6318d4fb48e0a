package replicas

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"berth/tests/content"
	"berth/tests/harness"
)

// A cost is how many calls of the store an operation may take.
type cost struct{ reads, writes, lists int }

func (c cost) String() string {
	return fmt.Sprintf("%d reads, %d writes, %d lists", c.reads, c.writes, c.lists)
}

// within reports whether c is no more than the bar.
func (c cost) within(bar cost) bool {
	return c.reads <= bar.reads && c.writes <= bar.writes && c.lists <= bar.lists
}

// counted is what a wire carried since the last look. What every process reads in the background, once in 2 seconds while
// it serves, is not counted: whether others have deleted something.
func counted(w *harness.Wire) (c cost, calls []string) {
	for _, call := range w.Take() {
		if strings.HasSuffix(call, "/config/epoch") {
			continue
		}
		calls = append(calls, call)
		switch kind, _, _ := strings.Cut(call, " "); kind {
		case "read":
			c.reads++
		case "write":
			c.writes++
		case "list":
			c.lists++
		}
	}
	return c, calls
}

// A meter measures operations of one registry.
type meter struct {
	*testing.T
	server *harness.Server
	wire   *harness.Wire
}

// wants performs an operation and compares its cost.
func (m meter) wants(operation string, bar cost, act func() error) {
	m.Helper()
	m.wire.Take()
	must(m.T, act())
	got, calls := counted(m.wire)
	m.Logf("%-60s %v", operation, got)
	if !got.within(bar) {
		m.Errorf("%s took %v, which may take %v:\n%s", operation, got, bar, strings.Join(calls, "\n"))
	}
}

// restart begins with a process that has nothing of team/app in memory. It has looked once whether others deleted anything:
// before, it keeps nothing.
func (m meter) restart() {
	m.Helper()
	m.server.Stop()
	m.server.Restart()
	head := m.answers(200, harness.Call{Method: "HEAD", Path: "/v2/other/app/blobs/" + other().Digest})
	for began := time.Now(); ; {
		m.wire.Take()
		must(m.T, head())
		if got, _ := counted(m.wire); got == (cost{}) {
			return
		}
		if time.Since(began) > 10*time.Second {
			m.Fatal("nothing is ever answered from memory")
		}
	}
}

func other() content.Blob { return content.Random("other", 1000) }

// twice performs an operation that reads: in a process that has not read it yet, and again.
func (m meter) twice(operation string, cold, warm cost, act func() error) {
	m.Helper()
	m.restart()
	m.wants(operation+", cold", cold, act)
	m.wants(operation+", warm", warm, act)
}

// answers is an operation that is one request.
func (m meter) answers(status int, call harness.Call) func() error {
	return func() error {
		r, err := m.server.Do(call)
		if err == nil {
			err = r.Want(status)
		}
		return err
	}
}

func (m meter) path(rest string) string { return "/v2/team/app/" + rest }

// TestCost holds each operation to the number of calls that docs/performance.md has for it.
func TestCost(t *testing.T) {
	eachBucket(t, func(t *testing.T, b store) {
		m := meter{T: t}
		o := b.Start(t, func(endpoint string) string {
			m.wire = harness.StartWire(t, endpoint)
			return m.wire.URL
		})
		o.Env = append(o.Env, "REGISTRY_GC_ENABLED=false", "REGISTRY_STORAGE_MAINTENANCE_UPLOADPURGING_ENABLED=false")
		m.server = harness.Start(t, o)
		set := content.Algorithm(content.Digest).Image("cost", content.AMD64(), []int{300_000, 20_000, 9_000}, nil)
		must(t, m.server.Push("team/app", set, "latest"))
		must(t, m.server.PushBlob("other/app", other()))
		m.costOfReads(set)
		m.costOfPushes()
		m.costOfLarge(b)
		m.costOfManifests(set)
	})
}

func (m meter) costOfReads(set content.Set) {
	top, layer := set.Top(), set.Blobs[0]
	for _, b := range set.Blobs {
		if len(b.Bytes) > len(layer.Bytes) {
			layer = b
		}
	}
	manifest := func(reference string) harness.Call {
		return harness.Call{Method: "GET", Path: m.path("manifests/" + reference)}
	}
	blob := func(method string) harness.Call {
		return harness.Call{Method: method, Path: m.path("blobs/" + layer.Digest)}
	}
	m.twice("manifest by tag", cost{reads: 2}, cost{reads: 1}, m.answers(200, manifest("latest")))
	m.twice("manifest by digest", cost{reads: 1}, cost{}, m.answers(200, manifest(top.Digest)))
	m.twice("blob HEAD", cost{reads: 1}, cost{}, m.answers(200, blob("HEAD")))
	m.twice("blob GET with redirect", cost{reads: 2}, cost{}, m.answers(307, blob("GET")))
	m.twice("tags page", cost{lists: 1}, cost{lists: 1}, m.answers(200, harness.Call{Method: "GET", Path: m.path("tags/list")}))
	m.twice("catalog page", cost{lists: 1}, cost{lists: 1}, m.answers(200, harness.Call{Method: "GET", Path: "/v2/_catalog"}))
	m.twice("referrers", cost{reads: 1}, cost{reads: 1}, m.answers(200, harness.Call{Method: "GET", Path: m.path("referrers/" + top.Digest)}))
}

func (m meter) costOfPushes() {
	for _, size := range []int{2 << 20, 100_000, 100} {
		b := content.Random(fmt.Sprint("pushed in parts", size), size)
		m.wants(fmt.Sprintf("layer push of %d bytes: POST, PATCH, PUT", size), cost{reads: 3, writes: 5}, func() error { return m.patched(b) })
		b = content.Random(fmt.Sprint("pushed at once", size), size)
		m.wants(fmt.Sprintf("layer push of %d bytes: POST, PUT", size), cost{reads: 2, writes: 3}, func() error {
			return m.server.PushBlob("team/app", b)
		})
		b = content.Random(fmt.Sprint("posted", size), size)
		m.wants(fmt.Sprintf("layer push of %d bytes: POST alone", size), cost{reads: 2, writes: 3}, m.answers(201, harness.Call{
			Method: "POST", Path: m.path("blobs/uploads/"), Query: url.Values{"digest": {b.Digest}}, Body: b.Bytes,
			Header: http.Header{"Content-Type": {content.OctetStream}},
		}))
	}
}

// costOfLarge counts the writes of a layer that goes up in pieces: as many as its pieces make, and those of its records.
func (m meter) costOfLarge(s store) {
	const size = 25 << 20
	b := content.Random("large", size)
	m.wire.Take()
	must(m.T, m.server.PushBlob("team/app", b))
	got, calls := counted(m.wire)
	want := s.large(size)
	want.reads, want.writes = want.reads+1, want.writes+2
	if m.Logf("%-60s %v", "layer push of 25 MiB: POST, PUT", got); got != want {
		m.Errorf("a layer of %d bytes took %v, not %v:\n%s", size, got, want, strings.Join(calls, "\n"))
	}
}

// patched pushes as docker does.
func (m meter) patched(b content.Blob) error {
	r, err := m.server.Do(harness.Call{Method: "POST", Path: m.path("blobs/uploads/")})
	if err == nil {
		r, err = m.server.Do(harness.Call{Method: "PATCH", Path: r.Header.Get("Location"), Body: b.Bytes})
	}
	if err == nil {
		r, err = m.server.Do(harness.Call{Method: "PUT", Path: r.Header.Get("Location"), Query: url.Values{"digest": {b.Digest}}})
	}
	if err == nil {
		err = r.Want(201)
	}
	return err
}

func (m meter) costOfManifests(set content.Set) {
	layers := func(n int) (described []any) {
		for _, b := range set.Blobs[:n] {
			described = append(described, b.Describe("application/vnd.oci.image.layer.v1.tar"))
		}
		return described
	}
	config := content.Random("config", 100)
	must(m.T, m.server.PushBlob("team/app", config))
	n := 1 + len(set.Blobs)
	manifest := func(note string) content.Manifest {
		return content.Algorithm(content.Digest).Document(content.ImageManifest, content.Fields{
			"config": config.Describe(content.ImageConfig), "layers": append(layers(len(set.Blobs)), layers(1)...),
			"annotations": map[string]string{"note": note},
		})
	}
	push := func(operation, tag string, x content.Manifest) {
		m.Helper()
		operation = fmt.Sprintf("manifest push, %d blobs, %s", n, operation)
		m.wants(operation, cost{reads: n + 3, writes: 3}, func() error { return m.server.PushManifest("team/app", tag, x) })
	}
	m.restart()
	push("a tag moves, cold", "latest", manifest("moved"))
	push("a tag moves, warm", "latest", manifest("moved again"))
	push("a new tag", "new", manifest("new"))
	push("a new tag of the same", "newer", manifest("new"))
	push("by digest", "", manifest("digest"))
	m.restart()
	m.wants(fmt.Sprintf("manifest push, %d blobs, a new tag, the first push of this process", n), cost{reads: n + 4, writes: 3}, func() error {
		return m.server.PushManifest("team/app", "first", manifest("first"))
	})
}
