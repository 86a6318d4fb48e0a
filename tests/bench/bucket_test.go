package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// TestDelayedRequestsAreUnchanged holds that what a signature is over passes the delay as it was sent.
func TestDelayedRequestsAreUnchanged(t *testing.T) {
	var got string
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = strings.Join([]string{r.Method, r.Host, r.RequestURI, r.Header.Get("Authorization"), r.Header.Get("Accept-Encoding"),
			r.Header.Get("X-Forwarded-For"), string(body)}, " ")
		w.Header().Set("ETag", "1")
		w.WriteHeader(http.StatusPreconditionFailed)
	}))
	defer store.Close()
	address, err := url.Parse(store.URL)
	if err != nil {
		t.Fatal(err)
	}
	const delay = 5 * time.Millisecond
	slow := httptest.NewServer(delaying(address, delay))
	defer slow.Close()
	r, err := http.NewRequest(http.MethodPut, slow.URL+"/registry/a%2Fb/%252B?uploads&x=a%2Bb", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256")
	r.Header.Set("Accept-Encoding", "identity")
	began := time.Now()
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if took := time.Since(began); took < delay {
		t.Errorf("it took %v", took)
	}
	want := "PUT " + r.URL.Host + " /registry/a%2Fb/%252B?uploads&x=a%2Bb AWS4-HMAC-SHA256 identity  body"
	if got != want || response.StatusCode != http.StatusPreconditionFailed || response.Header.Get("ETag") != "1" {
		t.Errorf("%d: %q arrives, not %q", response.StatusCode, got, want)
	}
}

// TestTablesOfSections holds that a table has columns for the targets of its own operations, and a verdict on memory.
func TestTablesOfSections(t *testing.T) {
	outcomes := []outcome{
		{operation: operation{name: "a", bar: 1, against: floor}, results: map[string][]result{berth: {{rate: 2}}, floor: {{rate: 1}}}},
		{operation: operation{name: "b", section: bucketSection, bar: 3, against: peer, memory: 1},
			results: map[string][]result{berth: {{rate: 4, rss: 30}}, peer: {{rate: 1, rss: 20}}}},
	}
	var text strings.Builder
	for _, section := range []string{"", bucketSection} {
		if err := ratios(inSection(outcomes, section)).print(&text, true); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{
		"| operation | clients | berth/s | floor/s | berth/floor | bar |\n",
		"| operation | clients | berth/s | peer/s | berth/peer | bar |\n",
		"| ≥ 3 × docker-registry: yes; memory 1.50 < 1: **no** |\n",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is not in\n%s", want, &text)
		}
	}
}

// TestOperationsAreSelected holds that names tell operations apart, as -run does.
func TestOperationsAreSelected(t *testing.T) {
	seen := map[string]bool{}
	for _, op := range operations() {
		if seen[op.name] {
			t.Errorf("two operations are called %q", op.name)
		}
		seen[op.name] = true
	}
}
