package policy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"berth/auth"
)

// compile makes a policy that must be right.
func compile(t testing.TB, c Config) *Policy {
	t.Helper()
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// parse reads "push a/b" or "list".
func parse(s string) auth.Access {
	action, repository, _ := strings.Cut(s, " ")
	return auth.Access{Action: auth.Action(action), Repository: repository}
}

func bind(subject, role string, repositories ...string) Binding {
	return Binding{Subjects: []string{subject}, Roles: []string{role}, Repositories: repositories}
}

func TestBuiltinRoles(t *testing.T) {
	all := []string{"pull", "push", "delete", "list", "admin", "metrics"}
	for name, want := range map[string]string{
		"registry-viewer":      "pull list",
		"system:image-puller":  "pull list",
		"registry-editor":      "pull push list",
		"system:image-pusher":  "pull push",
		"system:image-builder": "pull push",
		"system:image-pruner":  "pull delete list",
		"registry-admin":       "pull push delete list admin metrics",
		"prometheus-scraper":   "metrics",
	} {
		p := compile(t, Config{Bindings: []Binding{bind("user:alice", name, "**")}})
		for _, action := range all {
			object := auth.Access{Action: auth.Action(action), Repository: "team/app"}
			if action == "metrics" {
				object.Repository = ""
			}
			allowed := strings.Contains(" "+want+" ", " "+action+" ")
			if got := p.Allowed(&auth.Subject{Name: "alice"}, object); got != allowed {
				t.Errorf("%s may %s: %t", name, action, got)
			}
			if p.Allowed(&auth.Subject{Name: "bob"}, object) || p.Allowed(&auth.Subject{}, object) {
				t.Errorf("%s: others may %s", name, action)
			}
		}
	}
	if len(builtin()) != 8 {
		t.Errorf("there are %d built-in roles, of which this test knows 8", len(builtin()))
	}
}

func TestBindings(t *testing.T) {
	p := compile(t, Config{
		Roles: map[string][]auth.Action{"releaser": {auth.Pull, auth.PushNew}},
		Bindings: []Binding{
			bind("user:alice", "registry-editor", "team-a/**"),
			bind("group:dev", "registry-viewer", "team-a/**", "shared/base"),
			bind("group:dev", "system:image-builder", "sandbox"),
			bind("authenticated", "system:image-puller", "*/public"),
			bind("anonymous", "system:image-puller", "open/**"),
			bind("user:root", "registry-admin", "**"),
			bind("user:lead", "registry-admin", "team-a/**"),
			bind("user:prom", "prometheus-scraper"),
			bind("user:ci", "releaser", "team-a/**"),
			bind("user:system:serviceaccount:ns:sa", "registry-viewer", "ns/**"),
		},
	}).With(groupsOf(t, "dev: [dana]"))
	alice, root, lead := auth.Subject{Name: "alice"}, auth.Subject{Name: "root"}, auth.Subject{Name: "lead"}
	dev := auth.Subject{Name: "dave", Groups: []string{"x", "dev"}}
	dana := auth.Subject{Name: "dana"}
	other, nobody := auth.Subject{Name: "other"}, auth.Subject{}
	for _, test := range []struct {
		s           auth.Subject
		may, mayNot string
	}{
		{alice, "pull team-a/x,push team-a/x/y,pull a/public,pull open/x,pull,list", "push team-b/x,push team-a,delete team-a/x,push a/public,pull shared/base,admin,metrics,push,delete"},
		{dev, "pull team-a/x,pull shared/base,push sandbox/x,push sandbox/x/y,list", "push team-a/x,pull sandbox,pull shared/other"},
		{dana, "pull team-a/x,push sandbox/x", "push team-a/x"},
		{other, "pull a/public,pull open/x,pull,list", "pull team-a/x,pull a/b/public,metrics"},
		{nobody, "pull open/x/y,pull,list", "pull a/public,push open/x,pull team-a/x"},
		{root, "pull x,push x/y/z,delete x,list x,admin x,admin,metrics,push,delete,list,pull", "fly x,* x,fly"},
		{lead, "admin team-a/x,delete team-a/x,list", "admin,metrics,delete,admin team-b/x"},
		{auth.Subject{Name: "prom"}, "metrics,pull", "admin,push x,pull team-a/x"},
		{auth.Subject{Name: "ci"}, "push team-a/x,pull team-a/x,push-new team-a/x", "delete team-a/x,push team-b/x,list team-a/x"},
		{auth.Subject{Name: "system:serviceaccount:ns:sa"}, "pull ns/x", "pull other/x"},
		{auth.Subject{Name: "dev"}, "pull a/public", "pull team-a/x"},        // a user named as a group
		{auth.Subject{Name: "user:alice"}, "pull a/public", "pull team-a/x"}, // a user named as a subject
		{auth.Subject{Groups: []string{"dev"}}, "pull open/x", "pull team-a/x"},
	} {
		for want := range strings.SplitSeq(test.may, ",") {
			if !p.Allowed(&test.s, parse(want)) {
				t.Errorf("%+v may not %s", test.s, want)
			}
		}
		for want := range strings.SplitSeq(test.mayNot, ",") {
			if p.Allowed(&test.s, parse(want)) {
				t.Errorf("%+v may %s", test.s, want)
			}
		}
		for want := range strings.SplitSeq(test.may+","+test.mayNot, ",") {
			d := p.Explain(test.s, parse(want))
			if d.Allowed != p.Allowed(&test.s, parse(want)) || d.Reason == "" {
				t.Errorf("%+v, %s is explained by %+v", test.s, want, d)
			}
		}
	}
}

func groupsOf(t testing.TB, yaml string) *Groups {
	t.Helper()
	g, err := ParseGroups("groups.yml", []byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestWithoutBindings(t *testing.T) {
	closed := compile(t, Config{})
	open := compile(t, Config{Anonymous: []auth.Action{auth.Pull}})
	token := auth.Subject{Grants: []auth.Access{{Action: auth.Push, Repository: "a"}}}
	for _, test := range []struct {
		p    *Policy
		s    auth.Subject
		want string
		may  bool
	}{
		{closed, auth.Subject{Name: "alice"}, "delete a", true},
		{closed, auth.Subject{Name: "alice"}, "admin", true},
		{closed, auth.Subject{Name: "alice"}, "metrics", true},
		{closed, auth.Subject{Name: "alice"}, "fly", false},
		{closed, auth.Subject{}, "pull a", false},
		{closed, auth.Subject{}, "pull", false},
		{closed, auth.Subject{}, "list", false},
		{open, auth.Subject{}, "pull a", true},
		{open, auth.Subject{}, "pull", true},
		{open, auth.Subject{}, "push a", false},
		{open, auth.Subject{}, "list", false},
		{open, auth.Subject{Name: "alice"}, "push a", true},
		{closed, token, "push a", true},
		{closed, token, "pull", true},
		{closed, token, "pull a", false},
		{open, token, "pull a", false},
	} {
		if got := test.p.Allowed(&test.s, parse(test.want)); got != test.may {
			t.Errorf("%+v may %s: %t", test.s, test.want, got)
		}
		if d := test.p.Explain(test.s, parse(test.want)); d.Allowed != test.may || d.Reason == "" {
			t.Errorf("%+v, %s is explained by %+v", test.s, test.want, d)
		}
	}
}

// TestCVE_2025_68944: a token's scope is never dropped; and it never gives more than its owner has.
func TestCVE_2025_68944(t *testing.T) {
	p := compile(t, Config{Bindings: []Binding{
		bind("user:alice", "registry-editor", "team-a/**"),
		bind("anonymous", "system:image-puller", "open/**"),
	}})
	grants := func(s ...string) []auth.Access {
		out := []auth.Access{}
		for _, one := range s {
			out = append(out, parse(one))
		}
		return out
	}
	for _, test := range []struct {
		s    auth.Subject
		want string
		may  bool
	}{
		{auth.Subject{Name: "alice", Grants: grants("pull team-a/x")}, "pull team-a/x", true},
		{auth.Subject{Name: "alice", Grants: grants("pull team-a/x")}, "push team-a/x", false},
		{auth.Subject{Name: "alice", Grants: grants("pull team-a/x")}, "pull team-a/y", false},
		{auth.Subject{Name: "alice", Grants: grants("pull team-a/x")}, "pull", true},
		{auth.Subject{Name: "alice", Grants: grants("pull team-a/x")}, "list", false},
		{auth.Subject{Name: "alice", Grants: grants("list")}, "list", true},
		{auth.Subject{Name: "alice", Grants: grants("*")}, "list", true},
		{auth.Subject{Name: "alice", Grants: grants("*")}, "pull team-a/x", false},
		{auth.Subject{Name: "alice", Grants: grants("* team-a/x")}, "push team-a/x", true},
		{auth.Subject{Name: "alice", Grants: grants("* team-a/x")}, "delete team-a/x", false}, // not by the bindings
		{auth.Subject{Name: "alice", Grants: grants("push team-b/x")}, "push team-b/x", false},
		{auth.Subject{Name: "alice", Grants: grants()}, "pull team-a/x", false},
		{auth.Subject{Name: "alice", Grants: grants()}, "pull open/x", false},
		{auth.Subject{Grants: grants("pull open/x")}, "pull open/x", true},
		{auth.Subject{Grants: grants("pull team-a/x")}, "pull team-a/x", false},
	} {
		if got := p.Allowed(&test.s, parse(test.want)); got != test.may {
			t.Errorf("%+v may %s: %t", test.s, test.want, got)
		}
	}
}

func TestMayMoveTags(t *testing.T) {
	p := compile(t, Config{
		Roles: map[string][]auth.Action{"releaser": {auth.Pull, auth.PushNew}},
		Bindings: []Binding{
			bind("user:ci", "releaser", "**"),
			bind("user:ci", "registry-editor", "ci/**"),
			bind("user:alice", "registry-editor", "**"),
			bind("user:bob", "registry-viewer", "**"),
		},
	})
	free := compile(t, Config{Anonymous: []auth.Action{auth.PushNew}})
	for _, test := range []struct {
		p          *Policy
		s          auth.Subject
		repository string
		push, move bool
	}{
		{p, auth.Subject{Name: "ci"}, "team/app", true, false},
		{p, auth.Subject{Name: "ci"}, "ci/app", true, true},
		{p, auth.Subject{Name: "alice"}, "team/app", true, true},
		{p, auth.Subject{Name: "bob"}, "team/app", false, false},
		{p, auth.Subject{}, "team/app", false, false},
		{p, auth.Subject{Name: "alice", Grants: []auth.Access{{Action: auth.PushNew, Repository: "a"}}}, "a", true, false},
		{p, auth.Subject{Name: "alice", Grants: []auth.Access{{Action: auth.Push, Repository: "a"}}}, "a", true, true},
		{p, auth.Subject{Name: "ci", Grants: []auth.Access{{Action: auth.Every, Repository: "a"}}}, "a", true, false},
		{free, auth.Subject{}, "a", true, false},
		{free, auth.Subject{Name: "alice"}, "a", true, true},
	} {
		if got := test.p.Allowed(&test.s, auth.Access{Action: auth.Push, Repository: test.repository}); got != test.push {
			t.Errorf("%+v may push to %s: %t", test.s, test.repository, got)
		}
		if got := test.p.MayMoveTags(&test.s, test.repository); got != test.move {
			t.Errorf("%+v may move tags of %s: %t", test.s, test.repository, got)
		}
	}
}

func TestDeniedNamesWhatIsMissing(t *testing.T) {
	p := compile(t, Config{Bindings: []Binding{bind("user:alice", "registry-viewer", "a")}})
	want := []auth.Access{parse("pull a"), parse("push a")}
	err := p.Authorize(context.Background(), auth.Subject{Name: "alice"}, want...)
	var denied *auth.DeniedError
	if !errors.As(err, &denied) || !errors.Is(err, auth.ErrDenied) || denied.Missing != want[1] || len(denied.Want) != 2 || denied.Subject.Name != "alice" {
		t.Errorf("got %+v", err)
	}
	if err := p.Authorize(context.Background(), auth.Subject{Name: "alice"}, want[0]); err != nil {
		t.Error(err)
	}
}

func TestDeniedTellsWhetherAWiderTokenHelps(t *testing.T) {
	p := compile(t, Config{Bindings: []Binding{bind("user:alice", "registry-viewer", "a")}})
	scoped := []auth.Access{parse("pull b")}
	for _, test := range []struct {
		s    auth.Subject
		want string
		help bool
	}{
		{auth.Subject{Name: "alice", Grants: scoped}, "pull a", true},
		{auth.Subject{Name: "alice", Grants: []auth.Access{}}, "pull a", true},
		{auth.Subject{Name: "alice", Grants: scoped}, "push a", false},
		{auth.Subject{Name: "alice", Grants: scoped}, "pull b", false},
		{auth.Subject{Name: "alice"}, "push a", false},
		{auth.Subject{}, "pull a", false},
	} {
		var denied *auth.DeniedError
		if err := p.Authorize(context.Background(), test.s, parse(test.want)); !errors.As(err, &denied) || denied.Scoped != test.help {
			t.Errorf("%+v, %s: got %+v", test.s, test.want, denied)
		}
	}
}

func TestExplainNamesTheBinding(t *testing.T) {
	p := compile(t, Config{
		Anonymous: []auth.Action{auth.Pull},
		Bindings: []Binding{
			bind("user:alice", "registry-viewer", "a"),
			{Subjects: []string{"group:dev", "group:ops"}, Roles: []string{"registry-viewer", "registry-editor"}, Repositories: []string{"x", "team/**"}},
		},
	})
	s := auth.Subject{Name: "alice", Groups: []string{"dev"}}
	got := p.Explain(s, parse("push team/app"))
	want := Decision{true, 2, "registry-editor", "team/**", "the binding number 2 (group:dev, group:ops) gives the role registry-editor on team/**"}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := p.Explain(s, parse("delete team/app")); got.Allowed ||
		got.Reason != "no binding gives user:alice, group:dev, authenticated the action delete on team/app" {
		t.Errorf("got %+v", got)
	}
	if got := p.Explain(s, parse("pull z")); !got.Allowed || got.Binding != 0 || got.Pattern != "**" {
		t.Errorf("got %+v", got)
	}
}

func TestNewRefuses(t *testing.T) {
	for want, c := range map[string]Config{
		`the binding number 2: there is no role "viewer"`: {Bindings: []Binding{bind("anonymous", "registry-viewer", "**"), bind("anonymous", "viewer", "**")}},
		`the subject "alice" is none of`:                  {Bindings: []Binding{bind("alice", "registry-viewer", "**")}},
		`the subject "user:" is none of`:                  {Bindings: []Binding{bind("user:", "registry-viewer", "**")}},
		`the subject "anonymous:x" is none of`:            {Bindings: []Binding{bind("anonymous:x", "registry-viewer", "**")}},
		`repositories are required`:                       {Bindings: []Binding{bind("user:a", "registry-viewer")}},
		`subjects and roles are required`:                 {Bindings: []Binding{{Repositories: []string{"**"}}}},
		`the pattern "A" for repositories`:                {Bindings: []Binding{bind("user:a", "registry-viewer", "A")}},
		`"a/**" narrows nothing`:                          {Bindings: []Binding{bind("user:a", "prometheus-scraper", "a/**")}},
		`the role "registry-admin" is built in`:           {Roles: map[string][]auth.Action{"registry-admin": {auth.Pull}}},
		`the role "x": there is no action "fly"`:          {Roles: map[string][]auth.Action{"x": {"fly"}}},
		`the role "y": there is no action "*"`:            {Roles: map[string][]auth.Action{"y": {"*"}}},
		`the role "z": no actions`:                        {Roles: map[string][]auth.Action{"z": nil}},
		`"" is no name for a role`:                        {Roles: map[string][]auth.Action{"": {auth.Pull}}},
		`anonymous: there is no action "write"`:           {Anonymous: []auth.Action{"write"}},
	} {
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %s", err, want)
		}
	}
}

// hundred has a hundred bindings, the last of which decides.
func hundred(t testing.TB) (*Policy, auth.Subject, []auth.Access) {
	var bindings []Binding
	for i := range 99 {
		bindings = append(bindings, bind("authenticated", "registry-editor", fmt.Sprintf("team-%d/**", i)))
	}
	p := compile(t, Config{Bindings: append(bindings, bind("authenticated", "registry-editor", "*/app"))})
	s := auth.Subject{Name: "alice", Groups: []string{"a", "b", "c"}}
	return p, s, []auth.Access{parse("pull project/app"), parse("push project/app")}
}

func TestAuthorizeDoesNotAllocate(t *testing.T) {
	p, s, want := hundred(t)
	if n := testing.AllocsPerRun(100, func() {
		if p.Authorize(context.Background(), s, want...) != nil {
			t.Fail()
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAuthorize(b *testing.B) {
	p, s, want := hundred(b)
	b.ReportAllocs()
	for b.Loop() {
		if err := p.Authorize(context.Background(), s, want[:1]...); err != nil {
			b.Fatal(err)
		}
	}
}
