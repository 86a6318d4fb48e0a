package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"berth/auth"
	"berth/auth/jwt"
)

// An Issuer is an identity provider whose ID tokens are taken. URL and Audiences are required.
type Issuer struct {
	URL       string   // the iss of its tokens, exactly
	Audiences []string // a token must be for one of them

	// JWKS is a file or an https:// address of its keys; when empty, they are found by discovery, at URL.
	JWKS     string
	Client   jwt.Client
	Refresh  time.Duration // see [jwt.Options], as the next two
	OnError  func(error)
	OnReload func()

	// User is the claim that is the name of the user, by default sub; UserPrefix is put before it. Names of several issuers,
	// or of a password file, are told apart by nothing but their prefix. Where the claim email names the user, or a group, or is
	// a condition, email_verified must be true or missing.
	User       string
	UserPrefix string
	// Groups are the claims, strings or lists of them, that are the names of groups; a token may lack them.
	Groups []Groups
	// Conditions are patterns by claim: a token must have every one of these claims, and each must match one of its
	// patterns. A claim that is a list matches when one of its elements does. In a pattern, "*" stands for anything without
	// a slash, "**" for anything.
	Conditions map[string][]string
}

// Groups is a claim with names of groups, and what is put before each.
//
// Claims are named here and above as [jwt.Claims.Find] has it: "realm_access.roles".
type Groups struct{ Claim, Prefix string }

// An issuer is an Issuer that was checked.
type issuer struct {
	Issuer
	source     jwt.Source
	conditions []condition
	byEmail    bool // the claim email decides something
}

type condition struct {
	claim    string
	patterns []*regexp.Regexp
}

func compile(config Issuer, o *jwt.Options) (*issuer, error) {
	i := &issuer{Issuer: config, byEmail: config.User == email || config.Conditions[email] != nil}
	if len(i.Audiences) == 0 || slices.Contains(i.Audiences, "") {
		return nil, errors.New("an audience is required: tokens for other services would be taken otherwise")
	}
	if i.User == "" {
		i.User = "sub"
	}
	for _, g := range i.Groups {
		if g.Claim == "" {
			return nil, errors.New("groups without a claim")
		}
		i.byEmail = i.byEmail || g.Claim == email
	}
	for _, claim := range slices.Sorted(maps.Keys(config.Conditions)) {
		patterns := config.Conditions[claim]
		if claim == "" || len(patterns) == 0 {
			return nil, fmt.Errorf("the condition on the claim %q has no pattern, or no claim", claim)
		}
		c := condition{claim: claim}
		for _, p := range patterns {
			c.patterns = append(c.patterns, pattern(p))
		}
		i.conditions = append(i.conditions, c)
	}
	var err error
	if i.JWKS == "" {
		i.source, err = jwt.Discover(i.URL, o)
	} else {
		i.source, err = jwt.NewSource(i.JWKS, o)
	}
	return i, err
}

// pattern compiles a pattern of a condition.
func pattern(text string) *regexp.Regexp {
	quoted := regexp.QuoteMeta(text)
	quoted = strings.ReplaceAll(quoted, `\*\*`, `.*`)
	return regexp.MustCompile(`(?s)\A` + strings.ReplaceAll(quoted, `\*`, `[^/]*`) + `\z`)
}

// verify checks all of a token that claims to be of i, and returns whose it is, until when, and by which keys.
func (i *issuer) verify(ctx context.Context, t *jwt.Token, now time.Time) (auth.Subject, time.Time, *jwt.Keys, error) {
	keys, err := t.VerifyBy(ctx, i.source, now)
	if err != nil {
		return auth.Subject{}, time.Time{}, nil, err
	}
	expires, err := t.Claims().Check(i.URL, i.Audiences, now)
	if err != nil {
		return auth.Subject{}, time.Time{}, nil, err
	}
	s, err := i.subject(t.Claims())
	return s, expires, keys, err
}

// email is the claim that anybody may have any value of, unless it was verified (OpenID Connect Core 1.0, section 5.1).
const email = "email"

// subject maps the claims of a verified token.
func (i *issuer) subject(claims jwt.Claims) (auth.Subject, error) {
	if i.byEmail && !hasVerifiedEmail(claims) {
		return auth.Subject{}, fmt.Errorf("%w: its email address is not verified", auth.ErrToken)
	}
	for _, c := range i.conditions {
		if !c.holds(claims) {
			return auth.Subject{}, fmt.Errorf("%w: its claim %q is not one that is let in here", auth.ErrToken, c.claim)
		}
	}
	name, _ := claims.Find(i.User).Text(i.User)
	if !auth.Printable(name) {
		return auth.Subject{}, fmt.Errorf("%w: its claim %q is not the name of a user", auth.ErrToken, i.User)
	}
	s := auth.Subject{Name: i.UserPrefix + name}
	for _, g := range i.Groups {
		found := claims.Find(g.Claim)
		if found == nil {
			continue
		}
		names, ok := found.Texts(g.Claim)
		if !ok || slices.ContainsFunc(names, func(n string) bool { return !auth.Printable(n) }) {
			return auth.Subject{}, fmt.Errorf("%w: its claim %q is not names of groups", auth.ErrToken, g.Claim)
		}
		for _, n := range names {
			s.Groups = append(s.Groups, g.Prefix+n)
		}
	}
	return s, nil
}

// hasVerifiedEmail takes providers at their word that say nothing of it, and those that say it as a string.
func hasVerifiedEmail(claims jwt.Claims) bool {
	raw, said := claims["email_verified"]
	text, ok := scalar(raw)
	return !said || ok && text == "true"
}

func (c condition) holds(claims jwt.Claims) bool {
	raw := claims.Find(c.claim)[c.claim]
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		list = []json.RawMessage{raw}
	}
	return slices.ContainsFunc(list, func(element json.RawMessage) bool {
		value, ok := scalar(element)
		return ok && slices.ContainsFunc(c.patterns, func(p *regexp.Regexp) bool { return p.MatchString(value) })
	})
}

// scalar returns a string, a number or a boolean as text.
func scalar(raw json.RawMessage) (string, bool) {
	if len(raw) == 0 {
		return "", false
	}
	var value any
	if json.Unmarshal(raw, &value) != nil {
		return "", false
	}
	switch v := value.(type) {
	case string:
		return v, true
	case bool, float64:
		return string(raw), true
	}
	return "", false
}
