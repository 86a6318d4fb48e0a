package configuration

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestAdminSocket(t *testing.T) {
	for _, test := range []struct {
		text, path string
		configured bool
	}{
		{"storage: {filesystem: {rootdirectory: /r}}", "/r/admin/socket", false},
		{"storage: {emptydir: {rootdirectory: /r}}", "/r/admin/socket", false},
		{"storage: {filesystem: {rootdirectory: /r, shared: true}}", "", false},
		{"storage: inmemory", "", false},
		{"storage: inmemory\nhttp: {admin: {socket: ./s}}", "./s", true},
		{"storage: {filesystem: {}}\nhttp: {admin: {disabled: true}}", "", false},
	} {
		c := mustParse(t, "version: 0.1\n"+test.text)
		if path, configured := c.AdminSocket(); path != test.path || configured != test.configured {
			t.Errorf("%s: %q, %t", test.text, path, configured)
		}
	}
	for text, want := range map[string]string{
		"{socket: name}":               "http.admin.socket: must be the path of a socket",
		"{socket: /s, disabled: true}": "http.admin.socket: is given, but http.admin.disabled",
		"{sokcet: /s}":                 "the nearest is http.admin.socket",
		"{socket: \"/a\\0b\"}":         "http.admin.socket: must be the path of a socket",
	} {
		_, _, err := Parse("x", []byte("version: 0.1\nstorage: inmemory\nhttp: {admin: "+text+"}"), nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestDiff(t *testing.T) {
	const base = "version: 0.1\nstorage: {filesystem: {}}\nhttp: {secret: a-secret-of-32-characters-at-least}\nauth: {anonymous: [pull]}\n"
	for _, test := range []struct {
		other string
		want  []string
	}{
		{base, nil},
		{"# moved\n" + base, nil},
		{base + "log: {level: debug, fields: {a: b}}\n", []string{"log.level", "log.fields"}},
		{strings.Replace(base, "secret: a-", "secret: b-", 1), []string{"http.secret"}},
		{strings.Replace(base, "filesystem: {}", "filesystem: {lockwait: 1s}", 1), []string{"storage.filesystem.lockwait"}},
		{strings.Replace(base, "filesystem: {}", "inmemory: {}", 1), []string{"storage.filesystem", "storage.inmemory"}},
		{strings.Replace(base, "[pull]", "[pull, list]", 1), []string{"auth.anonymous"}},
		{base + "authorization: {bindings: [{subjects: [a], roles: [b]}], naming: {maxdepth: 2}}\n",
			[]string{"authorization.bindings", "authorization.naming.maxdepth"}},
	} {
		if got := Diff(mustParse(t, base), mustParse(t, test.other)); !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", test.other, got, test.want)
		}
	}
}

// TestLoadSections: what is wrong elsewhere does not matter, what is wrong in or around the sections does.
func TestLoadSections(t *testing.T) {
	const base = "version: 0.1\nstorage: {filesystem: {rootdirectory: /r}}\n"
	for text, want := range map[string]string{
		base: "",
		base + "lgo: {}\nlog: {level: loud}\nauth: {token: {}}\nhttp: {addr: x, tls: {clientauth: y}}\n": "",
		"storage: {filesystem: {rootdirectory: /r}}\n":                                                   "",
		base + "http: {admin: {sokcet: /s}}\n":                                                           "http.admin.sokcet",
		base + "http: []\n":                                                                              "http: must be a section",
		"version: 0.1\nstorage: {filesystem: {rootdirectory: ''}}\n":                                     "storage.filesystem.rootdirectory",
		"version: 0.1\n":              "storage: must have one of",
		"version: [":                  "file",
		"[]":                          "must be a section",
		strings.Repeat("a: b\n", 300): "twice",
	} {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := LoadSections(path, []string{"REGISTRY_LOG_LEVEL=silent"}, "storage", "http.admin")
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want %q", text, err, want)
		}
		if want == "" {
			if socket, _ := c.AdminSocket(); socket != "/r/admin/socket" {
				t.Errorf("%q: %s", text, socket)
			}
		}
	}
	if _, err := LoadSections(filepath.Join(t.TempDir(), "none"), nil); err == nil {
		t.Error("no file is no error")
	}
}
