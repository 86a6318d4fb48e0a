package remote

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

const (
	// ProbeWithin bounds one attempt of [Try].
	ProbeWithin = 3 * time.Second

	openLimit     = 10 * time.Second
	probeAttempts = 3
)

// Open opens a driver within ten seconds. An error names the place, but for one of ctx, which is returned as it is.
func Open[D any](ctx context.Context, place string, open func(ctx context.Context) (D, error)) (D, error) {
	limited, cancel := context.WithTimeout(ctx, openLimit)
	defer cancel()
	d, err := open(limited)
	var none D
	switch {
	case err == nil:
		return d, nil
	case ctx.Err() != nil:
		return none, ctx.Err()
	}
	return none, fmt.Errorf("open %s: %w", place, err)
}

// Try runs f, again when that may help. The error is that of the last attempt as it is.
func Try(ctx context.Context, again func(error) bool, f func(ctx context.Context) error) (err error) {
	for n := range probeAttempts {
		limited, cancel := context.WithTimeout(ctx, ProbeWithin)
		err = f(limited)
		cancel()
		if err == nil || !again(err) || Sleep(ctx, time.Duration(n+1)*FirstDelay) != nil {
			return err
		}
	}
	return err
}

// An Address says which keys of the configuration tell where a service is.
type Address struct {
	Key    string // of the address itself
	Scheme string // the key that says whether TLS is spoken
	CA     string // the key of the authorities
	Proxy  string // the key of the proxy; "" means the variables of the environment
	Place  string // " at URL", for errors
}

// Unreachable explains an error for which no service of the right kind answered: what to fix, by its key.
func (a Address) Unreachable(err error) error {
	var certificate *tls.CertificateVerificationError
	var dns *net.DNSError
	var op *net.OpError
	var record tls.RecordHeaderError
	switch {
	case atProxy(err):
		return fmt.Errorf("%s: the proxy to the service does not work: %w", cmp.Or(a.Proxy, "HTTPS_PROXY, HTTP_PROXY"), err)
	case errors.As(err, &certificate):
		return fmt.Errorf("%s: the certificate of the service is not trusted: %w", a.CA, certificate)
	case errors.Is(err, http.ErrSchemeMismatch), errors.As(err, &record):
		return fmt.Errorf("%s: what answers%s does not speak TLS", a.Scheme, a.Place)
	case errors.As(err, &dns), errors.As(err, &op) && op.Op == "dial":
		return fmt.Errorf("%s: nothing can be reached%s: %w", a.Key, a.Place, err)
	}
	return fmt.Errorf("%s: no good answer comes from what is%s: %w", a.Key, a.Place, err)
}

// NotSent reports whether a request did not even reach a service.
func NotSent(err error) bool {
	var op *net.OpError
	dialing := atProxy(err) || errors.As(err, &op) && op.Op == "dial"
	return dialing && !errors.Is(err, context.DeadlineExceeded)
}

// dialProxy is the operation by whose name net/http says that it was the proxy that could not be reached.
const dialProxy = "proxyconnect"

func atProxy(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == dialProxy || errors.Is(err, errProxy)
}
