package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"berth/auth"
	"berth/metrics"
	"berth/registry/health"
)

const secret = "a-long-random-secret"

// people knows ann, who may read metrics, and bob, who may not, by the password "pw".
type people struct{}

func (people) Authenticate(r *http.Request) (auth.Subject, error) {
	user, password, ok, err := auth.BasicCredentials(r)
	switch {
	case err != nil:
		return auth.Subject{}, err
	case !ok:
		if _, bearer, err := auth.BearerToken(r); bearer || err != nil {
			return auth.Subject{}, auth.ErrForeign
		}
		return auth.Subject{}, nil
	case user == "slow":
		return auth.Subject{}, auth.ErrUnavailable
	case password != "pw":
		return auth.Subject{}, auth.ErrCredentials
	}
	return auth.Subject{Name: user}, nil
}

func (people) Authorize(_ context.Context, s auth.Subject, want ...auth.Access) error {
	if s.Name == "ann" && len(want) == 1 && want[0] == (auth.Access{Action: auth.Metrics}) {
		return nil
	}
	return &auth.DeniedError{}
}

func TestScrape(t *testing.T) {
	basic := func(user, password string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	}
	figures := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "figures") })
	for _, test := range []struct {
		name, secret, method, credentials string
		status                            int
		outcome                           string
	}{
		{"the secret as a password", secret, "GET", basic("any", secret), 200, "authenticated"},
		{"for any user", secret, "GET", basic("", secret), 200, "authenticated"},
		{"as a token", secret, "GET", "Bearer " + secret, 200, "authenticated"},
		{"HEAD", secret, "HEAD", "Bearer " + secret, 200, "authenticated"},
		{"nothing", secret, "GET", "", 401, "denied"},
		{"as a user name", secret, "GET", basic(secret, ""), 401, "bad_credentials"},
		{"too short", secret, "GET", "Bearer " + secret[1:], 401, "bad_credentials"},
		{"too long", secret, "GET", "Bearer " + secret + "x", 401, "bad_credentials"},
		{"another scheme", secret, "GET", "Digest " + secret, 401, "denied"},
		{"malformed", secret, "GET", "Basic %", 401, "bad_credentials"},
		{"no secret is configured", "", "GET", basic("any", ""), 401, "bad_credentials"},
		{"an empty token", "", "GET", "Bearer ", 401, "bad_credentials"},
		{"the right", "", "GET", basic("ann", "pw"), 200, "authenticated"},
		{"the right beside a secret", secret, "GET", basic("ann", "pw"), 200, "authenticated"},
		{"without the right", secret, "GET", basic("bob", "pw"), 401, "denied"},
		{"a wrong password", secret, "GET", basic("ann", "x"), 401, "bad_credentials"},
		{"no answer from who knows", secret, "GET", basic("slow", "x"), 503, "unavailable"},
		{"another method", secret, "POST", "Bearer " + secret, 405, "unasked"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := metrics.New(metrics.Options{})
			s := New(http.NotFoundHandler(), Options{Log: quietLog(), Metrics: m, Prefix: "/r/",
				Scrape: Scrape(figures, ScrapeOptions{Secret: test.secret, Authenticator: people{}, Authorizer: people{}, Realm: "R"})})
			r := httptest.NewRequest(test.method, "/r/extensions/v2/metrics", nil)
			if test.credentials != "" {
				r.Header.Set("Authorization", test.credentials)
			}
			answer := httptest.NewRecorder()
			s.http.Handler.ServeHTTP(answer, r)
			if answer.Code != test.status || strings.Contains(answer.Body.String(), "figures") != (test.status == 200) {
				t.Errorf("answered %d %s", answer.Code, answer.Body)
			}
			if challenge := answer.Header().Get("WWW-Authenticate"); (challenge == `Basic realm="R"`) != (test.status == 401) {
				t.Errorf("the challenge is %q", challenge)
			}
			page := httptest.NewRecorder()
			m.Handler().ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/", nil))
			if !strings.Contains(page.Body.String(), `berth_auth_requests_total{outcome="`+test.outcome+`"} 1`) {
				t.Errorf("counted as %s", page.Body)
			}
		})
	}
}

// certified takes everybody for bob, as one that goes by certificates does.
type certified struct{ people }

func (certified) Authenticate(*http.Request) (auth.Subject, error) {
	return auth.Subject{Name: "bob"}, nil
}

// TestScrapeBesideCertificate: a certificate that names somebody who may not read metrics takes nothing from who has the secret.
func TestScrapeBesideCertificate(t *testing.T) {
	figures := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "figures") })
	s := New(http.NotFoundHandler(), Options{Log: quietLog(), Scrape: Scrape(figures, ScrapeOptions{
		Secret: secret, Authenticator: certified{}, Authorizer: people{}, Realm: "R"})})
	for credentials, status := range map[string]int{"": 401, "Bearer " + secret: 200} {
		r := httptest.NewRequest("GET", "/extensions/v2/metrics", nil)
		r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{{}}}
		if credentials != "" {
			r.Header.Set("Authorization", credentials)
		}
		answer := httptest.NewRecorder()
		s.http.Handler.ServeHTTP(answer, r)
		if answer.Code != status {
			t.Errorf("%q is answered %d %s", credentials, answer.Code, answer.Body)
		}
	}
}

// TestGuessesAreSlowed: who guesses the secret waits longer each time, and who has it, also from there, does not.
func TestGuessesAreSlowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		figures := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
		h := Scrape(figures, ScrapeOptions{Secret: secret, Authenticator: people{}, Authorizer: people{}, Realm: "R"})
		ask := func(address, user, password string) (status int, took time.Duration) {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.RemoteAddr = address
			r.SetBasicAuth(user, password)
			began, answer := time.Now(), httptest.NewRecorder()
			h.ServeHTTP(answer, r)
			return answer.Code, time.Since(began)
		}
		want := func(what, address, user, password string, status int, least, most time.Duration) {
			t.Helper()
			if got, took := ask(address, user, password); got != status || took < least || took > most {
				t.Errorf("%s is answered %d after %v, want %d after %v to %v", what, got, took, status, least, most)
			}
		}
		want("the secret", "192.0.2.1:1", "prometheus", secret, 200, 0, 0)
		for i := range 10 {
			ask("192.0.2.1:2", fmt.Sprint("any", i), fmt.Sprint("guess", i)) // with another name, and from another port
			ask("192.0.2.1:2", "ann", "pw")
		}
		want("another guess", "192.0.2.1:3", "any", "guess", 401, 4*time.Second, 6*time.Second)
		want("the secret from there", "192.0.2.1:4", "prometheus", secret, 200, 0, 0)
		want("a user from there", "192.0.2.1:5", "ann", "pw", 200, 0, 0)
		want("the secret from elsewhere", "192.0.2.2:1", "another", secret, 200, 0, 0)

		var all sync.WaitGroup
		var turned atomic.Int32
		for range 50 {
			all.Go(func() {
				if status, _ := ask("192.0.2.1:6", "any", "guess"); status == http.StatusTooManyRequests {
					turned.Add(1)
				}
			})
		}
		all.Wait()
		if turned.Load() < 40 {
			t.Errorf("of 50 guesses at once %d were turned away", turned.Load())
		}
	})
}

func TestNoScrape(t *testing.T) {
	s := New(http.NotFoundHandler(), Options{Log: quietLog()})
	answer := httptest.NewRecorder()
	s.http.Handler.ServeHTTP(answer, httptest.NewRequest("GET", "/extensions/v2/metrics", nil))
	if answer.Code != 404 {
		t.Errorf("metrics that are off answered %d", answer.Code)
	}
}

func TestDebug(t *testing.T) {
	figures := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "figures") })
	found := health.New(quietLog(), nil)
	for _, test := range []struct {
		method, path, from, host string
		status                   int
		body                     string
	}{
		{"GET", "/figures", "192.0.2.1:9", "r.example", 200, "figures"},
		{"POST", "/figures", "127.0.0.1:9", "localhost", 405, ""},
		{"GET", "/metrics", "127.0.0.1:9", "localhost", 404, ""},
		{"GET", "/", "127.0.0.1:9", "localhost", 404, ""},
		{"GET", "/debug/health", "192.0.2.1:9", "r.example", 200, `{"ready":true,"writable":true,"reasons":[]}`},
		{"POST", "/debug/health", "127.0.0.1:9", "localhost", 405, ""},
		{"GET", "/debug/pprof/", "127.0.0.1:9", "localhost:5001", 200, "goroutine"},
		{"GET", "/debug/pprof/cmdline", "[::1]:9", "[::1]:5001", 200, "test"},
		{"GET", "/debug/pprof/goroutine", "[::ffff:127.0.0.1]:9", "127.0.0.1", 200, ""},
		{"POST", "/debug/pprof/symbol", "127.0.0.1:9", "127.0.0.1", 200, ""},
		{"POST", "/debug/pprof/heap", "127.0.0.1:9", "127.0.0.1", 405, ""},
		{"GET", "/debug/pprof/heap", "192.0.2.1:9", "localhost", 403, ""},
		{"GET", "/debug/pprof/heap", "127.0.0.1:9", "rebound.example", 403, ""},
		{"GET", "/debug/pprof/heap", "@", "localhost", 403, ""},
	} {
		r := httptest.NewRequest(test.method, test.path, nil)
		r.RemoteAddr, r.Host = test.from, test.host
		answer := httptest.NewRecorder()
		Debug("/figures", figures, found).ServeHTTP(answer, r)
		if answer.Code != test.status || !strings.Contains(answer.Body.String(), test.body) {
			t.Errorf("%s %s from %s to %s: %d %.80s", test.method, test.path, test.from, test.host, answer.Code, answer.Body)
		}
	}
	found.Stopping()
	answer := httptest.NewRecorder()
	Debug("", nil, found).ServeHTTP(answer, httptest.NewRequest("GET", "/debug/health", nil))
	if answer.Code != http.StatusServiceUnavailable || !strings.Contains(answer.Body.String(), "the server is stopping") {
		t.Errorf("while stopping, health is %d %s", answer.Code, answer.Body)
	}
}

func TestServeDebug(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { ServeDebug(l, Debug("", nil, health.New(quietLog(), nil)), quietLog())(ctx); close(done) }()
	url := "http://" + l.Addr().String()
	response, err := http.Get(url + "/debug/pprof/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response, err = http.Get(url + "/metrics"); err != nil || response.StatusCode != 404 {
		t.Errorf("metrics that are off: %v, %v", response, err)
	}
	response.Body.Close()
	stop()
	<-done
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil || errors.Is(err, io.EOF) {
		t.Error("it still listens")
	}
}
