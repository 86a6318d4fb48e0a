package server

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"

	"berth/auth"
	"berth/metrics"
	"berth/registry/observe"
)

// ScrapeOptions say who may read the metrics. Who has the secret may; so may whom the Authorizer allows [auth.Metrics] on the
// registry.
type ScrapeOptions struct {
	Secret        string // as a password with any user name, or as a Bearer token; "": nobody has it
	Authenticator auth.Authenticator
	Authorizer    auth.Authorizer
	Realm         string // for a client that is told to log in
}

// Scrape guards the metrics that a handler has.
func Scrape(figures http.Handler, o ScrapeOptions) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := observe.Of(w, r)
		x.Enter(metrics.Scrape, false)
		x.Header().Set("Cache-Control", "no-store")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			x.Header().Set("Allow", "GET, HEAD")
			http.Error(x, "the metrics are only read", http.StatusMethodNotAllowed)
			return
		}
		switch x.Outcome = o.judge(x, r); x.Outcome {
		case metrics.Anonymous, metrics.Authenticated:
			figures.ServeHTTP(x, r)
		case metrics.Throttled, metrics.Unavailable, metrics.Unasked:
			x.Header().Set("Retry-After", "5")
			http.Error(x, "who asks cannot be told now", http.StatusServiceUnavailable)
		default:
			x.Header().Set("WWW-Authenticate", auth.BasicChallenge(o.Realm))
			http.Error(x, "the metrics are for who has their secret, or the role prometheus-scraper", http.StatusUnauthorized)
		}
	})
}

// judge finds out who asks, and whether they may.
func (o ScrapeOptions) judge(x *observe.Exchange, r *http.Request) metrics.Outcome {
	if o.Secret != "" && hasSecret(r, o.Secret) {
		return metrics.Authenticated
	}
	subject, err := o.Authenticator.Authenticate(r)
	if err == nil {
		x.Subject = subject.Name
		err = o.Authorizer.Authorize(r.Context(), subject, auth.Access{Action: auth.Metrics})
	}
	return observe.OutcomeOf(subject, err)
}

// hasSecret takes as long for a wrong secret as for the right one, however much of it is right.
func hasSecret(r *http.Request, secret string) bool {
	given, ok, err := auth.BearerToken(r)
	if err == nil && !ok {
		_, given, ok, err = auth.BasicCredentials(r)
	}
	if err != nil || !ok {
		return false
	}
	got, want := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(secret))
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1
}
