package api

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"strings"
	"testing"

	"berth/auth"
	"berth/registry"
	"berth/registry/gate"
	"berth/storage"
	"berth/storage/memory"
)

// rights lets each subject do what a table says: "who action repository".
type rights map[string]bool

func (m rights) Authorize(_ context.Context, s auth.Subject, want ...auth.Access) error {
	for _, a := range want {
		if !m[s.Name+" "+string(a.Action)+" "+a.Repository] {
			return auth.ErrDenied
		}
	}
	return nil
}

// byHeader takes the header User for who asks; "wrong" has a wrong password.
type byHeader struct{}

func (byHeader) Authenticate(r *http.Request) (auth.Subject, error) {
	if r.Header.Get("User") == "wrong" {
		return auth.Subject{}, auth.ErrCredentials
	}
	return auth.Subject{Name: r.Header.Get("User")}, nil
}

func TestAccess(t *testing.T) {
	may := rights{}
	for _, line := range []string{
		"ann pull ", "ann list ", "ann pull a", "ann push a", "ann delete a", "ann pull c", "ann push c",
		"bob pull ", "bob list ", "bob pull b", "bob push b", " pull c",
	} {
		may[line] = true
	}
	o := &Options{DeleteEnabled: true, Challenge: func(_ *http.Request, want []auth.Access, _ error) string {
		return fmt.Sprintf("Test access=%q", slices.Collect(func(yield func(string) bool) {
			for _, a := range want {
				yield(string(a.Action))
			}
		}))
	}}
	w := newWorldFor(t, byHeader{}, may, o)
	w.run(
		exchange{do: "GET /v2/", want: 401, code: "UNAUTHORIZED", answer: `WWW-Authenticate: Test access=["pull"]`},
		exchange{do: "GET /v2/", header: "User: wrong", want: 401, code: "UNAUTHORIZED"},
		exchange{do: "GET /v2/", header: "User: ann", want: 200},
		exchange{do: "POST /v2/a/blobs/uploads/?digest={hello}", body: "hello", want: 401, answer: `WWW-Authenticate: Test access=["pull" "push"]`},
		exchange{do: "POST /v2/a/blobs/uploads/?digest={hello}", header: "User: bob", body: "hello", want: 403, code: "DENIED"},
		exchange{do: "POST /v2/a/blobs/uploads/?digest={hello}", header: "User: ann", body: "hello", want: 201},
		exchange{do: "GET /v2/a/blobs/{hello}", want: 401},
		exchange{do: "GET /v2/a/blobs/{hello}", header: "User: bob", want: 403},
		exchange{do: "GET /v2/c/blobs/{hello}", want: 404},
		exchange{do: "DELETE /v2/a/blobs/{hello}", header: "User: bob", want: 403},

		exchange{do: "POST /v2/b/blobs/uploads/?mount={hello}&from=a", header: "User: bob", want: 202},
		exchange{do: "POST /v2/b/blobs/uploads/?mount={hello}", header: "User: bob", want: 202},
		exchange{do: "POST /v2/c/blobs/uploads/?mount={hello}&from=a", header: "User: ann", want: 201},
		exchange{do: "POST /v2/a/blobs/uploads/", header: "User: ann", want: 202},
		exchange{do: "GET {loc}", header: "User: bob", want: 403},

		exchange{do: "GET /v2/a/nothing", header: "User: wrong", want: 404, code: "UNSUPPORTED"},
		exchange{do: "OPTIONS /v2/a/blobs/{hello}", want: 200, answer: "Allow: DELETE, GET, HEAD, OPTIONS"},
	)
	for _, repository := range []string{"a", "c"} {
		w.run(
			exchange{do: "POST /v2/" + repository + "/blobs/uploads/?digest={empty}", header: "User: ann", body: "{}", want: 201},
			exchange{do: "PUT /v2/" + repository + "/manifests/v1", header: "User: ann\nContent-Type: " + ociManifest, body: w.bodies["image"], want: 201},
		)
	}
	w.run(
		exchange{do: "GET /v2/_catalog", header: "User: ann", want: 200, content: "{\"repositories\":[\"a\",\"c\"]}\n"},
		exchange{do: "GET /v2/_catalog", header: "User: bob", want: 200, content: "{\"repositories\":[]}\n"},
		exchange{do: "GET /v2/_catalog", want: 401},
	)
}

func TestReadOnly(t *testing.T) {
	w := newWorldFor(t, auth.Anonymous{}, auth.ReadOnly{On: func() bool { return true }, Next: auth.AllowAll{}}, &Options{DeleteEnabled: true})
	w.run(
		exchange{do: "GET /v2/", want: 200},
		exchange{do: "POST /v2/a/blobs/uploads/", want: 405, code: "UNSUPPORTED", answer: "Allow: OPTIONS"},
		exchange{do: "PUT /v2/a/manifests/v1", want: 405, code: "UNSUPPORTED", answer: "Allow: GET, HEAD, OPTIONS"},
		exchange{do: "DELETE /v2/a/manifests/v1", want: 405, code: "UNSUPPORTED", answer: "Allow: GET, HEAD, OPTIONS"},
	)
	for _, method := range []string{"GET", "HEAD", "PATCH", "PUT", "DELETE"} {
		w.run(exchange{do: method + " /v2/a/blobs/uploads/x?digest={hello}", want: 405, code: "UNSUPPORTED", answer: "Allow: OPTIONS"})
	}
}

func TestAdmit(t *testing.T) {
	var limits gate.Limits
	limits.Queues[gate.Read].MaxRunning = 1
	limits.Queues[gate.Write].MaxRunning = 1
	g := gate.New(limits, nil)
	w := newWorld(t, &Options{Gate: g})
	w.run(exchange{do: "GET /v2/", want: 200}, exchange{do: "OPTIONS /v2/", want: 200})
	ticket, err := g.Admit(t.Context(), gate.Request{Class: gate.Read})
	if err != nil {
		t.Fatal(err)
	}
	w.run(
		exchange{do: "GET /v2/", want: 429, code: "TOOMANYREQUESTS"},
		exchange{do: "HEAD /v2/a/tags/list", want: 429},
		exchange{do: "OPTIONS /v2/", want: 429, code: "TOOMANYREQUESTS"},
		exchange{do: "POST /v2/a/blobs/uploads/", want: 202},
	)
	ticket.Leave()
	w.run(exchange{do: "GET /v2/", want: 200})
	for _, class := range gate.Classes() {
		if s := g.Stats().Classes[class]; s.Running != 0 {
			t.Errorf("%d requests of the class %v were not released", s.Running, class)
		}
	}
}

// TestMayChange refuses changes as while the storage takes none. Who may not change anything learns nothing of that.
func TestMayChange(t *testing.T) {
	var puts, deletes error
	w := newWorld(t, &Options{DeleteEnabled: true, MayChange: func(_ context.Context, isDelete bool) error {
		if isDelete {
			return deletes
		}
		return puts
	}})
	w.run(exchange{do: "POST /v2/a/blobs/uploads/", want: 202})
	puts = errors.New("it is full")
	full := exchange{do: "POST /v2/a/blobs/uploads/", want: 503, code: "UNAVAILABLE", answer: "Retry-After: 5"}
	w.run(full, exchange{do: "PUT /v2/a/manifests/x", body: "{}", want: 503, code: "UNAVAILABLE"},
		exchange{do: "GET /v2/", want: 200}, exchange{do: "OPTIONS /v2/", want: 200},
		exchange{do: "DELETE /v2/a/manifests/x", want: 404})
	deletes = puts
	w.run(exchange{do: "DELETE /v2/a/manifests/x", want: 503, code: "UNAVAILABLE"})
	puts, deletes = nil, nil
	w.run(exchange{do: "POST /v2/a/blobs/uploads/", want: 202})
}

// TestLargeBlobsApart has all downloads there may be under way: only those of large blobs are turned away.
func TestLargeBlobsApart(t *testing.T) {
	var limits gate.Limits
	limits.Queues[gate.Blobs].MaxRunning = 1
	g := gate.New(limits, nil)
	w := newWorld(t, &Options{Gate: g})
	w.name("large", strings.Repeat("x", smallBody+1))
	w.name("small", strings.Repeat("x", smallBody))
	w.run(
		exchange{do: "POST /v2/a/blobs/uploads/?digest={large}", body: w.bodies["large"], want: 201},
		exchange{do: "POST /v2/a/blobs/uploads/?digest={small}", body: w.bodies["small"], want: 201},
		exchange{do: "GET /v2/a/blobs/{large}", want: 200},
	)
	ticket, err := g.Admit(t.Context(), gate.Request{Class: gate.Blobs})
	if err != nil {
		t.Fatal(err)
	}
	w.run(
		exchange{do: "GET /v2/a/blobs/{large}", want: 429, code: "TOOMANYREQUESTS", answer: "Etag:\nDocker-Content-Digest:"},
		exchange{do: "GET /v2/a/blobs/{large}", header: "Range: bytes=0-65536", want: 429},
		exchange{do: "GET /v2/a/blobs/{large}", header: "Range: bytes=1-65536", want: 206},
		exchange{do: "GET /v2/a/blobs/{large}", header: "If-None-Match: {large}", want: 304},
		exchange{do: "HEAD /v2/a/blobs/{large}", want: 200},
		exchange{do: "GET /v2/a/blobs/{small}", want: 200},
	)
	ticket.Leave()
	w.run(exchange{do: "GET /v2/a/blobs/{large}", want: 200})
	for _, class := range gate.Classes() {
		if s := g.Stats().Classes[class]; s.Running != 0 {
			t.Errorf("%d requests of the class %v were not released", s.Running, class)
		}
	}
}

// TestUploadsAreCounted sends two blobs at a time where one may be sent.
func TestUploadsAreCounted(t *testing.T) {
	g := gate.New(gate.Limits{Uploads: 1}, nil)
	w := newWorld(t, &Options{Gate: g})
	client := gate.ClientAt("192.0.2.1:1234", "") // of httptest
	ticket, err := g.Admit(t.Context(), gate.Request{Client: client, Class: gate.Write, Upload: true})
	if err != nil {
		t.Fatal(err)
	}
	w.run(
		exchange{do: "POST /v2/a/blobs/uploads/?digest={hello}", body: "hello", want: 429, code: "TOOMANYREQUESTS"},
		exchange{do: "POST /v2/a/blobs/uploads/", want: 202},
		exchange{do: "PATCH {loc}", body: "hello", want: 429},
		exchange{do: "PUT {loc}?digest={hello}", body: "hello", want: 429},
	)
	ticket.Leave()
	w.run(
		exchange{do: "PATCH {loc}", body: "hello", want: 202},
		exchange{do: "PUT {loc}?digest={hello}", want: 201},
	)
}

func TestCORS(t *testing.T) {
	preflight := exchange{do: "OPTIONS /v2/a/tags/list", want: 204,
		header: "Origin: https://ui.test\nAccess-Control-Request-Method: GET"}
	for _, test := range []struct {
		name    string
		headers http.Header
		answer  string
	}{
		{"one origin", http.Header{"Access-Control-Allow-Origin": {"https://ui.test"}, "access-control-allow-credentials": {"true"}},
			"Access-Control-Allow-Origin: https://ui.test\nAccess-Control-Allow-Credentials: true\nVary: Origin"},
		{"several origins", http.Header{"Access-Control-Allow-Origin": {"https://x.test", "https://ui.test"}},
			"Access-Control-Allow-Origin: https://ui.test\nVary: Origin"},
		{"another origin", http.Header{"Access-Control-Allow-Origin": {"https://x.test"}}, "Access-Control-Allow-Origin: https://x.test"},
		{"any origin has no credentials", http.Header{"Access-Control-Allow-Origin": {"*"}, "Access-Control-Allow-Credentials": {"true"}},
			"Access-Control-Allow-Origin: *\nAccess-Control-Allow-Credentials:\nVary:"},
		{"none", nil, "Access-Control-Allow-Origin:"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorldFor(t, byHeader{}, rights{}, &Options{Headers: test.headers})
			asked := preflight
			asked.answer = test.answer
			w.run(asked, exchange{do: "GET /v2/", header: "Origin: https://ui.test", want: 403, answer: test.answer})
		})
	}
}

// A lister counts how often a store is asked for a listing.
type lister struct {
	storage.Driver
	asked int
}

func (l *lister) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	l.asked++
	return l.Driver.List(ctx, prefix, after)
}

// TestCatalogOfFew: who may pull from one of many repositories costs the store few calls.
func TestCatalogOfFew(t *testing.T) {
	store := &lister{Driver: memory.New()}
	reg, err := registry.Open(t.Context(), store, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5000 {
		key := fmt.Sprintf("catalog/r%04d!", i)
		if _, err := store.Put(t.Context(), key, strings.NewReader("{}\n"), 3, storage.Absent()); err != nil {
			t.Fatal(err)
		}
	}
	a, err := New(reg, byHeader{}, rights{"ann list ": true, "ann pull r0001": true, "ann pull r4999": true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, handler: a}
	w.run(
		exchange{do: "GET /v2/_catalog", header: "User: ann", want: 200, content: "{\"repositories\":[\"r0001\",\"r4999\"]}\n", answer: "Link:"},
		exchange{do: "GET /v2/_catalog?n=1", header: "User: ann", want: 200, content: "{\"repositories\":[\"r0001\"]}\n"},
		exchange{do: "GET /v2/_catalog?n=1&last=r0001", header: "User: ann", want: 200, content: "{\"repositories\":[\"r4999\"]}\n", answer: "Link:"},
	)
	if store.asked > 16 {
		t.Errorf("the store was asked %d times", store.asked)
	}
}
