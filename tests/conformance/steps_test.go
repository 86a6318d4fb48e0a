package conformance

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"berth/tests/content"
	"berth/tests/harness"
)

// A trial is what a row is run with. Its repositories belong to the row alone, and keep what earlier runs left.
type trial struct {
	*testing.T
	client      *harness.Client
	repo, other string
	fresh       string // a repository that no run used before
}

// with returns the trial of a subtest.
func (x trial) with(t *testing.T) trial {
	x.T = t
	return x
}

const (
	sha256 = "sha256"
	sha512 = "sha512"
)

// algorithms are those a registry is to know.
var algorithms = map[string]content.Algorithm{sha256: content.Digest, sha512: content.Digest512}

// each runs a check by every algorithm.
func each(check func(trial, content.Algorithm)) func(trial) {
	return func(x trial) {
		for name, a := range algorithms {
			x.Run(name, func(t *testing.T) {
				check(x.with(t), a)
			})
		}
	}
}

// An option changes a call.
type option func(*harness.Call)

func body(b []byte) option   { return func(c *harness.Call) { c.Body = b } }
func stream(b []byte) option { return func(c *harness.Call) { c.Stream = bytes.NewReader(b) } }

func header(key string, values ...string) option {
	return func(c *harness.Call) { c.Header[http.CanonicalHeaderKey(key)] = values }
}

func query(key string, values ...string) option {
	return func(c *harness.Call) { c.Query[key] = values }
}

// octets is a body as blobs are sent.
func octets(b []byte) option {
	return func(c *harness.Call) {
		c.Body = b
		c.Header.Set("Content-Type", content.OctetStream)
	}
}

// chunk is a body that says where it belongs.
func chunk(b []byte, start int) option {
	return func(c *harness.Call) {
		octets(b)(c)
		c.Header.Set("Content-Range", fmt.Sprintf("%d-%d", start, start+len(b)-1))
	}
}

// do sends a request. A path that does not begin with a slash, and is no URL, is below the repository of the row.
func (x trial) do(method, path string, options ...option) answer {
	x.Helper()
	if !strings.HasPrefix(path, "/") && !strings.Contains(path, "://") {
		path = "/v2/" + x.repo + "/" + path
	}
	call := harness.Call{Method: method, Path: path, Header: http.Header{}, Query: url.Values{}}
	for _, o := range options {
		o(&call)
	}
	if len(call.Query) == 0 {
		call.Query = nil
	}
	r, err := x.client.Do(call)
	if err != nil {
		x.Fatal(err)
	}
	return answer{r, x.T}
}

// An answer is a reply that is held to expectations: the first that is not met ends the row.
type answer struct {
	*harness.Reply
	t *testing.T
}

func (a answer) is(statuses ...int) answer {
	a.t.Helper()
	if err := a.Want(statuses...); err != nil {
		a.t.Fatal(err)
	}
	return a
}

// has asks for a header with exactly one value.
func (a answer) has(key, value string) answer {
	a.t.Helper()
	if got := a.Header.Values(key); len(got) != 1 || got[0] != value {
		a.t.Fatalf("%s answered %s %q, not %q", a.Call, key, got, value)
	}
	return a
}

func (a answer) lacks(key string) answer {
	a.t.Helper()
	if got := a.Header.Values(key); len(got) != 0 {
		a.t.Fatalf("%s answered %s %q", a.Call, key, got)
	}
	return a
}

// carries asks for a body with its exact Content-Length.
func (a answer) carries(b []byte) answer {
	a.t.Helper()
	if !bytes.Equal(a.Body, b) {
		a.t.Fatalf("%s answered %d bytes that are not the %d expected", a.Call, len(a.Body), len(b))
	}
	return a.has("Content-Length", strconv.Itoa(len(b)))
}

// code asks for an error of the form the specification gives, with the code.
func (a answer) code(want string) answer {
	a.t.Helper()
	if !slices.Contains(a.Codes(), want) {
		a.t.Fatalf("%s answered %d %s: no error %s", a.Call, a.Status, a.Body, want)
	}
	return a
}

// located is the Location, which must be there.
func (a answer) located() string {
	a.t.Helper()
	location := a.Header.Get("Location")
	if location == "" {
		a.t.Fatalf("%s answered no Location", a.Call)
	}
	return location
}

// begin opens an upload session.
func (x trial) begin(options ...option) string {
	x.Helper()
	return x.do("POST", "blobs/uploads/", options...).is(202).located()
}

// closes ends an upload session with what is left.
func (x trial) closes(location, digest string, rest ...option) answer {
	x.Helper()
	return x.do("PUT", location, append(rest, query("digest", digest))...)
}

// stored asks that a reply made a blob: at its Location, and by digest.
func (x trial) stored(a answer, b content.Blob) {
	x.Helper()
	a.is(201).has("Docker-Content-Digest", b.Digest)
	x.do("GET", a.located()).is(200).carries(b.Bytes)
	x.do("GET", "blobs/"+b.Digest).is(200).carries(b.Bytes).has("Docker-Content-Digest", b.Digest)
	x.do("HEAD", "blobs/"+b.Digest).is(200).has("Content-Length", strconv.Itoa(len(b.Bytes))).has("Docker-Content-Digest", b.Digest)
}

// blob pushes a blob of its own to the repository of the row.
func (x trial) blob(a content.Algorithm, size int) content.Blob {
	x.Helper()
	b := a.Of(content.Random(x.repo+strconv.Itoa(size), size).Bytes)
	x.push(x.repo, content.Set{Blobs: []content.Blob{b}})
	return b
}

func (x trial) push(repo string, set content.Set, tags ...string) {
	x.Helper()
	if err := x.client.Push(repo, set, tags...); err != nil {
		x.Fatal(err)
	}
}

// image makes an image of the row's own.
func (x trial) image(a content.Algorithm, extra content.Fields) content.Set {
	return a.Image(x.repo, content.AMD64(), []int{500, 900}, extra)
}

// pushed pushes an image of the row's own.
func (x trial) pushed(tags ...string) content.Set {
	x.Helper()
	set := x.image(content.Digest, nil)
	x.push(x.repo, set, tags...)
	return set
}

// put puts a manifest.
func (x trial) put(reference string, m content.Manifest, options ...option) answer {
	x.Helper()
	options = append([]option{body(m.Bytes), header("Content-Type", m.MediaType)}, options...)
	return x.do("PUT", "manifests/"+reference, options...)
}

// serves asks that a manifest be served under a reference, exactly as it was pushed.
func (x trial) serves(reference string, m content.Manifest) {
	x.Helper()
	for _, method := range []string{"GET", "HEAD"} {
		a := x.do(method, "manifests/"+reference, header("Accept", content.ImageIndex, content.ImageManifest)).is(200)
		a.has("Content-Type", m.MediaType).has("Docker-Content-Digest", m.Digest).has("Content-Length", strconv.Itoa(len(m.Bytes)))
		if method == "GET" {
			a.carries(m.Bytes)
		}
	}
}
