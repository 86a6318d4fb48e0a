// Package policy authorises by bindings: subjects have roles on repositories. What no binding allows is denied.
//
// What anonymous may do, everybody may. A subject with grants, that of a scoped token, may do what its grants and the
// bindings both allow: a token narrows what its owner may do and never widens it, so that taking a binding away takes
// effect for tokens that are out already. Without bindings every authenticated subject may do everything, within its
// grants if it has some; a token without a name counts as authenticated then, since whoever issues tokens vouched for it.
//
// Accesses without a repository are about the registry as a whole. To pull there is to be let in: who is authenticated or
// may do anything at all is. To list there is to ask for the catalog, which shows only what one may pull: who may list
// anywhere may ask. Everything else takes a binding for "**".
package policy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"berth/auth"
)

// A Config is what is configured.
type Config struct {
	Roles    map[string][]auth.Action // own roles; see [auth.Action]
	Bindings []Binding
	// Anonymous is what everybody may do on every repository, without bindings too.
	Anonymous []auth.Action
}

// A Binding gives every one of its subjects every one of its roles on every repository that one of its patterns matches.
type Binding struct {
	// Subjects are "user:NAME", "group:NAME", "authenticated" or "anonymous".
	Subjects []string
	// Roles are own ones or registry-viewer and system:image-puller (pull, list), registry-editor (pull, push, list),
	// system:image-pusher (pull, push), system:image-builder (pull and push in the projects that the patterns name: "team"
	// is "team/**"), system:image-pruner (delete, pull, list), registry-admin (everything), prometheus-scraper (metrics).
	Roles []string
	// Repositories are patterns; see [Pattern]. They are left out when the roles are about the registry as a whole, as
	// metrics are.
	Repositories []string
}

// A Policy says who may do what. It never changes; a [Holder] swaps one for another.
type Policy struct {
	bound         bool // there are bindings
	users         map[string][]rule
	groups        map[string][]rule
	authenticated []rule
	anonymous     []rule
	roles         map[string]role
	bindings      []Binding
	members       *Groups
}

var _ auth.Authorizer = (*Policy)(nil)

// A rule is a pattern of a binding with the actions of one of its roles.
type rule struct {
	pattern *Pattern
	actions actions
	binding int // in Config.Bindings; ofAnonymous for Config.Anonymous
	role    string
}

const ofAnonymous = -1

// New compiles a policy. Errors name the binding, counted from 1.
func New(c Config) (*Policy, error) {
	roles, err := parseRoles(c.Roles)
	if err != nil {
		return nil, err
	}
	p := &Policy{
		bound: len(c.Bindings) > 0, users: make(map[string][]rule), groups: make(map[string][]rule),
		roles: roles, bindings: c.Bindings, members: &Groups{},
	}
	if len(c.Anonymous) > 0 {
		set, err := parseActions(c.Anonymous)
		if err != nil {
			return nil, fmt.Errorf("anonymous: %w", err)
		}
		p.anonymous = append(p.anonymous, rule{&Pattern{text: "**", form: everything}, set, ofAnonymous, ""})
	}
	for i, b := range c.Bindings {
		if err := p.bind(i, b); err != nil {
			return nil, fmt.Errorf("the binding number %d: %w", i+1, err)
		}
	}
	return p, nil
}

func (p *Policy) bind(number int, b Binding) error {
	if len(b.Subjects) == 0 || len(b.Roles) == 0 {
		return errors.New("subjects and roles are required")
	}
	var rules []rule
	for _, name := range b.Roles {
		r, ok := p.roles[name]
		if !ok {
			return fmt.Errorf("there is no role %q", name)
		}
		more, err := r.on(b.Repositories, number)
		if err != nil {
			return fmt.Errorf("the role %q: %w", name, err)
		}
		rules = append(rules, more...)
	}
	for _, subject := range b.Subjects {
		if err := p.give(subject, rules); err != nil {
			return err
		}
	}
	return nil
}

// on returns the rules of a role on patterns.
func (r role) on(patterns []string, binding int) ([]rule, error) {
	if len(patterns) == 0 {
		if r.actions&^registryWide != 0 {
			return nil, errors.New(`repositories are required; "**" is all of them`)
		}
		patterns = []string{"**"}
	}
	var rules []rule
	for _, text := range patterns {
		if r.actions&^registryWide == 0 && text != "**" {
			return nil, fmt.Errorf(`it is about the registry as a whole, so that %q narrows nothing; leave it out or write "**"`, text)
		}
		if r.project && text != "**" && !strings.HasSuffix(text, "/**") {
			text += "/**"
		}
		pattern, err := ParsePattern(text)
		if err != nil {
			return nil, err
		}
		rules = append(rules, rule{pattern, r.actions, binding, r.name})
	}
	return rules, nil
}

func (p *Policy) give(subject string, rules []rule) error {
	kind, name, named := strings.Cut(subject, ":")
	switch {
	case subject == "anonymous":
		p.anonymous = append(p.anonymous, rules...)
	case subject == "authenticated":
		p.authenticated = append(p.authenticated, rules...)
	case kind == "user" && named && name != "":
		p.users[name] = append(p.users[name], rules...)
	case kind == "group" && named && name != "":
		p.groups[name] = append(p.groups[name], rules...)
	default:
		return fmt.Errorf(`the subject %q is none of "user:NAME", "group:NAME", "authenticated" and "anonymous"`, subject)
	}
	return nil
}

// With returns the policy with other groups in place of those it had.
func (p *Policy) With(groups *Groups) *Policy {
	q := *p
	q.members = groups
	return &q
}

// Authorize returns nil when s may do all of want, and otherwise an *[auth.DeniedError].
func (p *Policy) Authorize(_ context.Context, s auth.Subject, want ...auth.Access) error {
	for _, a := range want {
		if !p.Allowed(&s, a) {
			return p.denied(s, want, a)
		}
	}
	return nil
}

// denied copies what it keeps, so that an Authorize that allows does not allocate.
func (p *Policy) denied(s auth.Subject, want []auth.Access, missing auth.Access) error {
	enough := sufficient(missing.Action)
	return &auth.DeniedError{
		Subject: s, Want: slices.Clone(want), Missing: missing,
		Scoped: p.permits(&s, enough, missing) && !granted(&s, enough, missing),
	}
}

// Allowed reports whether s may do what it wants. It does not allocate: listings ask it for every repository.
func (p *Policy) Allowed(s *auth.Subject, want auth.Access) bool {
	enough := sufficient(want.Action)
	return granted(s, enough, want) && p.permits(s, enough, want)
}

// MayMoveTags reports whether s may move a tag of a repository to another manifest. Who pushes and may not, may only
// create tags: the registry must see to that on every way to write one.
func (p *Policy) MayMoveTags(s *auth.Subject, repository string) bool {
	want := auth.Access{Action: auth.Push, Repository: repository}
	return granted(s, push, want) && p.permits(s, push, want)
}

// permits leaves grants aside.
func (p *Policy) permits(s *auth.Subject, enough actions, want auth.Access) bool {
	if enough == 0 {
		return false
	}
	if isEntry(want) && isAuthenticated(s) || !p.bound && isAuthenticated(s) {
		return true
	}
	return p.find(s, enough, want) != nil
}

func isAuthenticated(s *auth.Subject) bool { return s.Name != "" || s.Grants != nil }

// isEntry reports whether to be let in is all that is wanted.
func isEntry(want auth.Access) bool { return want == auth.Access{Action: auth.Pull} }

// granted reports whether the grants of s, if it has some, have one of enough.
func granted(s *auth.Subject, enough actions, want auth.Access) bool {
	if s.Grants == nil || isEntry(want) {
		return true
	}
	for _, g := range s.Grants {
		if g.Repository == want.Repository && setOf(g.Action)&enough != 0 {
			return true
		}
	}
	return false
}

// find returns a rule that gives s one of enough; nil when none does.
func (p *Policy) find(s *auth.Subject, enough actions, want auth.Access) *rule {
	if r := first(p.anonymous, enough, want); r != nil || s.Name == "" {
		return r
	}
	if r := first(p.users[s.Name], enough, want); r != nil {
		return r
	}
	for _, groups := range [...][]string{s.Groups, p.members.of[s.Name]} {
		for _, g := range groups {
			if r := first(p.groups[g], enough, want); r != nil {
				return r
			}
		}
	}
	return first(p.authenticated, enough, want)
}

func first(rules []rule, enough actions, want auth.Access) *rule {
	if isEntry(want) && len(rules) > 0 {
		return &rules[0] // whoever may do anything is let in
	}
	for i := range rules {
		if r := &rules[i]; r.actions&enough != 0 && r.covers(want) {
			return r
		}
	}
	return nil
}

// covers reports whether a rule that gives an action gives it on what is wanted.
func (r *rule) covers(want auth.Access) bool {
	if want.Repository != "" {
		return r.pattern.Match(want.Repository)
	}
	return want.Action == auth.List || r.pattern.form == everything
}
