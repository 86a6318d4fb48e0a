package jwt

import (
	"encoding/json"
	"math"
	"slices"
	"time"
)

// leeway is by how much the clock of an issuer may differ from ours.
const leeway = time.Minute

// Claims are the members of a JSON object, as they stand in the token. Names are compared exactly.
type Claims map[string]json.RawMessage

// Text returns a claim that is a string; false for one that is missing or something else.
func (c Claims) Text(name string) (string, bool) {
	return text(c[name])
}

func text(raw json.RawMessage) (s string, ok bool) {
	return s, len(raw) > 0 && raw[0] == '"' && json.Unmarshal(raw, &s) == nil
}

// Texts returns a claim that is a string or a list of strings; false for one that is missing or something else.
func (c Claims) Texts(name string) ([]string, bool) {
	raw := c[name]
	if s, ok := text(raw); ok {
		return []string{s}, true
	}
	var parts []json.RawMessage
	if json.Unmarshal(raw, &parts) != nil || parts == nil {
		return nil, false
	}
	list := make([]string, len(parts))
	for i, part := range parts {
		var ok bool
		if list[i], ok = text(part); !ok {
			return nil, false
		}
	}
	return list, true
}

// Find returns a claim by its name, or by a path of names with dots between them: "realm_access.roles". Names may have
// dots themselves, as in "kubernetes.io.namespace"; a name that fits as a whole is taken first. The result has the claim
// under the name asked for, for the other methods; it is nil if there is none.
func (c Claims) Find(path string) Claims {
	if raw, ok := c[path]; ok {
		return Claims{path: raw}
	}
	for i := range len(path) {
		if path[i] != '.' {
			continue
		}
		var inner Claims
		if json.Unmarshal(c[path[:i]], &inner) != nil {
			continue
		}
		if found := inner.Find(path[i+1:]); found != nil {
			return Claims{path: found[path[i+1:]]}
		}
	}
	return nil
}

// number returns a claim that is a number, a date in seconds (RFC 7519, section 2); ok is true too if there is none.
func (c Claims) number(name string) (value float64, present, ok bool) {
	raw, present := c[name]
	if !present {
		return 0, false, true
	}
	var v *float64
	if json.Unmarshal(raw, &v) != nil || v == nil {
		return 0, true, false
	}
	return *v, true, true
}

// Check checks who issued the token, for whom (one of the audiences), and when (RFC 7519, section 4.1; exp is required).
// The clock of the issuer may differ by a minute. It returns when the token expires, a minute late for the same reason.
// Errors match [auth.ErrToken].
func (c Claims) Check(issuer string, audiences []string, now time.Time) (expires time.Time, err error) {
	if iss, _ := c.Text("iss"); iss != issuer || issuer == "" {
		return time.Time{}, invalid("it is of another issuer")
	}
	aud, _ := c.Texts("aud")
	if !slices.ContainsFunc(aud, func(a string) bool { return a != "" && slices.Contains(audiences, a) }) {
		return time.Time{}, invalid("it is for another service")
	}
	at, late := float64(now.Unix()), leeway.Seconds()
	exp, present, ok := c.number("exp")
	switch {
	case !present || !ok:
		return time.Time{}, invalid("it does not say when it expires")
	case at >= exp+late:
		return time.Time{}, invalid("it has expired")
	}
	for _, name := range []string{"nbf", "iat"} {
		from, _, ok := c.number(name)
		if !ok {
			return time.Time{}, invalid("its %s is not a number", name)
		}
		if at < from-late {
			return time.Time{}, invalid("it is not valid yet; compare the clocks of its issuer and of this server")
		}
	}
	const far = 1 << 40 // seconds: beyond it, conversions are not defined
	return time.Unix(int64(math.Min(exp, far)), 0).Add(leeway), nil
}
