package guard

import (
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"berth/auth"
	"berth/configuration"
	"berth/metrics"
)

func parse(t *testing.T, sections ...string) *configuration.Config {
	t.Helper()
	c, _, err := configuration.Parse("c.yml", []byte("version: 0.1\n"+strings.Join(sections, "")), nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func open(t *testing.T, c *configuration.Config) *Guard {
	t.Helper()
	g, err := Open(t.Context(), c, func(what metrics.Reloadable, source string, err error) {
		t.Errorf("%v of %s was reloaded: %v", what, source, err)
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

const (
	inMemory       = "storage: inmemory\n"
	everybodyPulls = "auth: {anonymous: [pull]}\n"
	everybodyPuts  = "auth: {anonymous: [pull, push]}\n"
	readOnly       = "storage: {inmemory: {}, maintenance: {readonly: {enabled: true}}}\n"
)

func may(t *testing.T, g *Guard, action auth.Action) error {
	t.Helper()
	s, err := g.Authenticator().Authenticate(httptest.NewRequest("GET", "/v2/", nil))
	if err != nil {
		t.Fatal(err)
	}
	return g.Authorizer().Authorize(t.Context(), s, auth.Access{Action: action, Repository: "a"})
}

// TestNobodyAsked tells a registry of which nothing was said from one that was opened to everybody.
func TestNobodyAsked(t *testing.T) {
	r := httptest.NewRequest("PUT", "/v2/a/manifests/v", nil)
	r.Header.Set("Origin", "http://evil.example")
	for sections, want := range map[string]error{inMemory: auth.ErrDenied, inMemory + "auth: none\n": nil, inMemory + everybodyPuts: nil} {
		if _, err := open(t, parse(t, sections)).Authenticator().Authenticate(r); !errors.Is(err, want) {
			t.Errorf("%s: %v", sections, err)
		}
	}
}

// TestApply has rules change while requests come, and refuses what needs a restart, of which nothing takes effect.
func TestApply(t *testing.T) {
	g := open(t, parse(t, inMemory, everybodyPulls))
	if err := may(t, g, auth.Pull); err != nil {
		t.Error(err)
	}
	if err := may(t, g, auth.Push); !errors.Is(err, auth.ErrDenied) {
		t.Errorf("a push is answered %v", err)
	}
	if err := g.Apply(parse(t, inMemory, everybodyPuts, "authorization: {immutabletags: [{tags: ['v*']}]}\n")); err != nil {
		t.Fatal(err)
	}
	if err := may(t, g, auth.Push); err != nil || !g.Immutable("a", "v1") || g.Immutable("a", "w1") {
		t.Errorf("the new rules are not in force: %v", err)
	}
	users := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(users, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, section := range []string{"auth: none\n", "auth: {anonymous: [pull], htpasswd: {path: " + users + "}}\n"} {
		c := parse(t, inMemory, section)
		for _, err := range []error{g.Check(c), g.Apply(c)} {
			var wrong *configuration.Error
			if !errors.As(err, &wrong) || wrong.Key != "auth" || wrong.Source != "c.yml:3" {
				t.Errorf("%s: %v", section, err)
			}
		}
	}
	if err := may(t, g, auth.Push); err != nil {
		t.Errorf("what was refused took effect: %v", err)
	}
}

// TestReadOnlyMode: a switch outlives a configuration that says what the last one said, and ends with one that says otherwise.
func TestReadOnlyMode(t *testing.T) {
	writable, stopped := parse(t, inMemory, everybodyPuts), parse(t, readOnly, everybodyPuts)
	g := open(t, writable)
	if mode, changed := g.SwitchReadOnly(true); !changed || mode != (ReadOnly{On: true}) {
		t.Errorf("switched to %+v, %t", mode, changed)
	}
	if err := may(t, g, auth.Push); !errors.Is(err, auth.ErrReadOnly) {
		t.Errorf("a push is answered %v", err)
	}
	for _, step := range []struct {
		c    *configuration.Config
		want ReadOnly
	}{
		{writable, ReadOnly{On: true}}, {stopped, ReadOnly{On: true, Configured: true}}, {writable, ReadOnly{}},
	} {
		if err := g.Apply(step.c); err != nil {
			t.Fatal(err)
		}
		if got := g.ReadOnlyMode(); got != step.want || g.ReadOnly() != step.want.On {
			t.Errorf("the mode is %+v, want %+v", got, step.want)
		}
	}
	if _, changed := g.SwitchReadOnly(false); changed {
		t.Error("it was off already")
	}
}

// TestDecide holds that an explanation says what the authorizer decides.
func TestDecide(t *testing.T) {
	bindings := "authorization: {bindings: [{subjects: ['user:ann'], roles: [registry-editor], repositories: ['team/**']}]}\n"
	for _, sections := range []string{
		inMemory + everybodyPulls + bindings, inMemory + "auth: none\n", inMemory + everybodyPulls, readOnly + everybodyPuts, readOnly + "auth: none\n", readOnly,
	} {
		c := parse(t, sections)
		g := open(t, c)
		for _, s := range []auth.Subject{{}, {Name: "ann"}, {Name: "bob"}} {
			for _, want := range []auth.Access{{Action: auth.Pull, Repository: "team/a"}, {Action: auth.Push, Repository: "team/a"}, {Action: auth.Delete, Repository: "b"}} {
				decision, err := Decide(c, s, want)
				if err != nil || strings.TrimSpace(decision.Reason) == "" {
					t.Fatalf("%+v: %v", decision, err)
				}
				if err := g.Authorizer().Authorize(t.Context(), s, want); (err == nil) != decision.Allowed {
					t.Errorf("%s %q %v: decided %+v, answered %v", sections, s.Name, want, decision, err)
				}
			}
		}
	}
}

// TestGroupsMended breaks the file of groups, mends it, and reloads at once: that the groups are in force again is told by the
// reload, since nobody looks at the file by what said otherwise.
func TestGroupsMended(t *testing.T) {
	file := filepath.Join(t.TempDir(), "groups.yml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("team: [ann]\n")
	c := parse(t, inMemory, everybodyPuts, "authorization: {groupsfile: "+file+"}\n")
	var told []error
	g, err := Open(t.Context(), c, func(_ metrics.Reloadable, _ string, err error) { told = append(told, err) })
	if err != nil {
		t.Fatal(err)
	}
	write("team: nobody\n")
	if err := g.Apply(c); err == nil || len(told) != 0 {
		t.Fatalf("a bad file: %v, and was told %v", err, told)
	}
	write("team: [bob]\n")
	if err := g.Apply(c); err != nil || len(told) != 1 || told[0] != nil {
		t.Fatalf("a good file: %v, and was told %v", err, told)
	}
}
