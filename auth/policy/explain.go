package policy

import (
	"fmt"
	"strings"

	"berth/auth"
)

// A Decision is what a policy says to one access, and why.
type Decision struct {
	Allowed bool
	Binding int    // the binding that allows it, counted from 1; 0 when none had to or none does
	Role    string // of the binding
	Pattern string // of the binding
	Reason  string // a sentence
}

// Explain decides as [Policy.Allowed] does and tells why.
func (p *Policy) Explain(s auth.Subject, want auth.Access) Decision {
	enough := sufficient(want.Action)
	switch {
	case enough == 0:
		return Decision{Reason: fmt.Sprintf("there is no action %q that one could ask for", want.Action)}
	case !granted(&s, enough, want):
		return Decision{Reason: fmt.Sprintf("the token is scoped, and its scope has no %s for %s", want.Action, object(want))}
	case isEntry(want) && isAuthenticated(&s):
		return Decision{Allowed: true, Reason: "whoever is authenticated may enter the registry"}
	case !p.bound && isAuthenticated(&s):
		return Decision{Allowed: true, Reason: "there are no bindings, so that everybody who is authenticated may do everything"}
	}
	r := p.find(&s, enough, want)
	switch {
	case r == nil && !p.bound:
		return Decision{Reason: "anonymous may not, and there are no bindings"}
	case r == nil:
		return Decision{Reason: fmt.Sprintf("no binding gives %s the action %s on %s", p.who(&s), want.Action, object(want))}
	case r.binding == ofAnonymous:
		return Decision{Allowed: true, Pattern: r.pattern.text, Reason: "everybody may, by what is configured for anonymous"}
	}
	return Decision{
		Allowed: true, Binding: r.binding + 1, Role: r.role, Pattern: r.pattern.text,
		Reason: fmt.Sprintf("the binding number %d (%s) gives the role %s on %s", r.binding+1,
			strings.Join(p.bindings[r.binding].Subjects, ", "), r.role, r.pattern),
	}
}

// who names a subject with all that bindings could give something to.
func (p *Policy) who(s *auth.Subject) string {
	if s.Name == "" {
		return "anonymous"
	}
	names := []string{"user:" + s.Name}
	for _, groups := range [...][]string{s.Groups, p.members.of[s.Name]} {
		for _, g := range groups {
			names = append(names, "group:"+g)
		}
	}
	return strings.Join(append(names, "authenticated"), ", ")
}

func object(want auth.Access) string {
	if want.Repository == "" {
		return "the registry as a whole"
	}
	return want.Repository
}
