// Package token lets in whom a token server vouches for, by the Bearer tokens that the registries of the distribution
// project take: JWTs whose access claim says what they are for.
//
// A token is signed by a key of the configuration: by a certificate in its header (x5c) that leads to one of the bundle, or
// by the key that its kid names, which is in the key set, or of a certificate of the bundle. Keys rotate without a restart.
// One that is taken out of a file is trusted for a second more, one that is taken out of a key set at an address for twice
// Options.Refresh.
package token

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"berth/auth"
	"berth/auth/jwt"
	"berth/auth/reload"
)

// Options of an Authenticator. Service and Issuer are required, and so is a way to know the keys and a realm.
type Options struct {
	Realm   string // the URL of the token server, to which challenges send clients
	Service string // the name of this registry: one of the audiences of a token
	Issuer  string // of tokens, exactly

	// RootCertBundle is a file of certificates in PEM, JWKS a file or an https:// address of a key set. At least one of
	// them is needed.
	RootCertBundle string
	JWKS           string
	Refresh        time.Duration // see [jwt.Options]
	Client         jwt.Client    // for a JWKS at an address

	// Algorithms are names like RS256 and EdDSA; by default all of RS, PS, ES and EdDSA.
	Algorithms []string

	// AutoRedirect sends clients to a token server at the host that they asked for, at AutoRedirectPath, by default
	// /auth/token; by https unless X-Forwarded-Proto says http. Realm is not used then.
	AutoRedirect     bool
	AutoRedirectPath string

	// OnError is told once of each error that keeps changed keys from taking effect, OnReload of files that did.
	OnError  func(error)
	OnReload func()

	now func() time.Time
}

// An Authenticator knows who sent a request by its Bearer token. It is safe for concurrent use.
type Authenticator struct {
	o          Options
	algorithms jwt.Algorithms
	bundle     *reload.File[*jwt.Bundle] // nil without one
	keys       jwt.Source                // nil without one
	memory     *jwt.Memory
}

var _ auth.Authenticator = (*Authenticator)(nil)

const maxBundle = 1 << 20 // bytes

// New reads the keys; a key set at an address is fetched, and must be there: a wrong address would otherwise go unnoticed
// until somebody logs in. Errors name the option or the file.
func New(ctx context.Context, o Options) (*Authenticator, error) {
	if o.now == nil {
		o.now = time.Now
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	a := &Authenticator{o: o, memory: jwt.NewMemory()}
	var err error
	if a.algorithms, err = jwt.ParseAlgorithms(o.Algorithms); err != nil {
		return nil, err
	}
	if o.RootCertBundle != "" {
		a.bundle, err = reload.Open(o.RootCertBundle, maxBundle, jwt.ParseBundle,
			&reload.Options{OnError: o.OnError, OnReload: o.OnReload})
		if err != nil {
			return nil, fmt.Errorf("read the root certificate bundle: %w", err)
		}
	}
	if o.JWKS == "" {
		return a, nil
	}
	a.keys, err = jwt.NewSource(o.JWKS, &jwt.Options{
		Refresh: o.Refresh, Client: o.Client, OnError: o.OnError, OnReload: o.OnReload, Now: o.now,
	})
	if err != nil {
		return nil, fmt.Errorf("the key set: %w", err)
	}
	if _, err := a.keys.Keys(ctx); err != nil {
		return nil, fmt.Errorf("the key set: %w", err)
	}
	return a, nil
}

func (o *Options) check() error {
	switch {
	case o.Service == "":
		return errors.New("a service is required: the name of this registry, which tokens must be for")
	case o.Issuer == "":
		return errors.New("an issuer is required: the one that tokens must be of")
	case o.RootCertBundle == "" && o.JWKS == "":
		return errors.New("a root certificate bundle or a key set is required")
	}
	if o.AutoRedirect {
		if o.AutoRedirectPath == "" {
			o.AutoRedirectPath = "/auth/token"
		}
		if !strings.HasPrefix(o.AutoRedirectPath, "/") {
			return fmt.Errorf("the path for redirects, %q, does not begin with a slash", o.AutoRedirectPath)
		}
		return nil
	}
	u, err := url.Parse(o.Realm)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return errors.New("the realm must be the URL of the token server")
	}
	return nil
}

// Authenticate returns the subject of a request's Bearer token, with what the token is for as its Grants, and the zero
// Subject for a request without one. Nothing of it is to be changed. Errors match [auth.ErrMalformed], [auth.ErrToken]
// (and [auth.ErrForeign] when the token is of another issuer) or [auth.ErrUnavailable], or are the context's.
func (a *Authenticator) Authenticate(r *http.Request) (auth.Subject, error) {
	now := a.o.now()
	if s, ok := a.memory.Get(r, now); ok {
		return s, nil
	}
	text, ok, err := auth.BearerToken(r)
	if !ok || err != nil {
		return auth.Subject{}, err
	}
	t, err := jwt.Parse(text)
	if err != nil {
		return auth.Subject{}, err
	}
	if issuer, _ := t.Claims().Text("iss"); issuer != a.o.Issuer { // whose algorithms may be others
		return auth.Subject{}, fmt.Errorf("%w: %w: it is of another issuer", auth.ErrToken, auth.ErrForeign)
	}
	if err := t.CheckAlgorithm(a.algorithms); err != nil {
		return auth.Subject{}, err
	}
	holds, err := a.verify(r.Context(), t, now)
	if err != nil {
		return auth.Subject{}, err
	}
	expires, err := t.Claims().Check(a.o.Issuer, []string{a.o.Service}, now)
	if err != nil {
		return auth.Subject{}, err
	}
	s, err := subject(t.Claims())
	if err == nil {
		a.memory.Put(r, s, now, expires, holds)
	}
	return s, err
}

// verify checks the signature of a token. The function that it returns reports whether what it was checked by is still in
// force.
func (a *Authenticator) verify(ctx context.Context, t *jwt.Token, now time.Time) (holds func(context.Context) bool, err error) {
	err = jwt.ErrUnknownKey
	if a.bundle != nil {
		bundle := *a.bundle.Get()
		chained, chainErr := t.VerifyChain(bundle, now)
		if err = chainErr; !chained {
			err = t.Verify(bundle.Keys(), now)
		}
		if err == nil {
			return func(context.Context) bool { return *a.bundle.Get() == bundle }, nil
		}
	}
	if a.keys == nil || !errors.Is(err, jwt.ErrUnknownKey) {
		return nil, err
	}
	keys, err := t.VerifyBy(ctx, a.keys, now)
	return func(ctx context.Context) bool {
		current, err := a.keys.Keys(ctx)
		return err == nil && current == keys
	}, err
}

// Challenge returns the WWW-Authenticate header for a request that was refused with an error, and that needs a token for
// the accesses.
func (a *Authenticator) Challenge(r *http.Request, refused error, want ...auth.Access) string {
	return auth.BearerChallenge{Realm: a.realm(r), Service: a.o.Service}.For(refused, want...).String()
}

func (a *Authenticator) realm(r *http.Request) string {
	if !a.o.AutoRedirect {
		return a.o.Realm
	}
	scheme := "https"
	if strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "http") {
		scheme = "http"
	}
	return (&url.URL{Scheme: scheme, Host: r.Host, Path: a.o.AutoRedirectPath}).String()
}
