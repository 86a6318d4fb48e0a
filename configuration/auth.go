package configuration

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"berth/configuration/strict"
)

// Auth is the section auth. Without any of its keys nobody said who may use the registry.
type Auth struct {
	// Lets everybody do everything. It can be written as `auth: none`.
	None *NoAuth `yaml:"none" choice:"optional"`
	// Users with passwords, in a file as htpasswd and `berth user` write it. A change of the file takes effect by itself.
	HTPasswd *HTPasswd `yaml:"htpasswd"`
	// Bearer tokens of a token server, as CNCF distribution takes them. Clients are then sent there to log in, also those
	// with a user of `htpasswd`.
	Token *Token `yaml:"token"`
	// ID tokens of identity providers, as the password with any user name, or as Bearer tokens.
	OIDC *OIDC `yaml:"oidc"`
	// Where clients that ask for a token log in with a password of `htpasswd` or an ID token of `oidc`.
	TokenEndpoint TokenEndpoint `yaml:"tokenendpoint"`
	// Certificates that clients show when they connect, of the authorities in `http.tls.clientcas`, for requests without
	// other credentials.
	ClientCertificate *ClientCertificate `yaml:"clientcertificate"`
	// What everybody may do on every repository without logging in: pull, push, push-new, delete, list, admin, metrics.
	// For some repositories only, bind the subject `anonymous` in `authorization.bindings`.
	Anonymous []string `yaml:"anonymous" example:"[pull, list]"`
}

// Configured reports whether it was said who may use the registry.
func (a Auth) Configured() bool {
	return a.None != nil || a.distinguishes()
}

// distinguishes reports whether there is anybody who can be told from others.
func (a Auth) distinguishes() bool {
	return a.HTPasswd != nil || a.Token != nil || a.OIDC != nil || a.ClientCertificate != nil || len(a.Anonymous) > 0
}

// HasTokenEndpoint reports whether clients may ever be sent to the token endpoint.
func (a Auth) HasTokenEndpoint() bool {
	return a.TokenEndpoint.Mode != "never" && a.Token == nil && (a.HTPasswd != nil || a.OIDC != nil)
}

// NoAuth is the section auth.none, which has no keys.
type NoAuth struct{}

// HTPasswd is the section auth.htpasswd.
type HTPasswd struct {
	// The name that clients show when they ask for a password.
	Realm string `yaml:"realm" default:"Registry"`
	// The file. It must be given.
	Path string `yaml:"path" example:"/etc/berth/users"`
}

// Token is the section auth.token.
type Token struct {
	// The URL of the token server, to which clients are sent.
	Realm string `yaml:"realm" example:"https://auth.example.com/token"`
	// The name of this registry: one of the audiences of a token. It must be given.
	Service string `yaml:"service" example:"registry.example.com"`
	// The `iss` of tokens, exactly. It must be given.
	Issuer string `yaml:"issuer" example:"auth.example.com"`
	// A PEM file of certificates by which tokens are checked. It or `jwks` must be given. A change of a file takes effect by
	// itself.
	RootCertBundle string `yaml:"rootcertbundle" example:"/etc/berth/token.pem"`
	// A file, or the https URL, of a JSON Web Key Set by which tokens are checked. A URL must answer when the server starts.
	JWKS string `yaml:"jwks" example:"https://auth.example.com/keys"`
	// Those that are accepted; without any all of RS256 to RS512, PS256 to PS512, ES256 to ES512, and EdDSA.
	SigningAlgorithms []string `yaml:"signingalgorithms" example:"[ES256, EdDSA]"`
	// Sends clients to a token server at the host that they asked for, instead of `realm`.
	AutoRedirect bool `yaml:"autoredirect" default:"false"`
	// The path there.
	AutoRedirectPath string `yaml:"autoredirectpath" default:"/auth/token"`
	// After how long the keys at a URL are fetched again. A key that was taken away is trusted for up to twice as long.
	Refresh time.Duration `yaml:"refresh" default:"5m" min:"10s"`
	// A PEM file of the authorities to trust, instead of those of the system, when keys are fetched.
	CA string `yaml:"ca" example:"/etc/berth/ca.pem"`
}

// TokenEndpoint is the section auth.tokenendpoint. The endpoint is at /v2/_berth/auth/token.
type TokenEndpoint struct {
	// When clients are sent there: `auto`, while anything may be done without logging in, since by it alone the docker engine
	// both pulls without logging in and logs in; `always`; `never`. Beside `auth.token` they are sent to the token server.
	Mode string `yaml:"mode" default:"auto" enum:"auto|always|never"`
	// How long a token of the endpoint holds, an hour at most. That of a user of `htpasswd` also ends with the password.
	Lifetime time.Duration `yaml:"lifetime" default:"5m" min:"1m"`
	// The name of this registry, for which tokens are. The default is the host in `http.host`, or `registry`.
	Service string `yaml:"service" example:"registry.example.com"`
}

// OIDC is the section auth.oidc.
type OIDC struct {
	// The identity providers. Names of users of several, and of `htpasswd`, are the same user unless `userprefix` tells them
	// apart.
	Issuers []OIDCIssuer `yaml:"issuers" example:"[{url: 'https://id.example.com', audiences: [registry], jwks: '', refresh: 5m, ca: '', tokenfile: '', user: sub, userprefix: 'id:', groups: [{claim: groups, prefix: 'id:'}], conditions: {repository: ['acme/*']}}]"`
}

// OIDCIssuer is an element of auth.oidc.issuers.
type OIDCIssuer struct {
	// The `iss` of its tokens, exactly. It must be given.
	URL string `yaml:"url"`
	// The audiences, one of which a token must be for. One must be given.
	Audiences []string `yaml:"audiences"`
	// A file, or the https URL, of its keys. Without it they are found by discovery, at `url`.
	JWKS string `yaml:"jwks"`
	// After how long keys at a URL are fetched again. A key that was taken away is trusted for up to twice as long.
	Refresh time.Duration `yaml:"refresh" default:"5m" min:"10s"`
	// A PEM file of the authorities to trust, instead of those of the system, when keys are fetched.
	CA string `yaml:"ca"`
	// A file with a token to be sent when keys are fetched, as the API server of a Kubernetes cluster asks for.
	TokenFile string `yaml:"tokenfile"`
	// The claim that is the name of the user.
	User string `yaml:"user" default:"sub"`
	// What is put before that name. Without it, an issuer can name users of another issuer or of `htpasswd`.
	UserPrefix string `yaml:"userprefix"`
	// The claims that are names of groups.
	Groups []OIDCGroups `yaml:"groups"`
	// Patterns by claim. A token must have each claim, and each must match one of its patterns: `*` is anything without a
	// slash, `**` anything.
	Conditions map[string][]string `yaml:"conditions"`
}

// OIDCGroups is an element of auth.oidc.issuers[].groups.
type OIDCGroups struct {
	// The claim, such as groups or realm_access.roles. It must be given.
	Claim string `yaml:"claim"`
	// What is put before each name.
	Prefix string `yaml:"prefix"`
}

// Authorization is the section authorization. Without bindings, whoever is logged in may do everything.
type Authorization struct {
	// Who has which roles on which repositories. What no binding allows is denied.
	Bindings []Binding `yaml:"bindings" example:"[{subjects: ['group:team-a'], roles: [registry-editor], repositories: ['team-a/**']}]"`
	// Roles of your own, as lists of actions: pull, push, push-new (pushes that move no tag), delete, list, admin, metrics.
	Roles map[string][]string `yaml:"roles" example:"{release: [pull, push-new]}"`
	// A YAML file of groups, each with the list of its users. A change of the file takes effect by itself.
	GroupsFile string `yaml:"groupsfile" example:"/etc/berth/groups.yml"`
	// Tags that, once there, nobody moves or deletes.
	ImmutableTags []ImmutableTags `yaml:"immutabletags" example:"[{repositories: '**', tags: ['v*']}]"`
	// The names that new repositories may have.
	Naming Naming `yaml:"naming"`
}

// Binding is an element of authorization.bindings.
type Binding struct {
	// `user:NAME`, `group:NAME`, `authenticated` or `anonymous`.
	Subjects []string `yaml:"subjects"`
	// Built-in roles or those of `authorization.roles`.
	Roles []string `yaml:"roles"`
	// Patterns of repositories, such as `team-a/**`; `**` is all.
	Repositories []string `yaml:"repositories"`
}

// ImmutableTags is an element of authorization.immutabletags.
type ImmutableTags struct {
	// A pattern of repositories, such as `team-a/**`.
	Repositories string `yaml:"repositories" default:"**"`
	// Patterns of tags, in which `*` stands for any characters.
	Tags []string `yaml:"tags"`
}

// Naming is the section authorization.naming.
type Naming struct {
	// The most components of a name; 0 means any number.
	MaxDepth int `yaml:"maxdepth" default:"0"`
	// Asks for names of exactly the form project/name.
	ProjectName bool `yaml:"projectname" default:"false"`
}

// ofEverybody reports whether a binding is of whoever is logged in.
func (b Binding) ofEverybody() bool { return slices.Contains(b.Subjects, "authenticated") }

// sharedIssuers give tokens to the whole world, for any audience that is asked for.
var sharedIssuers = []string{
	"https://token.actions.githubusercontent.com", "https://gitlab.com", "https://agent.buildkite.com", "https://app.terraform.io",
	"https://oidc.codefresh.io", "https://oidc.vercel.com", "https://oauth2.sigstore.dev/auth", "https://accounts.google.com",
}

// checkOpen is for rules that give rights to everybody whom an issuer has a token for: one that serves the world is refused
// without conditions, another may be meant.
func (o OIDC) checkOpen(c strict.Checking) {
	for n, i := range o.Issuers {
		key := "auth.oidc.issuers[" + strconv.Itoa(n) + "]"
		switch {
		case len(i.Conditions) > 0:
		case slices.Contains(sharedIssuers, strings.TrimSuffix(i.URL, "/")):
			c.Fail(key, "%s has tokens for everybody in the world, and without conditions or bindings of users and groups "+
				"everybody could use this registry; write conditions, such as {repository_owner: [acme]}", i.URL)
		default:
			c.Warn(key, "everybody for whom %s has a token is let in, and has the rights of whoever is logged in; if that is "+
				"not meant, write conditions, or bindings of users and groups", strict.Quote(i.URL))
		}
	}
}

func (a Auth) check(c strict.Checking) {
	if a.None != nil && a.distinguishes() {
		c.Fail("none", "lets everybody do everything, so that nothing may stand beside it; keep one")
	}
	if a.TokenEndpoint.Mode == "always" && !a.HasTokenEndpoint() {
		c.Fail("tokenendpoint.mode", "is for users of auth.htpasswd and auth.oidc, and not beside auth.token, where clients are sent to the token server")
	}
}

func (e TokenEndpoint) check(c strict.Checking) {
	if e.Lifetime > time.Hour {
		c.Fail("lifetime", "must be at most 1h, not %v", e.Lifetime)
	}
	if strings.ContainsFunc(e.Service, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		c.Fail("service", "must be a name without blanks, such as registry.example.com")
	}
}

func (h HTPasswd) check(c strict.Checking) {
	if h.Path == "" {
		c.Fail("path", "must be the path of a file of users; `berth user add` makes one")
	}
}

func (t Token) check(c strict.Checking) {
	if t.Service == "" {
		c.Fail("service", "must be the name of this registry, which tokens must be for")
	}
	if t.Issuer == "" {
		c.Fail("issuer", "must be given: the iss of the tokens")
	}
	if t.RootCertBundle == "" && t.JWKS == "" {
		c.Fail("", "must have rootcertbundle or jwks, by which tokens are checked")
	}
	if u, err := url.Parse(t.Realm); !t.AutoRedirect && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		c.Fail("realm", "must be the URL of the token server such as https://auth.example.com/token")
	}
	if t.AutoRedirect && !strings.HasPrefix(t.AutoRedirectPath, "/") {
		c.Fail("autoredirectpath", "must begin with a slash, not %s", strict.Quote(t.AutoRedirectPath))
	}
}

func (o OIDC) check(c strict.Checking) {
	if len(o.Issuers) == 0 {
		c.Fail("issuers", "must name an identity provider")
	}
}

func (i OIDCIssuer) check(c strict.Checking) {
	if i.URL == "" {
		c.Fail("url", "must be given: the iss of the tokens")
	}
	if len(i.Audiences) == 0 || slices.Contains(i.Audiences, "") {
		c.Fail("audiences", "must name an audience: tokens for other services would be taken otherwise")
	}
}

func (g OIDCGroups) check(c strict.Checking) {
	if g.Claim == "" {
		c.Fail("claim", "must be given")
	}
}
