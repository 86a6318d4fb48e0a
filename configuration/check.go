package configuration

import (
	"maps"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"berth/configuration/schedule"
	"berth/configuration/strict"
)

// A checker is a section with rules that its tags cannot express.
type checker interface{ check(c strict.Checking) }

func check(section any, c strict.Checking) {
	if s, ok := section.(checker); ok {
		s.check(c)
	}
}

func (s Config) check(c strict.Checking) {
	if !c.Given("version") {
		c.Fail("version", "must be given: version: 0.1")
	}
	s.checkClientCertificate(c)
	if len(s.Authorization.Bindings) > 0 && !s.Auth.distinguishes() {
		c.Fail("authorization.bindings", "would bind nobody: without another key of auth than none everybody may do everything")
	}
	if s.Auth.OIDC != nil && (len(s.Authorization.Bindings) == 0 || slices.ContainsFunc(s.Authorization.Bindings, Binding.ofEverybody)) {
		s.Auth.OIDC.checkOpen(c)
	}
}

// minSecret keeps whoever has an upload or a token from guessing what they were made by, in bytes: 32 hexadecimal digits have
// 128 bits.
const minSecret = 32

func (h HTTP) check(c strict.Checking) {
	if secret := h.Secret.Reveal(); secret != "" && len(secret) < minSecret {
		c.Fail("secret", "must have %d characters or more, since ids of uploads and tokens are made by it; without it one is made and kept in the storage", minSecret)
	}
	h.checkHTTP2(c)
	h.checkDebug(c)
	if h.Net == "tcp" && !isAddress(h.Addr) {
		c.Fail("addr", "must be host:port such as 127.0.0.1:5000 or :5000, not %s", strict.Quote(h.Addr))
	}
	if h.Net == "unix" && (!strings.Contains(h.Addr, "/") || strings.ContainsRune(h.Addr, 0)) {
		c.Fail("addr", "must be the path of a socket, since http.net is unix, not %s", strict.Quote(h.Addr))
	}
	if h.Host != "" && !isOrigin(h.Host) {
		c.Fail("host", "must be a URL of scheme and host such as https://registry.example.com")
	}
	if !isPrefix(h.Prefix) {
		c.Fail("prefix", "must be a path that begins and ends with a slash such as /registry/, not %s", strict.Quote(h.Prefix))
	}
	for _, name := range slices.Sorted(maps.Keys(h.Headers)) {
		if !headerName.MatchString(name) {
			c.Fail("headers", "%s is not the name of a header", strict.Quote(name))
		}
		if strings.ContainsAny(strings.Join(h.Headers[name], ""), "\r\n\x00") {
			c.Fail("headers", "a value of %s has a line break or a zero byte", strict.Quote(name))
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

// maxManifest bounds manifests: the descriptor of one among the referrers of its subject has up to six times its size, and records
// have 64 MiB at most.
const maxManifest Size = 10 << 20

func (m Manifests) check(c strict.Checking) {
	if m.MaxSize > maxManifest {
		c.Fail("maxsize", "must be at most %v, the most that records hold whatever is in it, not %v", maxManifest, m.MaxSize)
	}
}

func (u URLs) check(c strict.Checking) {
	checkPatterns(c, "allow", u.Allow)
	checkPatterns(c, "deny", u.Deny)
}

func checkPatterns(c strict.Checking, key string, patterns []string) {
	for i, pattern := range patterns {
		if _, err := regexp.Compile(pattern); err != nil {
			c.Fail(key+"["+strconv.Itoa(i)+"]", "must be a regular expression, not %s", strict.Quote(pattern))
		}
	}
}

func (g GC) check(c strict.Checking) {
	if g.Schedule == "" {
		return
	}
	if _, err := schedule.Parse(g.Schedule); err != nil {
		c.Fail("schedule", "must be a schedule such as 30 3 * * *, not %s: %v", strict.Quote(g.Schedule), err)
	}
}

func (x Indexes) check(c strict.Checking) {
	if x.Platforms == "list" && len(x.PlatformList) == 0 {
		c.Fail("platformlist", "must name a platform, since validation.manifests.indexes.platforms is list")
	}
}

func (p Platform) check(c strict.Checking) {
	if p.Architecture == "" {
		c.Fail("architecture", "must be given")
	}
	if p.OS == "" {
		c.Fail("os", "must be given")
	}
}
