package policy

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"berth/auth"
	"berth/auth/reload"
)

func openGroups(t *testing.T, content string) (write func(string), groups *reload.File[*Groups]) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "groups.yml")
	write = func(content string) {
		t.Helper()
		if err := errors.Join(os.WriteFile(path+".new", []byte(content), 0o600), os.Rename(path+".new", path)); err != nil {
			t.Fatal(err)
		}
	}
	write(content)
	groups, err := OpenGroups(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return write, groups
}

func may(h *Holder, s auth.Subject, want string) bool {
	return h.Authorize(context.Background(), s, parse(want)) == nil
}

// TestCVE_2025_23208: lists of groups replace what was known before; they are never merged with it.
func TestCVE_2025_23208(t *testing.T) {
	write, groups := openGroups(t, "dev: [alice, bob]\nops: [alice]")
	h := NewHolder(compile(t, Config{Bindings: []Binding{
		bind("group:dev", "registry-editor", "dev/**"),
		bind("group:ops", "registry-editor", "ops/**"),
	}}), groups)
	alice := auth.Subject{Name: "alice"}
	if !may(h, alice, "push dev/x") || !may(h, alice, "push ops/x") {
		t.Fatal("alice may not push before")
	}
	write("dev: [bob]\nops: [alice]")
	groups.Refresh()
	if may(h, alice, "push dev/x") {
		t.Error("alice may push after she was taken out of the group")
	}
	if !may(h, alice, "push ops/x") || !may(h, auth.Subject{Name: "bob"}, "push dev/x") {
		t.Error("others lost what they may do")
	}
	// The groups that come with a request are of that request alone.
	if !may(h, auth.Subject{Name: "alice", Groups: []string{"dev"}}, "push dev/x") || may(h, alice, "push dev/x") {
		t.Error("the groups of one request are remembered for the next")
	}
	write("")
	groups.Refresh()
	if may(h, alice, "push ops/x") {
		t.Error("alice may push after all groups went")
	}
}

func TestReplacedPolicyHoldsAtOnce(t *testing.T) {
	write, groups := openGroups(t, "dev: [alice]")
	h := NewHolder(compile(t, Config{Bindings: []Binding{bind("group:dev", "registry-editor", "**")}}), groups)
	alice := auth.Subject{Name: "alice"}
	if !may(h, alice, "push x") {
		t.Fatal("alice may not push before")
	}
	h.Replace(compile(t, Config{Bindings: []Binding{bind("group:dev", "registry-viewer", "**")}}), groups)
	if may(h, alice, "push x") || !may(h, alice, "pull x") {
		t.Error("the new bindings are not in force")
	}
	write("dev: {}")
	groups.Refresh()
	if !may(h, alice, "pull x") {
		t.Error("a bad file of groups ended the last good state")
	}
	h.Replace(compile(t, Config{Bindings: []Binding{bind("user:bob", "registry-viewer", "**")}}), nil)
	if may(h, alice, "pull x") || !may(h, auth.Subject{Name: "bob"}, "pull x") {
		t.Error("the new bindings are not in force")
	}
}

// Whatever swaps under it, a request is judged by one whole policy: here each allows exactly one of two accesses.
func TestSwapUnderLoad(t *testing.T) {
	write, groups := openGroups(t, "dev: [alice]")
	policies := []*Policy{
		compile(t, Config{Bindings: []Binding{bind("group:dev", "registry-viewer", "a")}}),
		compile(t, Config{Bindings: []Binding{bind("group:dev", "registry-viewer", "b")}}),
	}
	h := NewHolder(policies[0], groups)
	alice := auth.Subject{Name: "alice"}
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 2000 {
				p := h.Policy()
				if p.Allowed(&alice, parse("pull a")) == p.Allowed(&alice, parse("pull b")) {
					t.Error("both or none allowed")
				}
			}
		})
	}
	for i := range 200 {
		h.Replace(policies[i%2], groups)
		write("# " + strings.Repeat("x", i) + "\ndev: [alice]")
		groups.Refresh()
	}
	group.Wait()
}

func TestParseGroups(t *testing.T) {
	g := groupsOf(t, "# groups\nops: [alice, \"007\", 7]\ndev:\n- alice\n- alice\nempty: []\nnone:\n")
	for user, want := range map[string]string{"alice": "dev,ops", "007": "ops", "7": "ops", "bob": ""} {
		if got := strings.Join(g.Of(user), ","); got != want {
			t.Errorf("%s is in %q, want %q", user, got, want)
		}
	}
	for _, empty := range []string{"", "# none\n", "---\n", "null", "{}"} {
		if len(groupsOf(t, empty).of) != 0 {
			t.Errorf("%q has groups", empty)
		}
	}
	for data, want := range map[string]string{
		"dev: [alice]\nops: bob":      "groups.yml:2: the group \"ops\" must be a list of users",
		"- dev":                       "groups.yml:1: it must be a mapping",
		"dev: [a]\nops: []\ndev: [b]": "groups.yml:3: the group \"dev\" is there already",
		"dev:\n- a\n- {b: c}":         "groups.yml:3: a user of the group \"dev\" must be text",
		"dev: [~]":                    "groups.yml:1: a user of the group \"dev\" must be text",
		"dev: [\"\"]":                 "groups.yml:1: a user of the group \"dev\" must be text",
		"? [a]\n: [b]":                "groups.yml:1: the name of a group must be text",
		"dev: [a":                     "groups.yml: yaml: line 1",
		"dev: [a]\n---\nops: [b]":     "groups.yml: there must be one document",
		"a: &x [b]\nc: *x":            "groups.yml:2: the group \"c\" must be a list of users",
	} {
		if _, err := ParseGroups("groups.yml", []byte(data)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", data, err, want)
		}
	}
}

func FuzzGroups(f *testing.F) {
	f.Add("dev: [alice]\nops:\n- bob")
	f.Add("a: &x [b]\nc: *x")
	f.Add("? [a]\n: [b]")
	f.Fuzz(func(t *testing.T, data string) {
		g, err := ParseGroups("f", []byte(data))
		if (g == nil) == (err == nil) {
			t.Errorf("got %v, %v", g, err)
		}
	})
}
