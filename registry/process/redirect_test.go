package process

import (
	"context"
	"net/http"
	"testing"
	"time"

	"berth/configuration"
	"berth/storage"
	"berth/storage/memory"
)

// signing is a storage that has URLs.
type signing struct{ storage.Driver }

func (signing) SignedURL(context.Context, string, time.Duration) (string, error) {
	return "https://x", nil
}

func TestRedirects(t *testing.T) {
	rules := configuration.Redirect{Except: []configuration.RedirectException{
		{Networks: []string{"10.0.0.0/8", "fd00::/8"}},
		{Networks: []string{"192.0.2.0/24"}, UserAgents: []string{"^old/", "^older/"}},
		{UserAgents: []string{"^curl/"}},
	}}
	store := signing{memory.New()}
	may, err := redirects(rules, store)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		address, userAgent string
		want               bool
	}{
		{"10.1.2.3:1", "docker/28", false},
		{"[::ffff:10.1.2.3]:1", "docker/28", false},
		{"[fd00::1%eth0]:1", "", false},
		{"192.0.2.7:1", "older/1", false},
		{"192.0.2.7:1", "docker/28", true},
		{"198.51.100.1:1", "old/1", true},
		{"198.51.100.1:1", "curl/8", false},
		{"@", "", true},
	} {
		r := &http.Request{RemoteAddr: test.address, Header: http.Header{"User-Agent": {test.userAgent}}}
		if got := may(r); got != test.want {
			t.Errorf("%s with %q is sent: %t", test.address, test.userAgent, got)
		}
	}
	for _, none := range []struct {
		rules configuration.Redirect
		store storage.Driver
	}{{configuration.Redirect{Disable: true}, store}, {configuration.Redirect{}, memory.New()}} {
		if may, err := redirects(none.rules, none.store); may != nil || err != nil {
			t.Errorf("%+v: somebody is sent, %v", none, err)
		}
	}
}
