package configuration

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"unicode"
)

func TestShow(t *testing.T) {
	c := mustParse(t, `version: 0.1
log:
  fields: {service: registry, "a b": "1"}
storage:
  filesystem:
    rootdirectory: /srv
http:
  host: https://registry.example.com
  secret: https://ann:a-secret@example.com/
  headers:
    X-A: [b, 'c: d']
validation:
  manifests:
    urls:
      allow:
        - ^https://
    indexes: {platforms: list, platformlist: [{architecture: amd64, os: linux}]}
health:
  http: [{uri: 'https://ann:a-secret@example.com/', headers: {Authorization: [https://ann:a-secret@example.com/]}}]
`, "REGISTRY_HTTP_ADDR=:5000", "REGISTRY_AUTH=none", "REGISTRY_HTTP_HEADERS_X-A_1=e")
	var out strings.Builder
	if err := c.Show(&out); err != nil {
		t.Fatal(err)
	}
	compareGolden(t, "testdata/show.yml", out.String())

	shown := mustParse(t, strings.ReplaceAll(out.String(), "'***'", "https://ann:a-secret@example.com/"))
	if !sameValues(c, shown) {
		t.Errorf("what is shown reads as %+v", shown)
	}
}

func TestSource(t *testing.T) {
	c := mustParse(t, onDisk, "REGISTRY_LOG_LEVEL=debug", "REGISTRY_STORAGE_EMPTYDIR_SIZELIMIT=1")
	for key, want := range map[string]string{
		"http.addr": "c.yml:8", "http.headers.X-Content-Type-Options[0]": "c.yml:9", "log.level": "REGISTRY_LOG_LEVEL",
		"http.net": "default", "storage.emptydir": "REGISTRY_STORAGE_EMPTYDIR_SIZELIMIT", "storage.filesystem": "default",
		"storage.delete.enabled": "c.yml:5", "storage.emptydir.rootdirectory": "default",
	} {
		if got := c.Source(key); got != want {
			t.Errorf("%s is from %s, want %s", key, got, want)
		}
	}
}

func sameValues(a, b *Config) bool {
	x, y := *a, *b
	x.sources, y.sources = nil, nil
	return reflect.DeepEqual(x, y)
}

// checkOutcome holds what is true of every outcome of parse.
func checkOutcome(t *testing.T, c *Config, warnings []Warning, err error) {
	t.Helper()
	if (c == nil) == (err == nil) {
		t.Fatalf("a configuration and an error, or neither: %v", err)
	}
	for _, w := range warnings {
		checkLine(t, w)
	}
	if err != nil {
		all := []error{err}
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			all = joined.Unwrap()
		}
		for _, err := range all {
			var one *Error
			if !errors.As(err, &one) {
				t.Fatalf("%v is not an Error", err)
			}
			checkLine(t, Warning(*one))
		}
		return
	}
	var out strings.Builder
	if err := c.Show(&out); err != nil {
		t.Fatal(err)
	}
	masked := strings.Replace(out.String(), "\n  secret: '***'", "\n  secret: '"+strings.Repeat("*", minSecret)+"'", 1)
	again, _, err := parse("shown.yml", []byte(masked), nil, nil)
	if err != nil {
		t.Fatalf("what is shown is refused: %v\n%s", err, out.String())
	}
	again.HTTP.Secret = c.HTTP.Secret
	if !sameValues(c, again) {
		t.Fatalf("what is shown is another configuration:\n%s", out.String())
	}
}

func checkLine(t *testing.T, w Warning) {
	t.Helper()
	if w.Source == "" || w.Text == "" {
		t.Fatalf("a source or a text is missing: %q", w)
	}
	if strings.ContainsFunc(w.String(), unicode.IsControl) {
		t.Fatalf("more than one line: %q", w)
	}
}

// FuzzParse takes a file. Whatever it is, each error is one line with a source, and what was accepted can be shown and
// read again.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		minimal, onDisk, "version: 0.1\nstorage: {filesystem: , s3: {a: b}}\nhttp: {tls: {certificate: x}, secret: y}",
		minimal + "log: &a {fields: *a}", minimal + "log: {fields: {? [a] : b, <<: {c: d}}}\nloglevel: [x]", "a: [", "--- x\n--- y",
		minimal + "http: {headers: {X: [\"a\\nb\"], y: &l [z], w: *l}}\nopenshift: {requests: [1]}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, warnings, err := parse("c.yml", data, nil, nil)
		checkOutcome(t, c, warnings, err)
	})
}
