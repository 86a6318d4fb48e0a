package server

import (
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"time"

	"berth/auth"
	"berth/auth/recent"
	"berth/auth/throttle"
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

// A scraper is a guard of the metrics. The secret is one for all, so that whoever guesses is slowed by address alone; a header
// that had it once is let in from then on, whoever guesses beside it.
type scraper struct {
	ScrapeOptions
	right   *recent.Credentials[struct{}]
	guesses *throttle.Throttle
}

// rightHeaders bounds how many headers with the secret are remembered, in each of two generations.
const rightHeaders = 64

// Scrape guards the metrics that a handler has.
func Scrape(figures http.Handler, o ScrapeOptions) http.Handler {
	s := &scraper{o, recent.NewCredentials[struct{}](rightHeaders), throttle.New()}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := observe.Of(w, r)
		x.Enter(metrics.Scrape, false)
		x.Header().Set("Cache-Control", "no-store")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			x.Header().Set("Allow", "GET, HEAD")
			http.Error(x, "the metrics are only read", http.StatusMethodNotAllowed)
			return
		}
		switch x.Outcome = s.judge(x, r); x.Outcome {
		case metrics.Anonymous, metrics.Authenticated:
			figures.ServeHTTP(x, r)
		case metrics.Throttled:
			x.Header().Set("Retry-After", "10")
			http.Error(x, "too many attempts to log in", http.StatusTooManyRequests)
		case metrics.Unavailable, metrics.Unasked:
			x.Header().Set("Retry-After", "5")
			http.Error(x, "who asks cannot be told now", http.StatusServiceUnavailable)
		default:
			x.Header().Set("WWW-Authenticate", auth.BasicChallenge(s.Realm))
			http.Error(x, "the metrics are for who has their secret, or the role prometheus-scraper", http.StatusUnauthorized)
		}
	})
}

// judge finds out who asks, and whether they may. What is of no user may be the secret, and so may what comes over a connection
// that names one.
func (s *scraper) judge(x *observe.Exchange, r *http.Request) metrics.Outcome {
	proof, ok := s.right.Prove(r)
	if _, known := s.right.Get(proof); ok && known {
		return metrics.Authenticated
	}
	subject, err := s.Authenticator.Authenticate(r)
	if err == nil && (subject.Name != "" || subject.Grants != nil) {
		if err = s.authorize(x, r, subject); err == nil || !byCertificate(r) {
			return observe.OutcomeOf(subject, err)
		}
	}
	if s.Secret != "" && auth.HasCredentials(r) {
		right, guessErr := s.guess(r)
		if right && ok {
			s.right.Put(proof, struct{}{})
		}
		if right {
			return metrics.Authenticated
		}
		err = cmp.Or(guessErr, err)
	}
	if err == nil {
		err = s.authorize(x, r, subject)
	}
	return observe.OutcomeOf(subject, err)
}

func (s *scraper) authorize(x *observe.Exchange, r *http.Request, subject auth.Subject) error {
	x.Subject = subject.Name
	return s.Authorizer.Authorize(r.Context(), subject, auth.Access{Action: auth.Metrics})
}

// byCertificate reports whether the client has shown a certificate, which may be what names it.
func byCertificate(r *http.Request) bool { return r.TLS != nil && len(r.TLS.PeerCertificates) > 0 }

// guess reports whether a request has the secret, when it is the turn of its address. Errors are an *[auth.ThrottledError] and
// that of the request's context.
func (s *scraper) guess(r *http.Request) (right bool, err error) {
	origin := throttle.Origin{Address: throttle.Peer(r.RemoteAddr)}
	wait, err := s.guesses.Begin(origin, time.Now())
	if err != nil {
		return false, err
	}
	defer func() { s.guesses.Done(origin, right) }()
	select {
	case <-time.After(wait):
		return hasSecret(r, s.Secret), nil
	case <-r.Context().Done():
		return false, r.Context().Err()
	}
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
