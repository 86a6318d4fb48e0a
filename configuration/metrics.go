package configuration

import (
	"strings"

	"berth/configuration/strict"
)

// Metrics is the section metrics.
type Metrics struct {
	// Serves figures for Prometheus at `/extensions/v2/metrics`, to whoever has `secret` or the right `metrics`, as the role
	// prometheus-scraper has it.
	Enabled bool `yaml:"enabled" default:"false"`
	// Opens them as the password, with any user name, or as a Bearer token. It opens nothing else.
	Secret Secret `yaml:"secret" example:"another-long-random-text"`
}

// Debug is the section http.debug.
type Debug struct {
	// The address of another listener, host:port, without TLS and for whoever reaches it; none without it. It serves the
	// metrics, `/debug/health`, and Go's profiles under `/debug/pprof/`, these to the same machine only.
	Addr string `yaml:"addr" example:"127.0.0.1:5001"`
	// What Prometheus reads there.
	Prometheus Prometheus `yaml:"prometheus"`
}

// Prometheus is the section http.debug.prometheus.
type Prometheus struct {
	// Serves the metrics there.
	Enabled bool `yaml:"enabled" default:"false"`
	// The path.
	Path string `yaml:"path" default:"/metrics"`
}

// Measured reports whether anybody may read metrics, so that they are worth keeping.
func (c *Config) Measured() bool { return c.Metrics.Enabled || c.HTTP.Debug.Prometheus.Enabled }

// shortSecret is the length below which a secret is easily guessed, in bytes.
const shortSecret = 12

func (m Metrics) check(c strict.Checking) {
	secret := m.Secret.Reveal()
	switch {
	case strings.ContainsFunc(secret, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		c.Fail("secret", "must have only letters, digits and signs of ASCII, without blanks: it is sent as a password or a token")
	case secret != "" && len(secret) < shortSecret:
		c.Warn("secret", "is short: who guesses it reads the metrics; take %d characters or more", shortSecret)
	}
}

func (h HTTP) checkDebug(c strict.Checking) {
	if addr := h.Debug.Addr; addr != "" && !isAddress(addr) {
		c.Fail("debug.addr", "must be host:port such as 127.0.0.1:5001 or :5001, not %s", strict.Quote(addr))
	} else if addr != "" && addr == h.Addr {
		c.Fail("debug.addr", "must be another address than that of the registry, http.addr")
	}
	if h.Debug.Prometheus.Enabled && h.Debug.Addr == "" {
		c.Fail("debug.prometheus.enabled", "needs an address to serve them at, http.debug.addr; see also metrics.enabled")
	}
	if path := h.Debug.Prometheus.Path; !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "/debug/") || strings.ContainsAny(path, " ?#%") {
		c.Fail("debug.prometheus.path", "must be a path such as /metrics, and not below /debug/, not %s", strict.Quote(path))
	}
}
