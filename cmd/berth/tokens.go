package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"berth/auth"
	"berth/auth/jwt"
	"berth/auth/oidc"
	"berth/auth/pass"
	"berth/auth/token"
	"berth/configuration"
	"berth/metrics"
	"berth/registry"
)

// openToken returns nil when no token server is configured. What is wrong with keys is put down to the key they are of: the
// bundle is tried alone first.
func (a *access) openToken(ctx context.Context, c *configuration.Config) (*token.Authenticator, error) {
	t := c.Auth.Token
	if t == nil {
		return nil, nil
	}
	if _, err := jwt.ParseAlgorithms(t.SigningAlgorithms); err != nil {
		return nil, at(c, "auth.token.signingalgorithms", err)
	}
	o := token.Options{
		Realm: t.Realm, Service: t.Service, Issuer: t.Issuer, RootCertBundle: t.RootCertBundle,
		Refresh: t.Refresh, Client: jwt.Client{CA: t.CA}, Algorithms: t.SigningAlgorithms,
		AutoRedirect: t.AutoRedirect, AutoRedirectPath: t.AutoRedirectPath,
		OnError: a.failed(metrics.Keys), OnReload: a.reloaded(metrics.Keys),
	}
	var opened *token.Authenticator
	var err error
	if t.RootCertBundle != "" {
		if opened, err = token.New(ctx, o); err != nil {
			return nil, at(c, "auth.token.rootcertbundle", err)
		}
	}
	if o.JWKS = t.JWKS; o.JWKS != "" {
		opened, err = token.New(ctx, o)
		if ctx.Err() != nil {
			return nil, ctx.Err() // told to stop: nothing is wrong with the keys
		}
		if err != nil {
			return nil, at(c, "auth.token.jwks", err)
		}
	}
	return opened, nil
}

// openOIDC returns nil when no identity provider is configured. Each is tried alone first, so that an error can name it.
func (a *access) openOIDC(c *configuration.Config) (*oidc.Authenticator, error) {
	if c.Auth.OIDC == nil {
		return nil, nil
	}
	o := oidc.Options{OnError: a.failed(metrics.Keys), OnReload: a.reloaded(metrics.Keys)}
	for n, i := range c.Auth.OIDC.Issuers {
		issuer := oidc.Issuer{
			URL: i.URL, Audiences: i.Audiences, JWKS: i.JWKS, Refresh: i.Refresh,
			Client: jwt.Client{CA: i.CA, TokenFile: i.TokenFile},
			User:   i.User, UserPrefix: i.UserPrefix, Conditions: i.Conditions,
		}
		for _, g := range i.Groups {
			issuer.Groups = append(issuer.Groups, oidc.Groups(g))
		}
		if _, err := oidc.New(oidc.Options{Issuers: []oidc.Issuer{issuer}}); err != nil {
			return nil, at(c, fmt.Sprintf("auth.oidc.issuers[%d]", n), err)
		}
		o.Issuers = append(o.Issuers, issuer)
	}
	opened, err := oidc.New(o)
	if err != nil {
		return nil, at(c, "auth.oidc.issuers", err)
	}
	return opened, nil
}

// openPasses makes what gives out our own tokens, if that may ever be asked for.
func (a *access) openPasses(reg *registry.Registry, c *configuration.Config) error {
	if !c.Auth.HasTokenEndpoint() {
		return nil
	}
	e := c.Auth.TokenEndpoint
	o := pass.Options{Service: e.Service, Lifetime: e.Lifetime}
	if u, err := url.Parse(c.HTTP.Host); o.Service == "" && err == nil {
		o.Service = u.Host
	}
	if o.Service == "" {
		o.Service = "registry"
	}
	if a.users != nil {
		o.Users = a.users
	}
	if a.oidc != nil {
		o.IDTokens = a.oidc
	}
	secret, err := reg.DeriveKey("passes")
	if err == nil {
		a.passes, err = pass.New(secret, a.methods, o)
	}
	return err
}

// warm asks identity providers for their keys, so that one that does not answer is in the log before somebody logs in.
func (a *access) warm(ctx context.Context) {
	if a.oidc != nil {
		a.oidc.Warm(ctx)
	}
}

// challenge asks for a token where there is a token server, and for a password otherwise, where the API does not send clients
// for a pass; never for both: given both, the docker engine sends a password in place of the token that it has just fetched, and nothing at all when it has no password.
func (a *access) challenge(r *http.Request, want []auth.Access, refused error) string {
	if a.token != nil {
		return a.token.Challenge(r, refused, want...)
	}
	return auth.BasicChallenge(a.realm)
}
