package configuration

import (
	"maps"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A checker is a section with rules that its tags cannot express. It is called once the section was decoded; a key
// whose value could not be read then has its default.
type checker interface{ check(c checking) }

// checking reports what a section finds.
type checking struct {
	d      *decoder
	path   string
	source string
}

// fail reports the value of a key of the section. The key may have an index, and is empty for the section itself.
func (c checking) fail(key, format string, args ...any) {
	source, full := c.at(key)
	c.d.fail(source, full, format, args...)
}

// warn reports what is worth a warning, as fail does what is wrong.
func (c checking) warn(key, format string, args ...any) {
	source, full := c.at(key)
	c.d.warn(source, full, format, args...)
}

func (c checking) at(key string) (source, full string) {
	full, source = c.path, c.source
	if key != "" {
		full = strings.TrimPrefix(c.path+"."+key, ".")
	}
	if s, ok := c.d.sources[full]; ok {
		source = s
	}
	return source, full
}

func (c checking) given(key string) bool {
	_, ok := c.d.sources[strings.TrimPrefix(c.path+"."+key, ".")]
	return ok
}

func (s Config) check(c checking) {
	if !c.given("version") {
		c.fail("version", "must be given: version: 0.1")
	}
	s.checkClientCertificate(c)
	if len(s.Authorization.Bindings) > 0 && !s.Auth.distinguishes() {
		c.fail("authorization.bindings", "would bind nobody: without another key of auth than none everybody may do everything")
	}
	if s.Auth.OIDC != nil && (len(s.Authorization.Bindings) == 0 || slices.ContainsFunc(s.Authorization.Bindings, Binding.ofEverybody)) {
		s.Auth.OIDC.checkOpen(c)
	}
	if secret := s.HTTP.Secret.Reveal(); s.SendsToTokenEndpoint() && secret != "" && len(secret) < minSecret {
		c.fail("http.secret", "must have %d characters or more, since tokens are made by it (auth.tokenendpoint); without it one is kept in the store", minSecret)
	}
}

// minSecret keeps whoever has a token from guessing what it was made by, in bytes: 32 hexadecimal digits have 128 bits.
const minSecret = 32

// ofEverybody reports whether a binding is of whoever is logged in.
func (b Binding) ofEverybody() bool { return slices.Contains(b.Subjects, "authenticated") }

// sharedIssuers give tokens to the whole world, for any audience that is asked for.
var sharedIssuers = []string{
	"https://token.actions.githubusercontent.com", "https://gitlab.com", "https://agent.buildkite.com", "https://app.terraform.io",
	"https://oidc.codefresh.io", "https://oidc.vercel.com", "https://oauth2.sigstore.dev/auth", "https://accounts.google.com",
}

// checkOpen is for rules that give rights to everybody whom an issuer has a token for: one that serves the world is refused
// without conditions, another may be meant.
func (o OIDC) checkOpen(c checking) {
	for n, i := range o.Issuers {
		key := "auth.oidc.issuers[" + strconv.Itoa(n) + "]"
		switch {
		case len(i.Conditions) > 0:
		case slices.Contains(sharedIssuers, strings.TrimSuffix(i.URL, "/")):
			c.fail(key, "%s has tokens for everybody in the world, and without conditions or bindings of users and groups "+
				"everybody could use this registry; write conditions, such as {repository_owner: [acme]}", i.URL)
		default:
			c.warn(key, "everybody for whom %s has a token is let in, and has the rights of whoever is logged in; if that is "+
				"not meant, write conditions, or bindings of users and groups", quote(i.URL))
		}
	}
}

func (a Auth) check(c checking) {
	if a.None != nil && a.distinguishes() {
		c.fail("none", "lets everybody do everything, so that nothing may stand beside it; keep one")
	}
	if a.TokenEndpoint.Mode == "always" && !a.HasTokenEndpoint() {
		c.fail("tokenendpoint.mode", "is for users of auth.htpasswd and auth.oidc, and not beside auth.token, where clients are sent to the token server")
	}
}

func (e TokenEndpoint) check(c checking) {
	if e.Lifetime > time.Hour {
		c.fail("lifetime", "must be at most 1h, not %v", e.Lifetime)
	}
	if strings.ContainsFunc(e.Service, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		c.fail("service", "must be a name without blanks, such as registry.example.com")
	}
}

func (r Redirect) check(c checking) {
	if r.Expiry > 7*24*time.Hour {
		c.fail("expiry", "must be at most 168h, the longest that storages sign for, not %v", r.Expiry)
	}
}

func (e RedirectException) check(c checking) {
	if len(e.Networks)+len(e.UserAgents) == 0 {
		c.fail("", "must have networks or useragents; to send nobody, write storage.redirect.disable: true")
	}
	for i, network := range e.Networks {
		if _, err := netip.ParsePrefix(network); err != nil {
			c.fail("networks["+strconv.Itoa(i)+"]", "must be a network such as 10.0.0.0/8, not %s", quote(network))
		}
	}
	for i, expression := range e.UserAgents {
		if _, err := regexp.Compile(expression); err != nil {
			c.fail("useragents["+strconv.Itoa(i)+"]", "must be a regular expression: %v", err)
		}
	}
}

func (h HTPasswd) check(c checking) {
	if h.Path == "" {
		c.fail("path", "must be the path of a file of users; `berth user add` makes one")
	}
}

func (t Token) check(c checking) {
	if t.Service == "" {
		c.fail("service", "must be the name of this registry, which tokens must be for")
	}
	if t.Issuer == "" {
		c.fail("issuer", "must be given: the iss of the tokens")
	}
	if t.RootCertBundle == "" && t.JWKS == "" {
		c.fail("", "must have rootcertbundle or jwks, by which tokens are checked")
	}
	if u, err := url.Parse(t.Realm); !t.AutoRedirect && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		c.fail("realm", "must be the URL of the token server such as https://auth.example.com/token")
	}
	if t.AutoRedirect && !strings.HasPrefix(t.AutoRedirectPath, "/") {
		c.fail("autoredirectpath", "must begin with a slash, not %s", quote(t.AutoRedirectPath))
	}
}

func (o OIDC) check(c checking) {
	if len(o.Issuers) == 0 {
		c.fail("issuers", "must name an identity provider")
	}
}

func (i OIDCIssuer) check(c checking) {
	if i.URL == "" {
		c.fail("url", "must be given: the iss of the tokens")
	}
	if len(i.Audiences) == 0 || slices.Contains(i.Audiences, "") {
		c.fail("audiences", "must name an audience: tokens for other services would be taken otherwise")
	}
}

func (g OIDCGroups) check(c checking) {
	if g.Claim == "" {
		c.fail("claim", "must be given")
	}
}

func (s Filesystem) check(c checking) { checkRoot(c, s.RootDirectory) }

func (s EmptyDir) check(c checking) { checkRoot(c, s.RootDirectory) }

func checkRoot(c checking, folder string) {
	if folder == "" || strings.ContainsRune(folder, 0) {
		c.fail("rootdirectory", "must be the path of a folder, not %s", quote(folder))
	}
}

func (h HTTP) check(c checking) {
	h.checkHTTP2(c)
	h.checkDebug(c)
	if h.Net == "tcp" && !isAddress(h.Addr) {
		c.fail("addr", "must be host:port such as 127.0.0.1:5000 or :5000, not %s", quote(h.Addr))
	}
	if h.Net == "unix" && (!strings.Contains(h.Addr, "/") || strings.ContainsRune(h.Addr, 0)) {
		c.fail("addr", "must be the path of a socket, since http.net is unix, not %s", quote(h.Addr))
	}
	if h.Host != "" && !isOrigin(h.Host) {
		c.fail("host", "must be a URL of scheme and host such as https://registry.example.com")
	}
	if !isPrefix(h.Prefix) {
		c.fail("prefix", "must be a path that begins and ends with a slash such as /registry/, not %s", quote(h.Prefix))
	}
	for _, name := range slices.Sorted(maps.Keys(h.Headers)) {
		if !headerName.MatchString(name) {
			c.fail("headers", "%s is not the name of a header", quote(name))
		}
		if strings.ContainsAny(strings.Join(h.Headers[name], ""), "\r\n\x00") {
			c.fail("headers", "a value of %s has a line break or a zero byte", quote(name))
		}
	}
}

// headerName is the token of RFC 9110, section 5.6.2.
var headerName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

func isAddress(addr string) bool {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return err == nil
}

// isOrigin reports whether text is the scheme and host of a URL, also with a slash behind them.
func isOrigin(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" {
		return false
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	return *u == url.URL{Scheme: u.Scheme, Host: u.Host}
}

var prefixPath = regexp.MustCompile(`^/([A-Za-z0-9._~-]+/)*$`)

func isPrefix(path string) bool {
	return prefixPath.MatchString(path) && !strings.Contains(path, "/./") && !strings.Contains(path, "/../")
}

func (u URLs) check(c checking) {
	checkPatterns(c, "allow", u.Allow)
	checkPatterns(c, "deny", u.Deny)
}

func checkPatterns(c checking, key string, patterns []string) {
	for i, pattern := range patterns {
		if _, err := regexp.Compile(pattern); err != nil {
			c.fail(key+"["+strconv.Itoa(i)+"]", "must be a regular expression, not %s", quote(pattern))
		}
	}
}

func (g GC) check(c checking) {
	if g.Schedule == "" {
		return
	}
	if _, err := ParseSchedule(g.Schedule); err != nil {
		c.fail("schedule", "must be a schedule such as 30 3 * * *, not %s: %v", quote(g.Schedule), err)
	}
}

func (x Indexes) check(c checking) {
	if x.Platforms == "list" && len(x.PlatformList) == 0 {
		c.fail("platformlist", "must name a platform, since validation.manifests.indexes.platforms is list")
	}
}

func (p Platform) check(c checking) {
	if p.Architecture == "" {
		c.fail("architecture", "must be given")
	}
	if p.OS == "" {
		c.fail("os", "must be given")
	}
}
