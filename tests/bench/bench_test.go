package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"berth/tests/bench/wire"
)

func serve(t *testing.T, handler http.HandlerFunc) *server {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return &server{addr: s.Listener.Addr().String(), seeded: map[string]any{}}
}

func TestWrongAnswersFail(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/refused" {
			http.Error(w, "because", http.StatusTeapot)
			return
		}
		io.WriteString(w, "content")
	})
	err := alone(s, func(c *wire.Client) error {
		return c.Do(200, wire.Request{Method: "GET", Path: "/refused"}.Head(), nil, nil)
	})
	if err == nil || !strings.Contains(err.Error(), "because") {
		t.Errorf("a wrong status gives %v", err)
	}
	right := sample{path: "/", size: 7, digest: digestOf([]byte("content"))}
	long, other := right, right
	long.size, other.digest = 8, digestOf([]byte("contents"))
	for _, wrong := range []sample{long, other} {
		if err := alone(s, func(c *wire.Client) error { return check(c, wrong) }); err == nil {
			t.Errorf("check accepts %+v", wrong)
		}
	}
	if err := alone(s, func(c *wire.Client) error { return check(c, right) }); err != nil {
		t.Error(err)
	}
	if err := alone(s, requests("GET", []sample{long}, 0)); err == nil {
		t.Error("requests accept a wrong length")
	}
}

func TestSeriesDigests(t *testing.T) {
	body, seen := noise(5000, 1), map[string]bool{}
	for worker := range 3 {
		s := newSeries(body, worker)
		for range 3 {
			if err := s.next(); err != nil {
				t.Fatal(err)
			}
			content := append(bytes.Clone(s.body), s.tail...)
			if len(content) != s.size() || digestOf(content) != string(s.digest) {
				t.Fatalf("digest %s of other content", s.digest)
			}
			seen[string(s.digest)] = true
		}
	}
	if len(seen) != 9 {
		t.Errorf("%d different contents of 9", len(seen))
	}
}

func TestPushesOverTheAPI(t *testing.T) {
	blobs := map[string]int{}
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		digest := r.URL.Query().Get("digest")
		switch {
		case r.Method == "POST" && digest == "":
			w.Header().Set("Location", "http://bench/upload?state=1")
			w.WriteHeader(http.StatusAccepted)
			return
		case strings.Contains(r.URL.Path, "/manifests/"):
			for digest := range blobs {
				if !strings.Contains(string(body), digest) {
					t.Errorf("the manifest lacks %s: %s", digest, body)
				}
			}
		case digest != digestOf(body):
			t.Errorf("%s %s: the digest of the body is %s", r.Method, r.URL, digestOf(body))
		default:
			blobs[digest] = len(body)
		}
		w.WriteHeader(http.StatusCreated)
	})
	l, err := imagePush(s)
	if err != nil {
		t.Fatal(err)
	}
	push, err := l.worker(0)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		clear(blobs)
		if err := alone(s, push); err != nil {
			t.Fatal(err)
		}
		if len(blobs) != len(imageSizes) {
			t.Errorf("%d blobs", len(blobs))
		}
	}
	clear(blobs)
	if err := alone(s, newPusher("a", newSeries(noise(4032, 1), 1), true).push); err != nil || len(blobs) != 1 {
		t.Errorf("a single request: %v, %d blobs", err, len(blobs))
	}
}

func TestSummary(t *testing.T) {
	slow := &worker{took: []time.Duration{time.Second}, total: time.Second}
	fast := &worker{took: make([]time.Duration, 99), total: 500 * time.Millisecond}
	r := summarize([]*worker{slow, fast}, time.Second)
	if r.rate != 1+198 || r.p50 != 0 || r.p99 != time.Second || r.cpu != 10*time.Millisecond {
		t.Errorf("%+v", r)
	}
	o := outcome{
		operation: operation{bar: 0.5, against: floor},
		results:   map[string][]result{berth: {{rate: 1}, {rate: 4}, {rate: 9}}, floor: {{rate: 10}, {rate: 10}, {rate: 10}}},
	}
	if got := o.ratioCell(floor); got != "0.40 (0.10–0.90)" {
		t.Error(got)
	}
	if got := o.verdict(); !strings.HasSuffix(got, "**no**") {
		t.Error(got)
	}
	o.results[floor] = o.results[floor][:1]
	if got := o.ratioCell(floor); got != "–" {
		t.Errorf("rounds that are missing give %s", got)
	}
}

func TestRepeatEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	w := &worker{step: func(*wire.Client) error { cancel(); return nil }}
	if err := w.repeat(ctx, time.Hour); err == nil || len(w.took) != 1 {
		t.Errorf("%d operations after the end: %v", len(w.took), err)
	}
}
