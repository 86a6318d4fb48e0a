package api

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// urls makes the URLs of Location and Link headers so that they work from where the client is, behind whatever proxy.
type urls struct {
	origin   string // scheme and host as configured; "" to take them from the request
	prefix   string // before /v2/, "" or "/a/b"
	relative bool
}

func newURLs(host, prefix string, relative bool) (urls, error) {
	u := urls{relative: relative}
	if prefix = strings.Trim(prefix, "/"); prefix != "" {
		u.prefix = "/" + prefix
	}
	if !validPrefix(u.prefix) {
		return u, fmt.Errorf("the prefix %q is not a plain URL path", prefix)
	}
	if host == "" {
		return u, nil
	}
	parsed, err := url.Parse(host)
	if err != nil || !validScheme(parsed.Scheme) || !validHost(parsed.Host) {
		return u, fmt.Errorf("the host %q is not of the form https://registry.example.org", host)
	}
	u.origin = parsed.Scheme + "://" + parsed.Host
	return u, nil
}

// location returns the URL of a path below the prefix.
func (u *urls) location(r *http.Request, path string) string {
	switch path = u.path(r, path); {
	case u.relative:
		return path
	case u.origin != "":
		return u.origin + path
	}
	return requestOrigin(r) + path
}

// absolute returns the URL of a path below the prefix with its scheme and host; "" when it is not known where the client is.
func (u *urls) absolute(r *http.Request, path string) string {
	origin := u.origin
	if origin == "" {
		origin = requestOrigin(r)
	}
	if origin == "" {
		return ""
	}
	return origin + u.path(r, path)
}

// path returns the absolute path of a path below the prefix. A proxy that strips a prefix of its own tells so.
func (u *urls) path(r *http.Request, path string) string {
	if stripped := strings.TrimRight(firstOf(r.Header.Get("X-Forwarded-Prefix")), "/"); stripped != "" && validPrefix(stripped) {
		return stripped + u.prefix + path
	}
	return u.prefix + path
}

// requestOrigin returns the scheme and host that a client used, as far as the proxies between tell (RFC 7239, or what that does
// not tell the X-Forwarded headers before it: many a Forwarded has for= alone); "" when nothing usable does, which leaves a URL
// relative. Whatever is not a plain scheme or host is ignored.
func requestOrigin(r *http.Request) string {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	proto, host := parseForwarded(firstOf(r.Header.Get("Forwarded")))
	scheme = orValid(strings.ToLower(firstOf(r.Header.Get("X-Forwarded-Proto"))), scheme, validScheme)
	scheme = orValid(proto, scheme, validScheme)
	if !validHost(host) {
		host = orValid(firstOf(r.Header.Get("X-Forwarded-Host")), r.Host, validHost)
		host = withPort(host, scheme, firstOf(r.Header.Get("X-Forwarded-Port")))
	}
	if !validHost(host) {
		return ""
	}
	return scheme + "://" + host
}

// firstOf returns the first of a comma-separated list: what the proxy nearest to the client said.
func firstOf(list string) string {
	first, _, _ := strings.Cut(list, ",")
	return strings.TrimSpace(first)
}

func orValid(s, fallback string, valid func(string) bool) string {
	if s != "" && valid(s) {
		return s
	}
	return fallback
}

// parseForwarded reads one element of a Forwarded header (RFC 7239 section 4).
func parseForwarded(element string) (proto, host string) {
	for pair := range strings.SplitSeq(element, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
		value = strings.Trim(value, `"`)
		switch strings.ToLower(name) {
		case "proto":
			proto = strings.ToLower(value)
		case "host":
			host = value
		}
	}
	return proto, host
}

// withPort adds a port that a proxy named apart from the host, unless the host has one or the scheme implies it.
func withPort(host, scheme, port string) string {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || hasPort(host) || scheme == "http" && n == 80 || scheme == "https" && n == 443 {
		return host
	}
	return host + ":" + strconv.FormatUint(n, 10)
}

func hasPort(host string) bool {
	return strings.LastIndexByte(host, ':') > strings.LastIndexByte(host, ']')
}

func validScheme(s string) bool { return s == "http" || s == "https" }

// validHost accepts names, addresses and ports, and nothing that could end a URL's authority.
func validHost(s string) bool {
	return s != "" && len(s) <= 270 && onlyOf(s, ".-_:[]")
}

// validPrefix accepts "" and plain absolute paths: nothing that begins another authority or climbs.
func validPrefix(s string) bool {
	return s == "" || s[0] == '/' && len(s) <= 1024 && onlyOf(s, "/.-_~") &&
		!strings.Contains(s, "//") && !strings.Contains(s, "/.")
}

func onlyOf(s, punctuation string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9') && strings.IndexByte(punctuation, c) < 0 {
			return false
		}
	}
	return true
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

func manifestPath(name, reference string) string { return "/v2/" + name + "/manifests/" + reference }
func blobPath(name, digest string) string        { return "/v2/" + name + "/blobs/" + digest }
func uploadPath(name, id string) string          { return "/v2/" + name + "/blobs/uploads/" + id }
