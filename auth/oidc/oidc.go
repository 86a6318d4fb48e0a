// Package oidc lets in whom an identity provider vouches for, by ID tokens (OpenID Connect Core 1.0, section 2): those of
// people, of service accounts of a Kubernetes cluster, of CI jobs. A token is sent as the password, with any user name, or
// as a Bearer token.
//
// Which issuer a token is of is said by the token, and only chooses among those that are configured: nothing that a token
// names is ever fetched. A key that an issuer takes away is trusted for twice the refresh interval more, a second if keys
// are in a file.
package oidc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"berth/auth"
	"berth/auth/jwt"
)

// Options of an Authenticator.
type Options struct {
	Issuers []Issuer // at least one

	now func() time.Time
}

// An Authenticator knows who sent a request by an ID token. It is safe for concurrent use.
type Authenticator struct {
	issuers map[string]*issuer
	memory  *jwt.Memory
	now     func() time.Time
}

var _ auth.Authenticator = (*Authenticator)(nil)

// New checks the configuration and reads the files that it names. Issuers are not asked for their keys yet: one that
// cannot be reached now may be later, and its own image may have to come from this registry. Errors name the issuer.
func New(o Options) (*Authenticator, error) {
	if len(o.Issuers) == 0 {
		return nil, errors.New("an issuer is required")
	}
	a := &Authenticator{issuers: make(map[string]*issuer), memory: jwt.NewMemory(), now: o.now}
	if a.now == nil {
		a.now = time.Now
	}
	for number, config := range o.Issuers {
		if config.URL == "" {
			return nil, fmt.Errorf("the issuer number %d has no URL", number+1)
		}
		if a.issuers[config.URL] != nil {
			return nil, fmt.Errorf("the issuer %s occurs twice", config.URL)
		}
		compiled, err := compile(config, &jwt.Options{
			Refresh: config.Refresh, Client: config.Client, OnError: config.OnError, OnReload: config.OnReload, Now: a.now,
		})
		if err != nil {
			return nil, fmt.Errorf("the issuer %s: %w", config.URL, err)
		}
		a.issuers[config.URL] = compiled
	}
	return a, nil
}

// Warm asks every issuer for its keys, so that one that does not answer is reported before somebody logs in. It ends with
// the last answer, or the context.
func (a *Authenticator) Warm(ctx context.Context) {
	done := make(chan struct{})
	for _, i := range a.issuers {
		go func() {
			_, _ = i.source.Keys(ctx) // it was reported
			done <- struct{}{}
		}()
	}
	for range a.issuers {
		<-done
	}
}

// Authenticate returns the subject of the ID token of a request, and the zero Subject for a request that carries neither
// Basic nor Bearer credentials. Nothing of it is to be changed. Errors match [auth.ErrMalformed], [auth.ErrToken] (and
// [auth.ErrForeign] when the credentials are no token of a configured issuer) or [auth.ErrUnavailable], or are the
// context's.
func (a *Authenticator) Authenticate(r *http.Request) (auth.Subject, error) {
	now := a.now()
	if s, ok := a.memory.Get(r, now); ok {
		return s, nil
	}
	text, ok, err := credentials(r)
	if !ok || err != nil {
		return auth.Subject{}, err
	}
	t, i, err := a.parse(text)
	if err != nil {
		return auth.Subject{}, err
	}
	s, expires, keys, err := i.verify(r.Context(), t, now)
	if err != nil {
		return auth.Subject{}, err
	}
	a.memory.Put(r, s, now, expires, func(ctx context.Context) bool {
		current, err := i.source.Keys(ctx)
		return err == nil && current == keys
	})
	return s, nil
}

// Token returns the ID token of a request, verified, for a client that is to send it as a Bearer token from now on, with its
// subject and how long it still holds. Errors are those of [Authenticator.Authenticate], and one that matches
// [auth.ErrForeign] for a request without credentials.
func (a *Authenticator) Token(r *http.Request) (text string, s auth.Subject, left time.Duration, err error) {
	text, ok, err := credentials(r)
	if !ok && err == nil {
		err = foreign("there is none")
	}
	if err != nil {
		return "", auth.Subject{}, 0, err
	}
	t, i, err := a.parse(text)
	if err != nil {
		return "", auth.Subject{}, 0, err
	}
	now := a.now()
	s, expires, _, err := i.verify(r.Context(), t, now)
	if err != nil {
		return "", auth.Subject{}, 0, err
	}
	return text, s, expires.Sub(now), nil
}

// credentials returns the password or the Bearer token of a request; false when it has neither.
func credentials(r *http.Request) (text string, ok bool, err error) {
	_, text, ok, err = auth.BasicCredentials(r)
	if err == nil && !ok {
		text, ok, err = auth.BearerToken(r)
	}
	return text, ok, err
}

// parse returns a token that is not verified yet, and the issuer that it claims to be of.
func (a *Authenticator) parse(text string) (*jwt.Token, *issuer, error) {
	if !jwt.Looks(text) {
		return nil, nil, foreign("it is not a JWT")
	}
	t, err := jwt.Parse(text)
	if err != nil {
		return nil, nil, err
	}
	name, _ := t.Claims().Text("iss")
	i, ok := a.issuers[name]
	if !ok {
		return nil, nil, foreign("it is of an issuer that is not configured here")
	}
	return t, i, nil
}

func foreign(why string) error { return fmt.Errorf("%w: %w: %s", auth.ErrToken, auth.ErrForeign, why) }
