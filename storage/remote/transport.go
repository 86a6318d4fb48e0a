package remote

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"
)

const (
	dialTimeout = 5 * time.Second
	idleTimeout = 60 * time.Second // less than that of the services
	idleConns   = 128
)

// Network says how a service is reached. Errors name the keys proxy and rootca of a section of the configuration.
type Network struct {
	Section    string // of the configuration
	SkipVerify bool   // trusts any certificate
	CA         string // a PEM file of authorities, in place of those of the system
	Proxy      string // a URL; "" means what the environment says
	// Wrap wraps what sends the requests. A nil one does not.
	Wrap func(http.RoundTripper) http.RoundTripper
}

// Client returns a client that follows no redirects: requests, and who asks, stay at the host that was configured.
func (n Network) Client() (*http.Client, error) {
	transport, err := n.transport()
	if err != nil {
		return nil, err
	}
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &http.Client{Transport: transport, CheckRedirect: stay}, nil
}

// errProxy says that the proxy refused to connect.
var errProxy = errors.New("it refuses to connect")

func admitted(_ context.Context, _ *url.URL, _ *http.Request, answer *http.Response) error {
	if answer.StatusCode == http.StatusOK {
		return nil
	}
	return fmt.Errorf("%w: %s", errProxy, answer.Status)
}

func (n Network) transport() (http.RoundTripper, error) {
	dialer := net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}
	t := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, TLSHandshakeTimeout: dialTimeout,
		MaxIdleConns: idleConns, MaxIdleConnsPerHost: idleConns, IdleConnTimeout: idleTimeout,
		ExpectContinueTimeout: time.Second, DisableCompression: true, WriteBufferSize: 16 << 10, ReadBufferSize: 16 << 10,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: n.SkipVerify},
	}
	if n.Proxy != "" {
		proxy, err := url.Parse(n.Proxy)
		if err != nil {
			return nil, errors.New(n.Section + ".proxy: is not a URL") // which may have a password
		}
		t.Proxy = http.ProxyURL(proxy)
	}
	t.OnProxyConnectResponse = admitted
	if n.CA != "" {
		pem, err := os.ReadFile(n.CA)
		if err != nil {
			return nil, fmt.Errorf("%s.rootca: %w", n.Section, err)
		}
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s.rootca: there is no certificate in %s", n.Section, n.CA)
		}
	}
	if n.Wrap != nil {
		return n.Wrap(t), nil
	}
	return t, nil
}
