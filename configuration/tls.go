package configuration

import (
	"crypto/tls"
	"slices"
	"strconv"
	"strings"

	"berth/configuration/strict"
)

// TLS is the section http.tls. Without a certificate the registry speaks plain HTTP.
type TLS struct {
	// The file of the certificate for every name without one of its own, with the intermediate certificates behind it. A
	// change of this file takes effect by itself, with the key as it is then.
	Certificate string `yaml:"certificate" example:"/etc/berth/tls.crt"`
	// The file of its private key.
	Key string `yaml:"key" example:"/etc/berth/tls.key"`
	// Certificates for the names that clients ask for. A client that asks for none of them, or for no name, gets the one
	// above, or without it the first of these.
	Certificates []TLSCertificate `yaml:"certificates" example:"[{hostnames: [registry.example.com], certificate: /etc/berth/a.crt, key: /etc/berth/a.key}]"`
	// The oldest version of TLS that is spoken.
	MinimumTLS string `yaml:"minimumtls" default:"tls1.2" enum:"tls1.2|tls1.3"`
	// The cipher suites of TLS 1.2 by their names in Go, none of which may be insecure. Without any, Go chooses. Those of
	// TLS 1.3 cannot be chosen.
	CipherSuites []string `yaml:"ciphersuites" example:"[TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]"`
	// The files of the authorities whose certificates clients must show. A change of a file takes effect by itself, for new
	// connections. See `auth.clientcertificate` for who they are then.
	ClientCAs []string `yaml:"clientcas" example:"[/etc/berth/clients.crt]"`
	// What is asked of clients: request-client-cert, require-any-client-cert, verify-client-cert-if-given or
	// require-and-verify-client-cert. Without it the last when there are `clientcas`, and otherwise nothing.
	ClientAuth string `yaml:"clientauth" example:"verify-client-cert-if-given"`
}

// TLSCertificate is an element of http.tls.certificates.
type TLSCertificate struct {
	// The names, exact or with a first part of `*`.
	Hostnames []string `yaml:"hostnames"`
	// The file of the certificate, with the intermediate certificates behind it.
	Certificate string `yaml:"certificate"`
	// The file of its private key.
	Key string `yaml:"key"`
}

// ClientCertificate is the section auth.clientcertificate.
type ClientCertificate struct {
	// What the name of the user is: the common name, or the alternative name that is an email address or a URI. A
	// certificate with none or several of these names nobody.
	User string `yaml:"user" default:"cn" enum:"cn|email|uri"`
	// What is put before that name. Without it, an authority can name users of `htpasswd` and of issuers.
	UserPrefix string `yaml:"userprefix" example:"'cert:'"`
	// What the names of groups are: the organisations, or the organisational units.
	Groups string `yaml:"groups" default:"o" enum:"o|ou|none"`
	// What is put before each.
	GroupPrefix string `yaml:"groupprefix" example:"'cert:'"`
}

// checkClientCertificate asks that a certificate prove who has it.
func (s Config) checkClientCertificate(c strict.Checking) {
	rule := s.HTTP.TLS.ClientAuth
	switch {
	case s.Auth.ClientCertificate == nil:
	case len(s.HTTP.TLS.ClientCAs) == 0:
		c.Fail("auth.clientcertificate", "needs http.tls.clientcas, the authorities that say who clients are")
	case rule != "" && !strings.Contains(rule, "verify"):
		c.Fail("auth.clientcertificate", "needs certificates that are verified, which http.tls.clientauth: %s does not do", rule)
	}
}

// HTTP2 is the section http.http2.
type HTTP2 struct {
	// Speaks HTTP/1.1 only. Without TLS that is so anyhow.
	Disabled bool `yaml:"disabled" default:"false"`
}

// Configured reports whether the registry speaks TLS.
func (t TLS) Configured() bool { return t.Certificate != "" || len(t.Certificates) > 0 }

func (t TLS) check(c strict.Checking) {
	checkPair(c, t.Certificate, t.Key)
	if !t.Configured() && (len(t.ClientCAs) > 0 || t.ClientAuth != "") {
		c.Fail("", "asks for certificates of clients, which needs http.tls.certificate and http.tls.key")
	}
	rules := []string{"request-client-cert", "require-any-client-cert", "verify-client-cert-if-given", "require-and-verify-client-cert"}
	if t.ClientAuth != "" && !slices.Contains(rules, t.ClientAuth) {
		c.Fail("clientauth", "must be one of %s, not %s", strings.Join(rules, ", "), strict.Quote(t.ClientAuth))
	}
	if strings.Contains(t.ClientAuth, "verify") && len(t.ClientCAs) == 0 {
		c.Fail("clientauth", "needs http.tls.clientcas to verify by")
	}
	seen := map[string]bool{}
	for i, certificate := range t.Certificates {
		for _, name := range certificate.Hostnames {
			if name = strings.ToLower(name); seen[name] {
				c.Fail("certificates["+strconv.Itoa(i)+"].hostnames", "%s has a certificate already", strict.Quote(name))
			}
			seen[name] = true
		}
	}
	t.checkSuites(c)
}

func (t TLS) checkSuites(c strict.Checking) {
	for i, name := range t.CipherSuites {
		key := "ciphersuites[" + strconv.Itoa(i) + "]"
		switch {
		case slices.Contains(suites(tls.CipherSuites()), name):
		case slices.Contains(suites(tls.InsecureCipherSuites()), name):
			c.Fail(key, "%s is insecure", name)
		default:
			c.Fail(key, "%s is not known; the nearest is %s", strict.Quote(name), strict.Nearest(name, suites(tls.CipherSuites())))
		}
	}
	if t.MinimumTLS == "tls1.3" && len(t.CipherSuites) > 0 {
		c.Warn("ciphersuites", "ignored: those of TLS 1.3, the only version left, cannot be chosen")
	}
}

func suites(known []*tls.CipherSuite) (names []string) {
	for _, s := range known {
		names = append(names, s.Name)
	}
	return names
}

func (t TLSCertificate) check(c strict.Checking) {
	if t.Certificate == "" && t.Key == "" {
		c.Fail("certificate", "must be the path of a file")
	}
	checkPair(c, t.Certificate, t.Key)
	if len(t.Hostnames) == 0 {
		c.Fail("hostnames", "must name a host")
	}
	for i, name := range t.Hostnames {
		if host := strings.TrimPrefix(name, "*."); host == "" || strings.ContainsAny(host, "*:/ ") {
			c.Fail("hostnames["+strconv.Itoa(i)+"]", "must be a name such as registry.example.com or *.example.com, not %s", strict.Quote(name))
		}
	}
}

func checkPair(c strict.Checking, certificate, key string) {
	switch {
	case certificate == "" && key != "":
		c.Fail("certificate", "must be the path of a file, since there is a key")
	case certificate != "" && key == "":
		c.Fail("key", "must be the path of a file, since there is a certificate")
	}
}

// checkHTTP2 refuses what HTTP/2 cannot be spoken with (RFC 9113, section 9.2.2).
func (h HTTP) checkHTTP2(c strict.Checking) {
	needed := []string{"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"}
	if h.HTTP2.Disabled || h.TLS.MinimumTLS == "tls1.3" || len(h.TLS.CipherSuites) == 0 {
		return
	}
	if !slices.ContainsFunc(needed, func(name string) bool { return slices.Contains(h.TLS.CipherSuites, name) }) {
		c.Fail("tls.ciphersuites", "must have %s for HTTP/2, or http.http2.disabled be true", strings.Join(needed, " or "))
	}
}
