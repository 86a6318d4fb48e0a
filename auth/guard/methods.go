package guard

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"berth/auth"
	"berth/auth/certificate"
	"berth/auth/jwt"
	"berth/auth/oidc"
	"berth/auth/pass"
	"berth/auth/reload"
	"berth/auth/token"
	"berth/configuration"
	"berth/metrics"
)

// openToken returns nil when no token server is configured. What is wrong with keys is put down to the key they are of: the
// bundle is tried alone first.
func (g *Guard) openToken(ctx context.Context, c *configuration.Config) (*token.Authenticator, error) {
	t := c.Auth.Token
	if t == nil {
		return nil, nil
	}
	if _, err := jwt.ParseAlgorithms(t.SigningAlgorithms); err != nil {
		return nil, c.At("auth.token.signingalgorithms", err)
	}
	o := token.Options{
		Realm: t.Realm, Service: t.Service, Issuer: t.Issuer, RootCertBundle: t.RootCertBundle,
		Refresh: t.Refresh, Client: jwt.Client{CA: t.CA}, Algorithms: t.SigningAlgorithms,
		AutoRedirect: t.AutoRedirect, AutoRedirectPath: t.AutoRedirectPath,
		OnError: g.failed(metrics.Keys, "auth.token"), OnReload: g.reloaded(metrics.Keys, "auth.token"),
	}
	var opened *token.Authenticator
	var err error
	if t.RootCertBundle != "" {
		if opened, err = token.New(ctx, o); err != nil {
			return nil, c.At("auth.token.rootcertbundle", err)
		}
	}
	if o.JWKS = t.JWKS; o.JWKS != "" {
		opened, err = token.New(ctx, o)
		if ctx.Err() != nil {
			return nil, ctx.Err() // told to stop: nothing is wrong with the keys
		}
		if err != nil {
			return nil, c.At("auth.token.jwks", err)
		}
	}
	return opened, nil
}

// openOIDC returns nil when no identity provider is configured. Each is tried alone first, so that an error can name it.
func (g *Guard) openOIDC(c *configuration.Config) (*oidc.Authenticator, error) {
	if c.Auth.OIDC == nil {
		return nil, nil
	}
	var o oidc.Options
	for n, i := range c.Auth.OIDC.Issuers {
		issuer := oidc.Issuer{
			URL: i.URL, Audiences: i.Audiences, JWKS: i.JWKS, Refresh: i.Refresh,
			Client: jwt.Client{CA: i.CA, TokenFile: i.TokenFile},
			User:   i.User, UserPrefix: i.UserPrefix, Conditions: i.Conditions,
			OnError: g.failed(metrics.Keys, i.URL), OnReload: g.reloaded(metrics.Keys, i.URL),
		}
		for _, g := range i.Groups {
			issuer.Groups = append(issuer.Groups, oidc.Groups(g))
		}
		if _, err := oidc.New(oidc.Options{Issuers: []oidc.Issuer{issuer}}); err != nil {
			return nil, c.At(fmt.Sprintf("auth.oidc.issuers[%d]", n), err)
		}
		o.Issuers = append(o.Issuers, issuer)
	}
	opened, err := oidc.New(o)
	if err != nil {
		return nil, c.At("auth.oidc.issuers", err)
	}
	return opened, nil
}

// OpenPasses makes what gives out our own tokens, if that may ever be asked for. They are signed with a key that derive makes for
// them. It is for the start, before the first request.
func (g *Guard) OpenPasses(c *configuration.Config, derive func(purpose string) ([]byte, error)) error {
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
	if g.users != nil {
		o.Users = g.users
	}
	if g.oidc != nil {
		o.IDTokens = g.oidc
	}
	secret, err := derive("passes")
	if err == nil {
		g.passes, err = pass.New(secret, g.methods, o)
	}
	return err
}

// Passes are our own tokens; nil: there are none.
func (g *Guard) Passes() *pass.Office { return g.passes }

// SendsForPasses reports whether clients are to get passes now.
func (g *Guard) SendsForPasses() bool { return g.rules.Load().sendForPasses }

// Warm asks identity providers for their keys, so that one that does not answer is in the log before somebody logs in.
func (g *Guard) Warm(ctx context.Context) {
	if g.oidc != nil {
		g.oidc.Warm(ctx)
	}
}

// MayLogIn reports whether there is a way to log in other than by a certificate.
func (g *Guard) MayLogIn() bool { return len(g.methods) > 0 }

// Challenge asks for a token where there is a token server, and for a password otherwise, where the API does not send clients for
// a pass; never for both: given both, the docker engine sends a password in place of the token that it has just fetched, and
// nothing at all when it has no password.
func (g *Guard) Challenge(r *http.Request, want []auth.Access, refused error) string {
	if g.token != nil {
		return g.token.Challenge(r, refused, want...)
	}
	return auth.BasicChallenge(g.realm)
}

// openCertificates reads the authorities of clients.
func (g *Guard) openCertificates(c *configuration.Config) (err error) {
	if len(c.HTTP.TLS.ClientCAs) == 0 {
		return nil
	}
	g.authorities, err = certificate.OpenAuthorities(c.HTTP.TLS.ClientCAs, &reload.Options{
		OnError: g.failed(metrics.Certificates, "http.tls.clientcas"), OnReload: g.reloaded(metrics.Certificates, "http.tls.clientcas"),
	})
	if err != nil {
		return c.At("http.tls.clientcas", err)
	}
	if identity := c.Auth.ClientCertificate; identity != nil {
		g.certificates, err = certificate.New(certificate.Options{
			User: identity.User, UserPrefix: identity.UserPrefix, Groups: identity.Groups, GroupPrefix: identity.GroupPrefix,
			Authorities: g.authorities,
		})
	}
	return err
}
