package auth

import (
	"cmp"
	"errors"
	"slices"
	"strings"
)

// BasicChallenge returns the value of a WWW-Authenticate header that asks for a user name and a password (RFC 7617).
func BasicChallenge(realm string) string { return "Basic realm=" + quote(realm) }

// A BearerChallenge asks a client to fetch a token and come again, as the token authentication of the distribution
// project has it. Realm, the URL of the token server, is required; the other fields are left out when empty.
type BearerChallenge struct {
	Realm   string
	Service string
	Scope   string // see [Scope]
	Error   string // "invalid_token" or "insufficient_scope" (RFC 6750, section 3.1)
}

// For returns c with what a request lacks that was refused with an error, and that needs a token for the accesses.
func (c BearerChallenge) For(refused error, want ...Access) BearerChallenge {
	c.Scope = Scope(want...)
	denied := (*DeniedError)(nil)
	switch {
	case errors.As(refused, &denied) && denied.Scoped:
		c.Error = "insufficient_scope"
	case errors.Is(refused, ErrToken):
		c.Error = "invalid_token"
	}
	return c
}

// String returns the value of the WWW-Authenticate header.
func (c BearerChallenge) String() string {
	var b strings.Builder
	b.WriteString("Bearer realm=" + quote(c.Realm))
	for _, param := range [...][2]string{{"service", c.Service}, {"scope", c.Scope}, {"error", c.Error}} {
		if param[1] != "" {
			b.WriteString("," + param[0] + "=" + quote(param[1]))
		}
	}
	return b.String()
}

// quote returns s as a quoted-string (RFC 9110, section 5.6.4). What cannot stand in a header becomes a space.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c >= 0x7f:
			b.WriteByte(' ')
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// Scope returns the scopes that a token for the accesses needs, as token servers of the distribution project read them:
// "repository:a:pull,push repository:b:pull", one for each repository, in the order of names; the actions in the order
// pull, push, delete, then the others by name. Listing the registry is "registry:catalog:*". To pull from no repository
// in particular, which is to be let in at all, needs no scope. The order of the accesses does not matter.
func Scope(want ...Access) string {
	want = slices.DeleteFunc(slices.Clone(want), func(a Access) bool { return a == Access{Action: Pull} })
	slices.SortFunc(want, func(a, b Access) int {
		return cmp.Or(cmp.Compare(a.Repository, b.Repository),
			cmp.Compare(rank(a.Action), rank(b.Action)), cmp.Compare(a.Action, b.Action))
	})
	want = slices.Compact(want)
	var b strings.Builder
	for i, a := range want {
		switch {
		case i > 0 && a.Repository != "" && a.Repository == want[i-1].Repository:
			b.WriteString("," + string(a.Action))
			continue
		case i > 0:
			b.WriteByte(' ')
		}
		switch {
		case a.Repository != "":
			b.WriteString("repository:" + a.Repository + ":" + string(a.Action))
		case a.Action == List:
			b.WriteString("registry:catalog:*")
		default:
			b.WriteString("registry:" + string(a.Action) + ":*")
		}
	}
	return b.String()
}

func rank(a Action) int {
	if i := slices.Index([]Action{Pull, Push, Delete}, a); i >= 0 {
		return i
	}
	return 3
}
