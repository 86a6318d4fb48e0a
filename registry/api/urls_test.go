package api

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"berth/registry/observe"
)

func TestLocation(t *testing.T) {
	type header = map[string]string
	for _, test := range []struct {
		name     string
		host     string
		prefix   string
		relative bool
		tls      bool
		header   header
		want     string
	}{
		{name: "the request's host", want: "http://registry.test:5000/v2/a"},
		{name: "tls", tls: true, want: "https://registry.test:5000/v2/a"},
		{name: "relative", relative: true, header: header{"X-Forwarded-Host": "x.test"}, want: "/v2/a"},
		{name: "prefix", prefix: "/x/y/", want: "http://registry.test:5000/x/y/v2/a"},
		{name: "configured host", host: "https://reg.test:8443", header: header{"Forwarded": "host=x.test"}, want: "https://reg.test:8443/v2/a"},
		{name: "configured host and prefix", host: "https://reg.test", prefix: "p", header: header{"X-Forwarded-Prefix": "/q"}, want: "https://reg.test/q/p/v2/a"},
		{name: "proto and host", header: header{"X-Forwarded-Proto": "HTTPS", "X-Forwarded-Host": "x.test"}, want: "https://x.test/v2/a"},
		{name: "the first of several", header: header{"X-Forwarded-Host": "x.test, y.test", "X-Forwarded-Proto": "https,http"}, want: "https://x.test/v2/a"},
		{name: "port", header: header{"X-Forwarded-Host": "x.test", "X-Forwarded-Port": "8443"}, want: "http://x.test:8443/v2/a"},
		{name: "implied port", header: header{"X-Forwarded-Host": "x.test", "X-Forwarded-Port": "443", "X-Forwarded-Proto": "https"}, want: "https://x.test/v2/a"},
		{name: "port of an address", header: header{"X-Forwarded-Host": "[::1]", "X-Forwarded-Port": "81"}, want: "http://[::1]:81/v2/a"},
		{name: "the host has a port", header: header{"X-Forwarded-Host": "x.test:1", "X-Forwarded-Port": "2"}, want: "http://x.test:1/v2/a"},
		{name: "forwarded wins", header: header{"Forwarded": `for=1.2.3.4;Proto=https;host="x.test:9", host=y.test`, "X-Forwarded-Host": "z.test"}, want: "https://x.test:9/v2/a"},
		{name: "forwarded for, and no more", header: header{"Forwarded": "for=1.2.3.4", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "x.test"}, want: "https://x.test/v2/a"},
		{name: "forwarded proto", header: header{"Forwarded": "for=1.2.3.4;proto=https", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "x.test"}, want: "https://x.test/v2/a"},
		{name: "forwarded prefix", header: header{"X-Forwarded-Prefix": "/reg/"}, want: "http://registry.test:5000/reg/v2/a"},

		{name: "odd proto", header: header{"X-Forwarded-Proto": "javascript"}, want: "http://registry.test:5000/v2/a"},
		{name: "odd host", header: header{"X-Forwarded-Host": "x.test/evil"}, want: "http://registry.test:5000/v2/a"},
		{name: "user in host", header: header{"X-Forwarded-Host": "a@x.test"}, want: "http://registry.test:5000/v2/a"},
		{name: "line break", header: header{"X-Forwarded-Host": "x.test\r\nSet-Cookie: a"}, want: "http://registry.test:5000/v2/a"},
		{name: "odd port", header: header{"X-Forwarded-Host": "x.test", "X-Forwarded-Port": "1/evil"}, want: "http://x.test/v2/a"},
		{name: "odd prefix", header: header{"X-Forwarded-Prefix": "//evil.test"}, want: "http://registry.test:5000/v2/a"},
		{name: "a prefix of slashes", relative: true, header: header{"X-Forwarded-Prefix": "//"}, want: "/v2/a"},
		{name: "climbing prefix", header: header{"X-Forwarded-Prefix": "/../x"}, want: "http://registry.test:5000/v2/a"},
		{name: "odd forwarded", header: header{"Forwarded": `host="x.test/evil";proto=gopher`}, want: "http://registry.test:5000/v2/a"},
	} {
		t.Run(test.name, func(t *testing.T) {
			u, err := newURLs(test.host, test.prefix, test.relative)
			if err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequest(http.MethodPost, "http://registry.test:5000/v2/a/blobs/uploads/", nil)
			if test.tls {
				r.TLS = &tls.ConnectionState{}
			}
			for name, value := range test.header {
				r.Header.Set(name, value)
			}
			if got := u.location(r, "/v2/a"); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestLocationWithoutHost(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, "/v2/a/blobs/uploads/", nil)
	r.Host = ""
	if got, want := (&urls{}).location(r, "/v2/a"), "/v2/a"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestURLsRefused(t *testing.T) {
	for _, test := range [][2]string{{"reg.test", ""}, {"ftp://reg.test", ""}, {"https://", ""}, {"", "/a?b"}, {"", "/a/../b"}} {
		if _, err := newURLs(test[0], test[1], false); err == nil {
			t.Errorf("the host %q and the prefix %q are accepted", test[0], test[1])
		}
	}
}

// FuzzLink wants the Link to the next page to be one, whatever names and proxies there are: it leads to where the request
// went, on the same host, and says again all that the query has.
func FuzzLink(f *testing.F) {
	f.Add("", "v1", "", uint16(5))
	f.Add("/reg/", "a/b", "application/vnd.x+json", uint16(0))
	f.Add("//evil.test", `>; rel="prev"`, "a&n=9", uint16(1))
	f.Add("/a, /b", "\r\nSet-Cookie: a", "%", uint16(9))
	f.Add("//", "", "", uint16(9))
	f.Add("/..", "<>", "\x00\xff", uint16(9))
	form := regexp.MustCompile(`\A<(/[!-;=?-~]*)>; rel="next"\z`)
	f.Fuzz(func(t *testing.T, forwarded, last, artifactType string, n uint16) {
		a := &API{urls: urls{prefix: "/p"}}
		r := httptest.NewRequest(http.MethodGet, "http://registry.test/p/v2/a/b/tags/list", nil)
		r.Header["X-Forwarded-Prefix"] = []string{forwarded}
		w := httptest.NewRecorder()
		query := url.Values{"n": {itoa(int64(n))}, "last": {last}, "artifactType": {artifactType}}
		a.linkNext(&call{w: observe.Of(w, r), r: r}, query)
		m := form.FindStringSubmatch(w.Header().Get("Link"))
		if m == nil {
			t.Fatalf("the Link is %q", w.Header().Get("Link"))
		}
		next, err := r.URL.Parse(m[1])
		if err != nil || next.Host != "registry.test" || !strings.HasSuffix(next.Path, "/p/v2/a/b/tags/list") || !reflect.DeepEqual(next.Query(), query) {
			t.Errorf("%s leads to %v, %v", m[1], next, err)
		}
	})
}
