package policy

import (
	"errors"
	"strings"
	"testing"
)

func TestImmutableTags(t *testing.T) {
	tags, err := NewImmutableTags(
		TagRule{Repositories: "**", Tags: []string{"v*", "release"}},
		TagRule{Repositories: "prod/**", Tags: []string{"*"}},
		TagRule{Repositories: "lib/x", Tags: []string{"*-final", "1.*.0"}},
	)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		repository, tag string
		want            bool
	}{
		{"a", "v1", true}, {"a/b", "v", true}, {"a", "V1", false}, {"a", "release", true}, {"a", "release2", false}, {"a", "latest", false},
		{"prod/x", "latest", true}, {"prod", "latest", false}, // no tag is exempt: CVE-2026-31801
		{"lib/x", "2-final", true}, {"lib/x", "1.2.3.0", true}, {"lib/x", "1.2.3", false}, {"lib/y", "2-final", false},
	} {
		if got := tags.Immutable(test.repository, test.tag); got != test.want {
			t.Errorf("%s:%s: got %t", test.repository, test.tag, got)
		}
	}
	var none *ImmutableTags
	if none.Immutable("a", "v1") {
		t.Error("nil has immutable tags")
	}
	for want, rule := range map[string]TagRule{
		"number 1 for immutable tags: a pattern for repositories": {Tags: []string{"v*"}},
		"number 1 for immutable tags: tags are required":          {Repositories: "**"},
		`the pattern "" for tags`:                                 {Repositories: "**", Tags: []string{""}},
		`the pattern "v[0-9]" for tags`:                           {Repositories: "**", Tags: []string{"v[0-9]"}},
	} {
		if _, err := NewImmutableTags(rule); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %s", err, want)
		}
	}
}

func TestNaming(t *testing.T) {
	for _, test := range []struct {
		n       Naming
		ok, not string
	}{
		{Naming{}, "a a/b a/b/c/d/e", ""},
		{Naming{MaxDepth: 2}, "a a/b", "a/b/c"},
		{Naming{ProjectName: true}, "a/b", "a a/b/c"},
		{Naming{ProjectName: true, MaxDepth: 1}, "", "a a/b"},
	} {
		for name := range strings.FieldsSeq(test.ok) {
			if err := test.n.Check(name); err != nil {
				t.Errorf("%+v: %v", test.n, err)
			}
		}
		for name := range strings.FieldsSeq(test.not) {
			if err := test.n.Check(name); !errors.Is(err, ErrNaming) {
				t.Errorf("%+v takes %s: %v", test.n, name, err)
			}
		}
	}
	if err := (Naming{ProjectName: true}).Check("a/b/c"); err == nil || !strings.Contains(err.Error(), "<project>/<name>") {
		t.Errorf("got %v, want an error that says why", err)
	}
}
