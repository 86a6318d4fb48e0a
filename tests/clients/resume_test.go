package clients

import (
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"berth/tests/content"
	"berth/tests/harness"
)

// cutAfter is how far the first transfer of a large blob gets.
const cutAfter = 3 << 20

var errCut = errors.New("cut by the test")

// A severed is a way to a registry on which the first large body in either direction breaks off in the middle, with its
// connection.
type severed struct {
	*httptest.Server

	mu       sync.Mutex
	cuts     int
	requests []string // since the cut: method, and what tells where it goes on
}

// sever makes a severed way, which ends with the test.
func sever(t *testing.T, s *harness.Server) *severed {
	t.Helper()
	base, err := url.Parse(s.Base)
	must(t, err)
	v := &severed{}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(base)
			r.Out.Host = r.In.Host
			v.note(r.In)
			if r.Out.Body != nil && r.In.Method != http.MethodPost {
				r.Out.Body = &cutBody{ReadCloser: r.Out.Body, way: v}
			}
		},
		ModifyResponse: func(r *http.Response) error {
			if strings.Contains(r.Request.URL.Path, "/blobs/") {
				r.Body = &cutBody{ReadCloser: r.Body, way: v}
			}
			return nil
		},
		ErrorLog:     log.New(io.Discard, "", 0), // it would tell of our own cut
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	v.Server = httptest.NewServer(proxy)
	t.Cleanup(v.Close)
	return v
}

// addr is the host and port of the way.
func (v *severed) addr() string { return v.Listener.Addr().String() }

func (v *severed) note(r *http.Request) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.cuts > 0 {
		v.requests = append(v.requests, r.Method+" "+r.URL.Path+" "+r.Header.Get("Range")+r.Header.Get("Content-Range"))
	}
}

// A cutBody breaks off after cutAfter bytes, if it is the first that gets there.
type cutBody struct {
	io.ReadCloser
	way  *severed
	read int
}

func (b *cutBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.read += n; b.read < cutAfter {
		return n, err
	}
	b.way.mu.Lock()
	defer b.way.mu.Unlock()
	if b.way.cuts > 0 {
		return n, err
	}
	b.way.cuts++
	return n, errCut
}

// after returns the requests that came after the cut, and fails the test if there was none.
func (v *severed) after(t *testing.T) []string {
	t.Helper()
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.cuts == 0 {
		t.Fatal("nothing was cut")
	}
	return v.requests
}

// TestResumePull cuts a layer in the middle, and asks of the clients that can to fetch only what they lack.
func TestResumePull(t *testing.T) {
	image := content.Algorithm(content.Digest).Image("resume", content.AMD64(), []int{12 << 20}, nil)
	rest := regexp.MustCompile(`^GET /v2/team/app/blobs/\S+ bytes=3\d{6}-`)
	for name, pull := range map[string]func(t *testing.T, ref string){
		"docker": func(t *testing.T, ref string) { docker(t).run("pull", ref) },
		"ctr": func(t *testing.T, ref string) {
			ctr := ctr(t)
			ctr.run("images", "pull", "--plain-http", ref)
			ctr.run("images", "check", "--quiet")
		},
		"regctl": func(t *testing.T, ref string) {
			dir := t.TempDir()
			isolated(t, "regctl").run(overHTTP(ref, "image", "copy", ref, "ocidir://"+dir+":x")...)
			sameLayout(t, dir, image)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t)
			push(t, s, "team/app", image, "v1")
			v := sever(t, s)
			pull(t, v.addr()+"/team/app:v1")
			if seen := v.after(t); !slices.ContainsFunc(seen, rest.MatchString) {
				t.Errorf("what was asked for after the cut is %q", seen)
			}
		})
	}
}

// TestResumePush cuts the upload of a layer in the middle. regctl goes on where the registry has it, docker and crane begin
// anew by themselves.
func TestResumePush(t *testing.T) {
	image := content.Algorithm(content.Digest).Image("resume", content.AMD64(), []int{12 << 20}, nil)
	local := layout(t, "x", image)
	partial := regexp.MustCompile(`^PATCH \S+ 3\d{6}-4999999$`) // the rest of the first chunk
	for name, push := range map[string]func(t *testing.T, v *severed, ref string){
		"docker": func(t *testing.T, _ *severed, ref string) {
			docker := docker(t)
			docker.run("build", "--tag", ref, buildContext(t, 12<<20))
			docker.run("push", ref)
		},
		"crane": func(t *testing.T, _ *severed, ref string) {
			installed(t, "crane").run("push", "--insecure", local, ref)
		},
		"regctl": func(t *testing.T, v *severed, ref string) {
			regctl := isolated(t, "regctl")
			regctl.run("registry", "set", "--skip-check", "--tls", "disabled", "--blob-max", "1000000", "--blob-chunk", "5000000", v.addr())
			regctl.run("image", "copy", "ocidir://"+local+":x", ref)
			if seen := v.after(t); !slices.ContainsFunc(seen, partial.MatchString) {
				t.Errorf("what was sent after the cut is %q", seen)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t)
			v := sever(t, s)
			push(t, v, v.addr()+"/team/app:v1")
			v.after(t)
			walk(t, s.Client, "team/app", "v1")
		})
	}
}

// overHTTP puts the flag that tells regctl of a registry without TLS before the arguments.
func overHTTP(ref string, args ...string) []string {
	host, _, _ := strings.Cut(ref, "/")
	return append([]string{"--host", "reg=" + host + ",tls=disabled"}, args...)
}
